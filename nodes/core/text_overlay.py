"""Text drawn over pictures. It is rendered once for a text and a size; each frame costs one blend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["NODES", "wrap"]

MARGIN = 0.01  # of the shorter side
LINE_HEIGHT = 1.2  # of the font size
OUTLINE = 0.04  # of the font size
SMALLEST_FONT = 0.02  # of the height, and
SMALLEST_PIXELS = 10  # at least so many pixels; smaller only if asked for
SHRINK = 0.9
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Style:
    """How a text is drawn; `font_size` is a percentage of the height."""

    font_size: float
    color: str
    position: str
    align: str
    outline: bool


def _pieces(word: str, font: Font, width: float) -> list[str]:
    """A word cut so that each piece fits, one character at least."""
    pieces = []
    while len(word) > 1 and font.getlength(word) > width:
        cut = next((end - 1 for end in range(2, len(word) + 1) if font.getlength(word[:end]) > width), len(word))
        pieces.append(word[:cut])
        word = word[cut:]
    return [*pieces, word] if word else pieces


def wrap(text: str, font: Font, width: float) -> str:
    """A text with line breaks where it gets wider than `width` pixels."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            *full, last = _pieces(word, font, width)
            if full:
                lines += [line, *full] if line else full
                line = last
            elif line and font.getlength(f"{line} {last}") > width:
                lines.append(line)
                line = last
            else:
                line = f"{line} {last}" if line else last
        if line or not paragraph.split():
            lines.append(line)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Block:
    """A text set in a font size."""

    text: str
    font: Font
    stroke: int
    spacing: int
    box: tuple[float, float, float, float]


def _set(draw: ImageDraw.ImageDraw, text: str, size: int, width: int, outline: bool) -> Block:
    font = ImageFont.load_default(size=size)
    stroke = max(1, round(size * OUTLINE)) if outline else 0
    wrapped = wrap(text, font, width)
    one = draw.textbbox((0, 0), "Ay", font=font, stroke_width=stroke)
    two = draw.multiline_textbbox((0, 0), "Ay\nAy", font=font, spacing=0, stroke_width=stroke)
    advance = (two[3] - two[1]) - (one[3] - one[1])
    spacing = round(size * LINE_HEIGHT - advance)
    box = draw.multiline_textbbox((0, 0), wrapped, font=font, spacing=spacing, stroke_width=stroke)
    return Block(wrapped, font, stroke, spacing, box)


def _fit(draw: ImageDraw.ImageDraw, text: str, style: Style, width: int, height: int, room: tuple[int, int]) -> Block:
    """The text in the wanted size, or as much smaller as it takes to fit."""
    size = max(1, round(style.font_size / 100.0 * height))
    smallest = min(size, max(SMALLEST_PIXELS, round(SMALLEST_FONT * height)))
    while True:
        block = _set(draw, text, size, room[0], style.outline)
        if block.box[3] - block.box[1] <= room[1] or size <= smallest:
            return block
        size = max(smallest, int(size * SHRINK))


@lru_cache(maxsize=8)
def _render(width: int, height: int, text: str, style: Style, device: torch.device, dtype: torch.dtype) -> Tensor:
    """RGBA [height, width, 4], 0..1."""
    layer = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    margin = round(MARGIN * min(width, height))
    room = (max(1, width - 2 * margin), max(1, height - 2 * margin))
    block = _fit(draw, text, style, width, height, room)
    x = {"left": margin, "center": width / 2, "right": width - margin}[style.align]
    y = height - margin - block.box[3] if style.position == "bottom" else margin - block.box[1]
    rgba = (*ImageColor.getrgb(style.color), 255)[:4]
    draw.multiline_text(
        (x, y),
        block.text,
        font=block.font,
        fill=rgba,
        anchor={"left": "la", "center": "ma", "right": "ra"}[style.align],
        align=style.align,
        spacing=block.spacing,
        stroke_width=block.stroke,
        stroke_fill=(0, 0, 0, 255 if style.outline else 0),
    )
    return torch.from_numpy(np.array(layer)).to(torch.float32).div_(255.0).to(device, dtype)


class TextOverlay(io.ComfyNode):
    """Draw a text over pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TextOverlay",
            display_name="Draw Text Overlay",
            category="text",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("text", multiline=True, default=""),
                io.Float.Input("font_size", default=5.0, min=0.5, max=50.0, step=0.5),
                io.Color.Input("color", default="#ffffff"),
                io.Combo.Input("position", options=["top", "bottom"], default="top"),
                io.Combo.Input("align", options=["left", "center", "right"], default="left"),
                io.Boolean.Input("outline", default=True),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(
        cls, images: Tensor, text: str, font_size: float, color: str, position: str, align: str, outline: bool
    ) -> io.NodeOutput:
        if not text.strip():
            return io.NodeOutput(images)
        style = Style(font_size, color, position, align, outline)
        plain = text.replace("\\n", "\n").replace("\\t", "\t")
        layer = _render(images.shape[2], images.shape[1], plain, style, images.device, images.dtype)
        return io.NodeOutput(torch.lerp(images, layer[..., :3], layer[..., 3:]))


NODES = [TextOverlay]
