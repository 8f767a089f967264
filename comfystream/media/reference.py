"""One picture's memory under several times."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import av.filter

__all__ = ["Referencer"]

_ANY = Fraction(1, 90_000)


class Referencer:
    """Makes pictures that share memory with another and have their own time and type; 7 microseconds each.

    PyAV has no way to copy a frame without its pixels, and encoding writes the encoder's time base into the frame it is
    given, which another sink may be encoding too. A filter graph without filters hands out such a reference.
    """

    def __init__(self) -> None:
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None

    def refer(self, image: av.VideoFrame) -> av.VideoFrame:
        """A picture with the same planes; setting its times leaves `image` as it is."""
        shape = (image.width, image.height, image.format.name)
        if shape != self._shape:
            self._graph, self._shape = av.filter.Graph(), shape
            buffer = self._graph.add_buffer(
                width=image.width, height=image.height, format=image.format, time_base=image.time_base or _ANY
            )
            self._graph.link_nodes(buffer, self._graph.add("buffersink")).configure()
        self._graph.push(image)
        reference: av.VideoFrame = self._graph.pull()
        reference.pict_type = 0  # as the decoder found it, it would force the encoder's choice
        return reference
