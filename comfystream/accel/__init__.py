"""Faster models: backends that run a torch module, and the engines that some of them build and keep.

- `spec`: what a model takes and gives: names, element types, shapes with ranges
- `runner`: a model ready to run: static buffers, `put`, `enqueue`; nothing is allocated in a tick
- `backend`, `registry`: the backends, which of them work here, and choosing one
- `eager`, `graphed`, `inductor`, `nvidia`, `onnx_runtime`: the backends themselves
- `key`, `cache`, `build`: engines on the disk: what they depend on, one build at a time, progress
- `accelerate`: all of it in one call

Importing any of these is cheap; torch and the rest are imported when something is run.
"""
