"""Planes to a tensor and back on a device: what the frame path uses, beside torch's operations in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from comfystream.media.colour import Colour, Matrix
from comfystream.media.device.backend import DeviceBackend
from comfystream.media.device.convert import FromRgb, ToRgb
from comfystream.media.device.converter import Converter, TorchConverter
from comfystream.media.device.layout import layout_of

from .rows import Row

__all__ = ["bench_conversion"]

WARM_UP = 10


def bench_conversion(backend: DeviceBackend, size: tuple[int, int], times: int) -> Iterator[Row]:
    """Microseconds per picture: the wall's clock over many, until the device is done.

    Args:
        backend: the device.
        size: width and height.
        times: how often each way.
    """
    used, plain = backend.converter, TorchConverter()
    case = f"{backend.name} {size[0]}x{size[1]}, {used.name}"
    for way, make in (("planes to tensor", _up), ("tensor to planes", _down)):
        ours, theirs = (_measured(make(one, backend, size), backend, times) for one in (used, plain))
        yield Row("frame-path", case, way, "us", ours, theirs, plain.name)


def _up(converter: Converter, backend: DeviceBackend, size: tuple[int, int]) -> Callable[[], object]:
    layout = layout_of("yuv420p", *size)
    planes, weights = backend.empty(layout.size).fill_(90), ToRgb.of(Colour(Matrix.BT709), layout.format, backend)
    return lambda: converter.to_rgb(planes, layout, weights, torch.float32)


def _down(converter: Converter, backend: DeviceBackend, size: tuple[int, int]) -> Callable[[], object]:
    layout = layout_of("yuv420p", *size)
    planes, weights = backend.empty(layout.size), FromRgb.of(Colour(Matrix.BT709), backend)
    picture = backend.zeros(size[1], size[0], 3).fill_(0.4)
    return lambda: converter.to_planes(picture, planes, layout, weights)


def _measured(run: Callable[[], object], backend: DeviceBackend, times: int) -> float:
    for _ in range(WARM_UP):
        run()
    backend.settle()
    began = time.perf_counter_ns()
    for _ in range(times):
        run()
    backend.settle()
    return (time.perf_counter_ns() - began) / times / 1000
