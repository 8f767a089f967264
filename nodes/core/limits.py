"""Numbers that node inputs share."""

from __future__ import annotations

__all__ = ["MAX_BATCH", "MAX_RESOLUTION", "SCALE_METHODS"]

MAX_RESOLUTION = 16384
MAX_BATCH = 4096
SCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
