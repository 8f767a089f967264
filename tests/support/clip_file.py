"""A small video file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(
    file: Path, *, frames: int = 25, size: tuple[int, int] = (64, 48), sound: bool = True, gop: int = 250
) -> None:
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10", "g": str(gop)})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=48_000) if sound else None
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 20 + 200 * number // frames, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            samples = np.zeros((1, 48_000 * frames // 25), np.float32)
            samples[0, samples.shape[1] // 2 :][:480] = 0.8
            heard = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            heard.sample_rate, heard.pts, heard.time_base = 48_000, 0, Fraction(1, 48_000)
            container.mux([*audio.encode(heard), *audio.encode(None)])
