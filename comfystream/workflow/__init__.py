"""Workflow files and what is known about them without running them."""
