"""Turning pictures as the file's display matrix says (phones record sideways and say so)."""

from __future__ import annotations

import struct
from typing import Any

import av
import av.filter

from comfystream.media.colour import copy_tags

__all__ = ["Rotator", "display_steps"]

_Step = tuple[str, str]
# by the signs of the matrix's b and c
_TURNS = {(True, False): "clock", (False, True): "cclock", (True, True): "cclock_flip", (False, False): "clock_flip"}


def display_steps(matrix: bytes | None) -> tuple[_Step, ...]:
    """Filters (name, argument) that show a picture upright.

    Args:
        matrix: nine 32-bit integers as FFmpeg keeps them on frames (libavutil/display.h): the upper left 2x2 turns and
            mirrors. None or the identity gives no step. Angles are rounded to quarter turns.
    """
    if not matrix or len(matrix) < 36:
        return ()
    a, b, _, c, d = struct.unpack_from("<5i", matrix)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (("transpose", _TURNS[b > 0, c > 0]),)
    # "vflip" would hand out lines in reverse order, which plain memory access does not expect
    half_turn = (("transpose", "clock"), ("transpose", "clock")) if d < 0 else ()
    mirrored = (("hflip", ""),) if (a < 0) != (d < 0) else ()
    return (*mirrored, *half_turn)


class Rotator:
    """Turns pictures of one size and format after another; owned by one thread."""

    def __init__(self, steps: tuple[_Step, ...]) -> None:
        self._steps = steps
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None

    @property
    def swaps_sides(self) -> bool:
        """Whether width and height change places."""
        return sum(name == "transpose" for name, _ in self._steps) == 1

    def turn(self, image: av.VideoFrame) -> av.VideoFrame:
        """The picture upright."""
        if not self._steps:
            return image
        shape = (image.width, image.height, image.format.name)
        if shape != self._shape:
            self._graph, self._shape = self._build(image), shape
        self._graph.push(image)
        turned: av.VideoFrame = self._graph.pull()
        copy_tags(image, turned)
        turned.colorspace, turned.color_range = image.colorspace, image.color_range
        return turned

    def _build(self, image: av.VideoFrame) -> Any:
        graph = av.filter.Graph()
        base = image.time_base
        first = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=base)
        chain = [graph.add(name, argument) if argument else graph.add(name) for name, argument in self._steps]
        graph.link_nodes(first, *chain, graph.add("buffersink")).configure()
        return graph
