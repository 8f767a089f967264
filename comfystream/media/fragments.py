"""How far a fragmented MP4 is whole: a file is a row of boxes, and each fragment is two of them, `moof` and `mdat`."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cut_torn_end", "whole_bytes"]

_HEAD, _LONG_HEAD = 8, 16


def whole_bytes(path: Path) -> int:
    """Where the last fragment ends that is all there; 0 when there is none. ISO/IEC 14496-12, 4.2."""
    size, at, whole = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while at + _HEAD <= size:
            file.seek(at)
            head = file.read(_LONG_HEAD)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < _HEAD or at + length > size:
                break
            at += length
            if kind == b"mdat":
                whole = at
    return whole


def cut_torn_end(path: Path) -> int:
    """Take away what comes after the last whole fragment; how many bytes are left."""
    whole = whole_bytes(path)
    os.truncate(path, whole)
    return whole
