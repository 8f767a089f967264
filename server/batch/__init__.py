"""Batch requests of a worker: a workflow run once, values and pictures in, results out."""
