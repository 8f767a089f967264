# Everything is in tools/dev.py, which also runs alone: python tools/dev.py serve
# More arguments: make test ARGS="-k canny"    Another Python: make test PYTHON=python3.12
PYTHON ?= python3

.DEFAULT_GOAL := help

.PHONY: help serve demo test lint types setup clean

help serve demo test lint types setup clean:
	@$(PYTHON) tools/dev.py $@ $(ARGS)
