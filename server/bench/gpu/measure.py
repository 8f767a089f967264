"""Ticks, measured: flat out, part by part, and at the pace of a camera."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cost import Hardware
from .gauges import Gauges, Watch, resident_mb
from .prepared import Prepared
from .stages import Stages

__all__ = ["Amounts", "flat_out", "is_finite", "paced", "parts", "quantile"]

STAGED_TICKS = 40


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is measured.

    Attributes:
        warm_up: ticks before.
        ticks: that count.
        paced_s: seconds at each pace; 0 leaves it out.
        paces: pictures per second.
    """

    warm_up: int = 30
    ticks: int = 300
    paced_s: float = 3.0
    paces: tuple[float, ...] = (30.0, 60.0)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def is_finite(made: Prepared) -> bool:
    """Whether its pictures are numbers: what overflows is no benchmark."""
    return bool(torch.isfinite(made.tick(made.pictures)).all())


def flat_out(
    made: Prepared, amounts: Amounts, device: str, gauges: Gauges, hardware: Hardware | None
) -> dict[str, Any]:
    """As fast as it goes; the time of each tick is the device's own, that of all is the wall's."""
    for _ in range(amounts.warm_up):
        made.tick(made.pictures)
    _synchronize(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    skipped = made.skipped()
    with Watch(gauges) as watch:
        each, whole_s = _timed(lambda: made.tick(made.pictures), device, amounts.ticks)
    rows = len(made.pictures)
    made_pictures = rows * amounts.ticks - (made.skipped() - skipped)
    return {
        "warm_up": amounts.warm_up,
        "ticks": amounts.ticks,
        "fps": made_pictures / whole_s,
        "skipped": made.skipped() - skipped,
        "tick_ms": {
            "p50": quantile(each, 0.50),
            "p95": quantile(each, 0.95),
            "p99": quantile(each, 0.99),
            "max": max(each),
            "mean": statistics.fmean(each),
        },
        **_achieved(made, amounts.ticks / whole_s, hardware),
        "peak_vram_mb": torch.cuda.max_memory_allocated() / 1e6 if device.startswith("cuda") else None,
        "rss_mb": resident_mb(),
        "gpu": watch.summary(made_pictures),
    }


def _achieved(made: Prepared, ticks_per_s: float, hardware: Hardware | None) -> dict[str, Any]:
    tflops = made.cost.flops * ticks_per_s / 1e12
    least, most = (value * ticks_per_s / 1e9 for value in (made.cost.weight_bytes, made.cost.unfused_bytes))
    found: dict[str, Any] = {
        "tflop_per_picture": made.cost.flops / len(made.pictures) / 1e12,
        "tflops": tflops,
        "weights_gb_per_s": least,
        "unfused_gb_per_s": most,
    }
    if hardware is not None:
        found |= {
            "tflops_share": tflops / hardware.tflops,
            "weights_share": least / 1000 / hardware.tb_per_s,
            "limit_fps": made.cost.limit_fps(hardware, len(made.pictures)),
        }
    return found


def _timed(tick: Callable[[], object], device: str, ticks: int) -> tuple[list[float], float]:
    """Milliseconds of each, and seconds of all."""
    if not device.startswith("cuda"):
        marks = [time.perf_counter()]
        for _ in range(ticks):
            tick()
            marks.append(time.perf_counter())
        return [(after - before) * 1000 for before, after in zip(marks, marks[1:], strict=False)], marks[-1] - marks[0]
    make: Any = torch.cuda.Event
    events = [make(enable_timing=True) for _ in range(ticks + 1)]
    torch.cuda.synchronize()
    began = time.perf_counter()
    events[0].record()
    for event in events[1:]:
        tick()
        event.record()
    torch.cuda.synchronize()
    whole_s = time.perf_counter() - began
    return [before.elapsed_time(after) for before, after in zip(events, events[1:], strict=False)], whole_s


def parts(made: Prepared, device: str, ticks: int = STAGED_TICKS) -> dict[str, float]:
    """Milliseconds per tick by part, with upload and download of 8-bit pictures; the last thing that is measured."""
    stages = Stages(device)
    made.stage(stages)
    frame, result = _host_frames(made, device)
    upload = stages.timed("upload", lambda: frame.to(device, non_blocking=True).to(made.pictures.dtype).div_(255))
    download = stages.timed("download", lambda given: result(given))
    tick = stages.timed("the rest of the tick", made.tick)
    for _ in range(ticks):
        download(tick(upload()))
    return stages.table(ticks)


def _host_frames(made: Prepared, device: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A picture as it comes from a decoder, and a way back into memory of the processor."""
    is_cuda = device.startswith("cuda")
    frame = (made.pictures.float() * 255).to("cpu", torch.uint8)
    frame = frame.pin_memory() if is_cuda else frame
    kept: dict[str, Tensor] = {}

    def back(given: Tensor) -> Tensor:
        small = (given.clamp(0, 1) * 255).to(torch.uint8)
        if "at" not in kept:
            kept["at"] = torch.empty(small.shape, dtype=torch.uint8, pin_memory=is_cuda)
        return kept["at"].copy_(small, non_blocking=True)

    return frame, back


def paced(made: Prepared, pace: float, seconds: float, device: str) -> dict[str, Any]:
    """At a camera's pace, the newest picture wins: latency from the picture's time until its result is in memory."""
    frame, back = _host_frames(made, device)
    period = len(made.pictures) / pace
    count, latencies, dropped, at = max(1, int(seconds / period)), [], 0, 0
    began = time.perf_counter()
    while at < count:
        now = time.perf_counter() - began
        if now < at * period:
            time.sleep(at * period - now)
        else:
            newest = min(count - 1, int(now / period))
            dropped, at = dropped + newest - at, newest
        back(made.tick(frame.to(device, non_blocking=True).to(made.pictures.dtype).div_(255)))
        _synchronize(device)
        latencies.append((time.perf_counter() - began - at * period) * 1000)
        at += 1
    return {
        "pace": pace,
        "ticks": len(latencies),
        "dropped": dropped * len(made.pictures),
        "latency_ms": {f"p{int(100 * share)}": quantile(latencies, share) for share in (0.5, 0.95, 0.99)},
    }
