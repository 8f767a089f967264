"""Test pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.filter import Graph

__all__ = ["picture", "pictures"]


def pictures(width: int, height: int, count: int, fps: int = 30) -> Iterator[av.VideoFrame]:
    """A moving test card, yuv420p; the same each time."""
    graph = Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={fps}")
    planar = graph.add("format", "pix_fmts=yuv420p")
    sink = graph.add("buffersink")
    source.link_to(planar)
    planar.link_to(sink)
    graph.configure()
    for pts in range(count):
        image = graph.pull()
        assert isinstance(image, av.VideoFrame)
        image.pts, image.time_base = pts, Fraction(1, fps)
        yield image


def picture(width: int, height: int) -> av.VideoFrame:
    """One test picture."""
    return next(pictures(width, height, 1))
