#!/usr/bin/env python3
"""Make the pictures of the documentation from what the workflows really do with the demo clip.

    python tools/make_pictures.py

Writes `docs/images/workflows.jpg`, and `workflows/old_film.png` anew with the workflow that is stored inside it.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import FailPolicy, RunnerOptions
from comfystream.frames import Frame, VideoFrame
from comfystream.workflow.read import read_workflow

REPOSITORY = Path(__file__).resolve().parent.parent
WORKFLOWS = REPOSITORY / "workflows"
TIMEOUT_S = 120
FRAME = 66
TILE = 256
SHOWN = ("passthrough", "edges", "cartoon", "neon", "sketch", "duotone", "pixel_art", "mirror")


def demo_frame() -> av.VideoFrame:
    """One picture of the demo clip."""
    with av.open(str(WORKFLOWS / "assets/demo.mp4")) as clip:
        return next(frame for number, frame in enumerate(clip.decode(video=0)) if number == FRAME)


def result(engine: LocalEngine, file: Path, picture: av.VideoFrame) -> Image.Image:
    """What a workflow makes of a picture."""
    outputs: list[Frame] = []
    options = RunnerOptions(live=False, on_error=FailPolicy.STOP)
    runner = engine.open(options, outputs.append, lambda event: None)
    workflow = read_workflow(file, engine.host.catalog)
    runner.activate(runner.prepare(workflow, (picture.width, picture.height)).result(TIMEOUT_S))
    runner.submit(VideoFrame(0, 0, Fraction(1, 30), picture))
    runner.finish(TIMEOUT_S)
    runner.close()
    return next(frame for frame in outputs if isinstance(frame, VideoFrame)).image.to_image()


def overview(engine: LocalEngine, picture: av.VideoFrame) -> Image.Image:
    """The workflows of `SHOWN` side by side, each with its name."""
    columns = len(SHOWN) // 2
    sheet = Image.new("RGB", (columns * TILE, 2 * TILE))
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(SHOWN):
        left, top = number % columns * TILE, number // columns * TILE
        made = result(engine, WORKFLOWS / f"{name}.json", picture)
        sheet.paste(made.resize((TILE, TILE), Image.Resampling.LANCZOS), (left, top))
        font = ImageFont.load_default(16)
        width = draw.textlength(name, font=font)
        draw.rounded_rectangle((left + 8, top + 8, left + 24 + width, top + 32), radius=8, fill=(12, 14, 24))
        draw.text((left + 16, top + 20), name, font=font, fill=(255, 255, 255), anchor="lm")
    return sheet


def redraw(engine: LocalEngine, file: Path, picture: av.VideoFrame) -> None:
    """Show the workflow's present result in the PNG that holds it."""
    with Image.open(file) as old:
        text = old.info["prompt"]
    kept = PngInfo()
    kept.add_text("prompt", text)
    result(engine, file, picture).resize((TILE, TILE), Image.Resampling.LANCZOS).save(file, pnginfo=kept, optimize=True)


def main() -> None:
    """Make all pictures."""
    engine, picture = LocalEngine(), demo_frame()
    images = REPOSITORY / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    overview(engine, picture).save(images / "workflows.jpg", quality=88)
    redraw(engine, WORKFLOWS / "old_film.png", picture)
    engine.close()


if __name__ == "__main__":
    main()
