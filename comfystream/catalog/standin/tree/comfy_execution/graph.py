"""Names that node packs take from ComfyUI's `comfy_execution.graph`."""

from __future__ import annotations

from .graph_utils import ExecutionBlocker, is_link

__all__ = ["ExecutionBlocker", "is_link"]
