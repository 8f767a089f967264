"""Image to image on a GPU, one step: TAESD encode, noise, UNet, TAESD decode, by each backend that works here.

The architecture is SD-Turbo's, its weights are random. A frame is a whole tick, tensor in to tensor out, on one stream.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.machine import machine
from comfystream.accel.model_specs import Ranges, decoder_spec, encoder_spec, unet_spec
from comfystream.accel.modules import UNetModule
from comfystream.accel.registry import probe_all
from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder
from comfystream.errors import ConfigError

from .accel import random_inputs, unet_of
from .rows import Goal, Row

__all__ = ["SD_TURBO", "Img2Img", "bench_gpu", "measure"]

SD_TURBO: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
BACKENDS = ("eager", "cuda-graph", "inductor", "tensorrt", "tensorrt-rtx")
GOALS = {1: 150.0, 4: 220.0}  # frames per second on an H200
ALPHA, BETA = 0.0683, 0.9977  # of the schedule's first step, t = 999


@dataclass(frozen=True, slots=True)
class Img2Img:
    """What is measured.

    Args:
        config: of the UNet.
        size: of the picture.
        rows: pictures at once.
        precision: of all models.
        taesd_width: channels inside the autoencoder.
    """

    config: dict[str, Any]
    size: int = 512
    rows: int = 1
    precision: str = "fp16"
    taesd_width: int = 64

    def tick(self, backend: str, device: str) -> tuple[Callable[[], Tensor], str]:
        """The models, ready, as one function; and which engine runs the UNet (empty: none)."""
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[self.precision]
        sizes, how = Ranges(self.rows, self.size, self.size), How(backend, device)
        text_width = self.config["cross_attention_dim"]
        encode = accelerate(TaesdEncoder(self.taesd_width).to(dtype), encoder_spec(sizes, self.precision), how).runner
        decode = accelerate(TaesdDecoder(self.taesd_width).to(dtype), decoder_spec(sizes, self.precision), how).runner
        unet = UNetModule(unet_of(self.config).to(dtype))
        made = accelerate(unet, unet_spec(sizes, self.precision, text_width=text_width), how)
        for name, value in random_inputs(made.runner.spec, device).items():
            made.runner.put(name, value)
        picture = torch.rand_like(encode.inputs["images"])
        noise, noisy = torch.randn_like(made.runner.inputs["sample"]), torch.empty_like(made.runner.inputs["sample"])

        def tick() -> Tensor:
            encode.put("images", picture)
            encode.enqueue()
            torch.mul(encode.outputs["latent"], ALPHA, out=noisy)
            noisy.add_(noise, alpha=BETA)
            made.runner.put("sample", noisy)
            made.runner.enqueue()
            noisy.sub_(made.runner.outputs["latent"], alpha=BETA).div_(ALPHA)
            decode.put("latent", noisy)
            decode.enqueue()
            return decode.outputs["images"]

        return tick, made.engine


def bench_gpu(
    all_rows: Sequence[int] = (1, 2, 4), backends: Sequence[str] = BACKENDS, frames: int = 300
) -> Iterator[Row]:
    """Frames per second and time per frame, by backend and rows.

    Raises:
        ConfigError: there is no GPU; nothing is measured.
    """
    here = machine()
    if not here.gpu:
        raise ConfigError(
            f"nothing was measured: {here.why_no_gpu}", code="no_gpu", hint="run it on a machine with an NVIDIA GPU"
        )
    can = {one.backend: one for one in probe_all()}
    for backend in (name for name in backends if can[name].can_run):
        for rows in all_rows:
            case = (
                f"SD-Turbo img2img 512², 1 step, TAESD, {rows} rows, {backend} {can[backend].version}, random weights"
            )
            yield from measure(Img2Img(SD_TURBO, rows=rows), backend, "cuda", frames, case)


def measure(what: Img2Img, backend: str, device: str, frames: int, case: str) -> Iterator[Row]:
    """The rows of one case."""
    began = time.perf_counter()
    tick, _ = what.tick(backend, device)
    yield Row("gpu", case, "loading and building", "s", time.perf_counter() - began)
    for _ in range(max(3, frames // 10)):
        tick()
    each, whole_s = _timed(tick, device, frames)
    goal = Goal("ours", GOALS[what.rows], at_least=True) if what.rows in GOALS and device == "cuda" else None
    yield Row("gpu", case, "frames per second", "fps", what.rows * frames / whole_s, goal=goal)
    for name, at in (("median", 49), ("95th percentile", 94), ("99th percentile", 98)):
        yield Row("gpu", case, f"time per tick, {name}", "ms", statistics.quantiles(each, n=100)[at])
    if device == "cuda":
        yield Row("gpu", case, "most GPU memory", "MB", torch.cuda.max_memory_allocated() / 1e6)


def _timed(tick: Callable[[], Tensor], device: str, frames: int) -> tuple[list[float], float]:
    """Milliseconds of each tick (on the device's own clock), and seconds of them all (on the wall's)."""
    if device != "cuda":
        each = []
        began = time.perf_counter()
        for _ in range(frames):
            start = time.perf_counter()
            tick()
            each.append((time.perf_counter() - start) * 1000)
        return each, time.perf_counter() - began
    event: Any = torch.cuda.Event
    marks = [event(enable_timing=True) for _ in range(frames + 1)]
    torch.cuda.synchronize()
    began = time.perf_counter()
    marks[0].record()
    for mark in marks[1:]:
        tick()
        mark.record()
    torch.cuda.synchronize()
    whole_s = time.perf_counter() - began
    return [before.elapsed_time(after) for before, after in zip(marks, marks[1:], strict=False)], whole_s
