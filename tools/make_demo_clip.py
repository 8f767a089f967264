#!/usr/bin/env python3
"""Make the demo clips in `workflows/assets`: `demo.mp4` (square, speech) and `portrait.mp4` (upright, silent, uneven).

    pip install scikit-image          its wheel holds the photographs, all free of rights: see the README of the folder
    sudo apt install espeak-ng        speaks the text
    python tools/make_demo_clip.py

Every frame shows its number, its time and a hand that turns once a second, so that a lost, doubled or late frame can be
seen. The green ball is there for workflows that key a colour.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ASSETS = Path(__file__).resolve().parent.parent / "workflows" / "assets"
SPEECH = "This is ComfyStream: any ComfyUI workflow, on live video, frame by frame."
FPS = 30
DEMO_S = 7.0
DEMO_SIZE = (512, 512)
PORTRAIT_S = 4.0
PORTRAIT_SIZE = (360, 640)
FADE_S = 0.5
SAMPLE_RATE = 48_000
BT709 = 1  # in the numbers of ITU-T H.273
SMOOTH = 3  # shapes are drawn so many times larger and scaled down: even edges
KEY_GREEN = (0, 200, 60)
INK = (255, 255, 255)
SHADE = (12, 14, 24)


@dataclass(frozen=True)
class View:
    """A camera position over a photograph: centre as a part of its width and height, and how much of it is seen."""

    x: float
    y: float
    part: float

    def towards(self, other: View, progress: float) -> View:
        """The position on the way to `other`, slow at both ends."""
        eased = progress * progress * (3 - 2 * progress)
        return View(*(a + (b - a) * eased for a, b in zip(self.tuple(), other.tuple(), strict=True)))

    def tuple(self) -> tuple[float, float, float]:
        """x, y, part."""
        return self.x, self.y, self.part


@dataclass(frozen=True)
class Shot:
    """One photograph with a camera move, from `start` to `end` seconds."""

    picture: Image.Image
    start: float
    end: float
    first: View
    last: View

    def at(self, time_s: float, size: tuple[int, int]) -> Image.Image:
        """The picture at a time, `size` pixels large."""
        progress = (time_s - self.start) / (self.end - self.start)
        view = self.first.towards(self.last, min(1.0, max(0.0, progress)))
        scale = view.part * min(self.picture.width / size[0], self.picture.height / size[1])
        left = view.x * self.picture.width - scale * size[0] / 2
        top = view.y * self.picture.height - scale * size[1] / 2
        left = min(max(left, 0.0), self.picture.width - scale * size[0])
        top = min(max(top, 0.0), self.picture.height - scale * size[1])
        move = (scale, 0, left, 0, scale, top)
        return self.picture.transform(size, Image.Transform.AFFINE, move, Image.Resampling.BICUBIC)


def photograph(name: str) -> Image.Image:
    """A photograph out of the scikit-image wheel."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        sys.exit("The photographs come with scikit-image, which is not installed: pip install scikit-image")
    return Image.open(Path(spec.origin).parent / "data" / name).convert("RGB")


def say(text: str) -> np.ndarray:
    """Speech as float32 samples at `SAMPLE_RATE`, mono."""
    if not shutil.which("espeak-ng"):
        sys.exit("espeak-ng is not installed, which speaks the text: sudo apt install espeak-ng")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "165", "-p", "42", "-w", str(file), text], check=True)
        with wave.open(str(file)) as reader:
            rate = reader.getframerate()
            samples = np.frombuffer(reader.readframes(reader.getnframes()), np.int16).astype(np.float32) / 32768
    there = np.arange(int(len(samples) * SAMPLE_RATE / rate)) * rate / SAMPLE_RATE
    return np.interp(there, np.arange(len(samples)), samples).astype(np.float32)


def draw_ball(canvas: Image.Image, time_s: float) -> None:
    """A green ball that bounces from side to side."""
    width, height = canvas.size
    radius = 0.07 * min(width, height)
    phase = (time_s / 2.6) % 2
    x = radius * 1.5 + (width - 3 * radius) * (phase if phase < 1 else 2 - phase)
    y = height * 0.84 - abs(math.sin(time_s * math.pi / 0.9)) * height * 0.3
    side = math.ceil(2 * radius + 4)
    disc = Image.new("L", (side * SMOOTH, side * SMOOTH))
    ImageDraw.Draw(disc).circle((side * SMOOTH / 2, side * SMOOTH / 2), radius * SMOOTH, fill=255)
    mask = disc.resize((side, side), Image.Resampling.LANCZOS)
    canvas.paste(KEY_GREEN, (round(x - side / 2), round(y - side / 2)), mask)


