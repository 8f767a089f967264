"""Publishes three seconds by RTMP with PyAV's own libraries, which write Enhanced RTMP: a flash with a tone at two.

Arguments: address, encoder of the pictures, its options as JSON, encoder of the sound. A process of its own, since PyAV
connects while it holds the interpreter, and the listener may be in the same process.
"""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np

FPS, RATE = 25, 48_000


def main(url: str, codec: str, options: str, sound_codec: str) -> None:
    with av.open(url, "w", format="flv") as container:
        video: Any = container.add_stream(codec, rate=FPS, options=json.loads(options))
        video.width, video.height, video.pix_fmt = 160, 128, "yuv420p"
        audio: Any = container.add_stream(sound_codec, rate=RATE)
        audio.codec_context.layout = "stereo"
        began = time.monotonic()
        for number in range(3 * FPS):
            is_on = number >= 2 * FPS
            image = av.VideoFrame.from_ndarray(np.full((128, 160, 3), 200 if is_on else 40, np.uint8), "rgb24")
            image.pts, image.time_base = number, Fraction(1, FPS)
            wave = np.sin(np.arange(RATE // FPS) / 8, dtype=np.float32) * (0.7 if is_on else 0)
            sound = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
            sound.sample_rate, sound.pts, sound.time_base = RATE, number * RATE // FPS, Fraction(1, RATE)
            container.mux(video.encode(image))
            container.mux(audio.encode(sound))
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    main(*sys.argv[1:])
