"""A dated version of the node API; nothing that nodes use of it differs from the newest."""

from .latest import IO, UI, ComfyAPI, ComfyAPISync, ComfyExtension, Input, Types, io, ui

__all__ = ["IO", "UI", "ComfyAPI", "ComfyAPISync", "ComfyExtension", "Input", "Types", "io", "ui"]
