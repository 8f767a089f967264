"""A picture with words: what viewers see instead of a picture that could not be made."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from comfystream.media.image_writer import ImageWriter

__all__ = ["slate"]

_BACKGROUND, _TITLE, _TEXT, _ACCENT = (24, 26, 32), (255, 255, 255), (196, 200, 208), (232, 120, 60)


def slate(width: int, height: int, title: str, lines: Sequence[str] = ()) -> av.VideoFrame:
    """A plain card as yuv420p; what does not fit is cut off at the bottom. Some milliseconds: callers keep it.

    Args:
        width, height: of the picture, at least 2.
        title: large, one or two lines.
        lines: below it, wrapped at words.
    """
    card = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(card)
    unit = max(8, min(width, height) // 18)
    draw.rectangle((0, 0, width, max(2, unit // 4)), fill=_ACCENT)
    at = 2 * unit
    for text, size, colour in [(title, unit * 3 // 2, _TITLE), *((line, unit, _TEXT) for line in lines)]:
        font = ImageFont.load_default(size)
        columns = max(4, int((width - 2 * unit) / max(1.0, draw.textlength("n", font))))
        for row in textwrap.wrap(text, columns) or [""]:
            draw.text((unit, at), row, fill=colour, font=font)
            at += size * 4 // 3
        at += size // 2
    return ImageWriter().write_array(np.asarray(card))