def draw_counter(canvas: Image.Image, frame: int, time_s: float) -> None:
    """A plate at the bottom: a dial whose hand turns once a second, the frame's number and its time."""
    width, height = canvas.size
    plate_height = 40
    plate = Image.new("RGB", (226 * SMOOTH, plate_height * SMOOTH))
    draw = ImageDraw.Draw(plate)
    draw.rectangle((0, 0, *plate.size), fill=SHADE)
    middle = plate_height * SMOOTH / 2
    draw.circle((middle, middle), 14 * SMOOTH, outline=INK, width=2 * SMOOTH)
    angle = time_s * 2 * math.pi
    tip = (middle + 12 * SMOOTH * math.sin(angle), middle - 12 * SMOOTH * math.cos(angle))
    draw.line((middle, middle, *tip), fill=KEY_GREEN, width=3 * SMOOTH)
    font = ImageFont.load_default(20 * SMOOTH)
    left = plate_height * SMOOTH
    for text, at in (("frame", 0), (f"{frame:03d}", 62), (f"{time_s:.2f} s", 112)):
        draw.text((left + at * SMOOTH, middle), text, font=font, fill=INK, anchor="lm")
    small = plate.resize((plate.width // SMOOTH, plate_height), Image.Resampling.LANCZOS)
    corners = Image.new("L", plate.size)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, *plate.size), radius=12 * SMOOTH, fill=225)
    canvas.paste(small, (16, height - plate_height - 16), corners.resize(small.size, Image.Resampling.LANCZOS))


def compose(shots: list[Shot], size: tuple[int, int], time_s: float, frame: int) -> Image.Image:
    """One frame: the shots that are on at that time, faded into each other, with ball and counter."""
    canvas = Image.new("RGB", size)
    for shot in shots:
        if shot.start <= time_s < shot.end + FADE_S:
            seen = min(1.0, (time_s - shot.start) / FADE_S) if shot.start > 0 else 1.0
            canvas = Image.blend(canvas, shot.at(time_s, size), seen)
    draw_ball(canvas, time_s)
    draw_counter(canvas, frame, time_s)
    return canvas


def demo_frames() -> Iterator[tuple[float, Image.Image]]:
    """A person, a cup of coffee and a rocket, at even times."""
    shots = [
        Shot(photograph("astronaut.png"), 0.0, 3.2, View(0.5, 0.5, 1.0), View(0.44, 0.3, 0.74)),
        Shot(photograph("coffee.png"), 3.0, 5.2, View(0.36, 0.5, 1.0), View(0.62, 0.5, 0.9)),
        Shot(photograph("rocket.jpg"), 5.0, DEMO_S, View(0.5, 0.6, 0.82), View(0.5, 0.3, 0.95)),
    ]
    for frame in range(int(DEMO_S * FPS)):
        yield frame / FPS, compose(shots, DEMO_SIZE, frame / FPS, frame)


def portrait_frames() -> Iterator[tuple[float, Image.Image]]:
    """A cat above a cup of coffee, like a phone's video: uneven times, and one long pause."""
    cat, coffee = photograph("chelsea.png"), photograph("coffee.png")
    above = Shot(cat, 0.0, PORTRAIT_S, View(0.4, 0.5, 1.0), View(0.6, 0.4, 0.82))
    below = Shot(coffee, 0.0, PORTRAIT_S, View(0.6, 0.5, 0.85), View(0.4, 0.5, 1.0))
    time_s, frame = 0.0, 0
    while time_s < PORTRAIT_S:
        canvas = Image.new("RGB", PORTRAIT_SIZE, INK)
        canvas.paste(above.at(time_s, (360, 318)), (0, 0))
        canvas.paste(below.at(time_s, (360, 318)), (0, 322))
        draw_ball(canvas, time_s)
        draw_counter(canvas, frame, time_s)
        yield time_s, canvas
        time_s += 0.3 if frame == 40 else (0.033, 0.041, 0.05, 0.033, 0.067)[frame % 5]
        frame += 1


Frames = Iterator[tuple[float, Image.Image]]


def encode(file: Path, size: tuple[int, int], frames: Frames, samples: np.ndarray | None) -> None:
    """Write H.264 (and AAC) with the frames' own times."""
    base = Fraction(1, 90_000)
    with av.open(str(file), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "25", "preset": "slow", "tune": "film"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        for tag in ("colorspace", "color_primaries", "color_trc"):
            setattr(video.codec_context, tag, BT709)
        video.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        video.time_base = video.codec_context.time_base = base
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if samples is not None else None
        for time_s, picture in frames:
            frame = av.VideoFrame.from_image(picture)
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = round(time_s / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and samples is not None:
            sound.bit_rate = 64_000
            block = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make both clips."""
    ASSETS.mkdir(parents=True, exist_ok=True)
    samples = np.zeros(int(DEMO_S * SAMPLE_RATE), np.float32)
    spoken = say(SPEECH)
    start = int(0.3 * SAMPLE_RATE)
    if start + len(spoken) > len(samples):
        sys.exit(f"the speech takes {len(spoken) / SAMPLE_RATE:.1f} s, which is longer than the clip")
    samples[start : start + len(spoken)] = spoken
    encode(ASSETS / "demo.mp4", DEMO_SIZE, demo_frames(), samples)
    encode(ASSETS / "portrait.mp4", PORTRAIT_SIZE, portrait_frames(), None)


if __name__ == "__main__":
    main()
