"""Compile a workflow once, run it per frame."""
