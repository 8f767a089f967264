"""Small media files for tests, made with PyAV; each shows the pattern with its counter, and beeps with its flashes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from comfystream.media.pattern import draw_pattern, tone

RATE = 48_000


def make_clip(
    path: Path,
    *,
    size: tuple[int, int] = (128, 96),
    fps: int = 30,
    count: int = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotate: int = 0,
    audio: str | None = None,
    audio_rate: int = RATE,
    layout: str = "stereo",
    offset_s: float = 0.0,
    video_late_s: float = 0.0,
    colour: tuple[int, int] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """A clip.

    Args:
        path: the ending says the container.
        size, fps, count: of the pictures.
        codec, pix_fmt, options: of the encoder.
        pts: times of the pictures in `time_base`; evenly spaced without.
        time_base: of `pts`; 1 / fps without.
        rotate: degrees counterclockwise to turn for display.
        audio: encoder ("aac", "pcm_s16le", "libopus", ...); None = no sound.
        audio_rate, layout: of the sound.
        offset_s: added to all times.
        video_late_s: the pictures start so much after the sound.
        colour: AVCOL_SPC_* and AVCOL_RANGE_*.
    """
    base = time_base or Fraction(1, fps)
    times = [round((video_late_s + offset_s) / base) + t for t in (pts or range(count))]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or _fast(codec))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = stream.time_base = base
        if colour is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colour
        if rotate:
            stream.set_display_rotation(rotate)
        sound: Any = container.add_stream(audio, rate=audio_rate, layout=layout) if audio else None
        packets = []
        for number, time in enumerate(times):
            seconds = time * base - Fraction(offset_s)
            flash = number == 0 or int(seconds) > int(times[number - 1] * base - Fraction(offset_s))
            image = draw_pattern(*size, number, flash=flash).reformat(format=pix_fmt)
            if colour is not None:
                image.colorspace, image.color_range = colour
            image.pts, image.time_base = time, base
            packets += stream.encode(image)
        packets += stream.encode(None)
        if sound is not None:
            end = float(times[-1] * base) - offset_s + 1 / fps
            packets += _encode_tone(sound, round(end * audio_rate), audio_rate, layout, offset_s)
        for packet in sorted(packets, key=lambda p: (p.dts if p.dts is not None else p.pts or 0) * p.time_base):
            container.mux(packet)
    return path


def _fast(codec: str) -> dict[str, str]:
    return {"preset": "ultrafast", "crf": "12"} if codec == "libx264" else {}


def _encode_tone(stream: Any, count: int, rate: int, layout: str, offset_s: float) -> list[Any]:
    packets = []
    channels = av.AudioLayout(layout).nb_channels
    for start in range(0, count, 1024):
        samples = np.repeat(tone(start, min(1024, count - start), rate), channels, axis=0)
        frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start + round(offset_s * rate), Fraction(1, rate)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def vfr_times(count: int) -> list[int]:
    """Uneven times in 1/600 s: steps of 10, 20, 40 in turn (60, 30 and 15 pictures per second)."""
    times, now = [], 0
    for number in range(count):
        times.append(now)
        now += (10, 20, 40)[number % 3]
    return times


def portrait(path: Path) -> Path:
    """Phone video: 96x128, uneven times, no sound."""
    return make_clip(path, size=(96, 128), pts=vfr_times(24), time_base=Fraction(1, 600))


def truncated(path: Path, keep: float = 0.6, **clip: Any) -> Path:
    """The first part of a file; one whose index is at its front, so that the part can be read."""
    front = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    whole = make_clip(path.with_name(f"whole{path.suffix}"), count=120, container_options=front, **clip)
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def flashes(path: Path) -> list[float]:
    """Media times in seconds at which the lower half turns white."""
    times, lit = [], False
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma = frame.reformat(format="gray").to_ndarray()
            bright = bool(luma[luma.shape[0] * 3 // 4 :].mean() > 210)
            if bright and not lit:
                times.append(float(frame.time or 0))
            lit = bright
    return times


def beeps(path: Path) -> list[float]:
    """Media times in seconds at which a beep starts."""
    times: list[float] = []
    last = 0.0
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", RATE)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                start = float((part.pts or 0) * part.time_base)
                for at in np.flatnonzero(np.abs(part.to_ndarray()[0]) > 0.25) / RATE + start:
                    if not times or at - last > 0.3:
                        times.append(float(at))
                    last = at
    return times


def counters(path: Path) -> list[tuple[float, int | None]]:
    """Media time and counter of each picture."""
    from comfystream.media.pattern import read_counter

    with av.open(str(path)) as container:
        return [(float(frame.time or 0), read_counter(frame)) for frame in container.decode(video=0)]
