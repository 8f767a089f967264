"""Benchmarks: what ComfyStream costs beside something real, measured in the same run."""
