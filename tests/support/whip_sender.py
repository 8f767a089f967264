"""Publishes numbered pictures and a tone by FFmpeg's own WHIP muxer: `whip_sender.py URL CERT KEY [TOKEN]`."""

from __future__ import annotations

import sys
import time
from fractions import Fraction

import av
import numpy as np

from comfystream.media.pattern import draw_pattern, tone

PICTURES, FPS, RATE = 60, 30, 48_000


def main(url: str, cert: str, key: str, token: str = "") -> None:
    options = {"cert_file": cert, "key_file": key} | ({"authorization": token} if token else {})
    with av.open(url, "w", format="whip", options=options) as out:
        video = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt, video.profile = 256, 256, "yuv420p", "Baseline"
        audio = out.add_stream("libopus", rate=RATE, layout="stereo")
        began = time.monotonic()
        for number in range(PICTURES):
            picture = draw_pattern(256, 256, number)
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            sound = np.repeat(tone(number * RATE // FPS, RATE // FPS, RATE), 2, axis=0)
            samples = av.AudioFrame.from_ndarray(sound, "fltp", "stereo")
            samples.sample_rate, samples.pts, samples.time_base = RATE, number * RATE // FPS, Fraction(1, RATE)
            out.mux([*video.encode(picture), *audio.encode(samples)])
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))  # a camera's pace


if __name__ == "__main__":
    main(*sys.argv[1:])
