"""Diffusion workloads: a `Stream` of the nodes, on an accelerated model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from comfystream.accel.cache import EngineCache
from comfystream_nodes.accel.depth import DepthModel, accelerated_depth
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.core import Guidance, Schedule, ScheduleKind
from comfystream_nodes.streamdiffusion.model import StreamModel
from comfystream_nodes.streamdiffusion.settings import StreamSettings
from comfystream_nodes.streamdiffusion.stream import Stream

from .cost import Cost, count
from .launches import launches
from .models import control_model, depth_network, embedding, stream_model, style, with_style
from .prepared import Prepared
from .scale import Scale
from .stages import Stages

__all__ = ["StreamCase", "backends_of"]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
PLAIN = "eager, operation by operation"


class _FromNoise(Stream):  # type: ignore[misc]
    """Text to picture: the input says only the size."""

    is_from_noise = True


@dataclass(frozen=True, slots=True)
class StreamCase:
    """A diffusion workload.

    Attributes:
        family: sd15, sd21 or sdxl.
        steps: indices into the schedule.
        schedule: lcm or turbo.
        guidance: of the stream.
        is_large: at 1024 in place of 512.
        is_from_noise: text to picture.
        has_depth: with a ControlNet, whose control picture a depth model draws.
        has_style: with an IP-Adapter and a fixed style picture.
    """

    family: str
    steps: tuple[int, ...]
    schedule: ScheduleKind = ScheduleKind.LCM
    guidance: Guidance = Guidance(scale=1.0)
    is_large: bool = False
    is_from_noise: bool = False
    has_depth: bool = False
    has_style: bool = False

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the models, count, accelerate, build.

        Raises:
            ComfyStreamError: the backend cannot.
        """
        place = torch.device(device)
        model = stream_model(scale, self.family, place, DTYPES[precision])
        model = with_style(scale, model) if self.has_style else model
        control = control_model(scale, model) if self.has_depth else None
        side = scale.large_side if self.is_large else scale.side
        pictures = torch.rand(rows, side, side, 3, device=place, dtype=DTYPES[precision])
        settings = self._settings(model, rows, control)
        cost = self._count(scale, model, settings, pictures, control)
        began = time.perf_counter()
        depth = None
        if control is not None:
            network = depth_network(scale, "small", place)
            depth = accelerated_depth(network, "depth", scale.depth_side, backend, precision)
        stream = self._stream(model, settings, backend)
        stream.prepare(pictures)
        tick = _tick(stream, depth)
        tick(pictures)
        _wait(device)
        cold_s = time.perf_counter() - began
        return Prepared(
            tick,
            pictures,
            cost,
            cold_s,
            self._again(model, settings, backend, pictures),
            self._facts(settings, rows, side, precision),
            lambda: _proof(stream, depth) | {"launches": launches(lambda: tick(pictures), device)},
            lambda stages: _stage(stages, stream, depth, pictures),
            lambda: stream.skipped,
            stream.close,
        )

    def _settings(self, model: StreamModel, rows: int, control: ControlModel | None) -> StreamSettings:
        controls = (Control(control, 0.6, "passthrough"),) if control is not None else ()
        return StreamSettings(
            prompt=embedding(model),
            steps=self.steps,
            schedule=Schedule(self.schedule, 50 if self.schedule is ScheduleKind.LCM else 4),
            guidance=self.guidance,
            frames=rows,
            controls=controls,
            style=style(model) if self.has_style else None,
        )

    def _count(
        self,
        scale: Scale,
        model: StreamModel,
        settings: StreamSettings,
        pictures: Tensor,
        control: ControlModel | None,
    ) -> Cost:
        stream = self._stream(model, settings, "none")
        modules = [model.unet, model.autoencoder.module, *([control.module] if control else [])]
        stream.process(pictures)  # its first tick fills all slots
        cost = count(lambda: stream.process(pictures), modules)
        if control is None:
            return cost
        network = depth_network(scale, "small", pictures.device).to(pictures.dtype)
        small = torch.rand(1, 3, scale.depth_side, scale.depth_side, device=pictures.device, dtype=pictures.dtype)
        with torch.inference_mode():
            more = count(lambda: network(pixel_values=small), [network])
        return Cost(
            cost.flops + more.flops, cost.weight_bytes + more.weight_bytes, cost.unfused_bytes + more.unfused_bytes
        )

    def _stream(self, model: StreamModel, settings: StreamSettings, backend: str) -> Stream:
        rows = max(settings.row_counts())
        fast = accelerated(model, backend, max_rows=rows, min_rows=rows) if backend != "none" else model
        return (_FromNoise if self.is_from_noise else Stream)(fast, settings)

    def _again(self, model: StreamModel, settings: StreamSettings, backend: str, pictures: Tensor) -> float:
        """Seconds until it is ready when engines are there already."""
        began = time.perf_counter()
        stream = self._stream(model, settings, backend)
        stream.prepare(pictures)
        _wait(str(pictures.device))
        taken = time.perf_counter() - began
        stream.close()
        return taken

    def _facts(self, settings: StreamSettings, rows: int, side: int, precision: str) -> dict[str, Any]:
        return {
            "model": self.family,
            "weights": "random",
            "size": f"{side}x{side}",
            "rows": rows,
            "unet_rows": max(settings.row_counts()),
            "steps": list(self.steps),
            "schedule": self.schedule.value,
            "cfg": self.guidance.active.value,
            "vae": "TAESD" + ("-XL" if self.family == "sdxl" else ""),
            "precision": precision,
        }


def _tick(stream: Stream, depth: DepthModel | None) -> Callable[[Tensor], Tensor]:
    @torch.inference_mode()
    def steered(pictures: Tensor) -> Tensor:
        if depth is not None:
            (control,) = stream.settings.controls
            drawn = replace(control, picture=depth.estimate(pictures[:1]))
            stream.settings = replace(stream.settings, controls=(drawn,))
        made: Tensor = stream.process(pictures)
        return made

    return steered


def backends_of(runners: list[Any]) -> list[str]:
    """Names of networks with what runs them: "unet (inductor in a CUDA graph)"."""
    return sorted({one.place for one in runners})


def _proof(stream: Stream, depth: DepthModel | None) -> dict[str, Any]:
    """What the stream's networks really are, and the engines in the cache with when they were last loaded."""
    bound = getattr(stream._networks, "_bound", {})
    runners = [one.runner for one in bound.values()] + ([depth.runner] if depth is not None else [])
    places = backends_of(runners) or [PLAIN]
    engines = {one.digest[:16]: one.meta.get("label", "") for one in EngineCache().entries()}
    has_graph = stream.tick_graph == "yes" or any("CUDA graph" in one for one in places)
    return {"networks": places, "graph": has_graph, "tick_graph": stream.tick_graph, "engines": engines}


def _stage(stages: Stages, stream: Stream, depth: DepthModel | None, pictures: Tensor) -> None:
    stream.records_ticks = False  # parts of one launch have no time of their own: here each network is a launch
    stream.prepare(pictures)
    stream.process(pictures)
    networks: Any = getattr(stream._networks, "calls", stream._networks)
    stages.on(networks, "encode", "VAE encode")
    stages.on(networks, "predict", "UNet")
    stages.on(networks, "decode", "VAE decode")
    if hasattr(networks, "_steer"):
        stages.on(networks, "_steer", "ControlNet")
    if depth is not None:
        stages.on(depth, "estimate", "depth")


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
