"""What the processor gives a GPU in a tick: single kernels, whole graphs, copies; by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["counted", "launches"]

# CUDA's functions by how their names begin, those of the runtime and of the driver
KINDS = {
    "graphs": ("cudaGraphLaunch", "cuGraphLaunch"),
    "kernels": ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchCooperativeKernel"),
    "copies": ("cudaMemcpyAsync", "cuMemcpy", "cudaMemsetAsync", "cuMemset"),
}


def counted(events: Iterable[Any], ticks: int = 1) -> dict[str, float]:
    """Calls per tick by kind.

    Args:
        events: with `key`, a function's name, and `count`.
        ticks: in which they were called.
    """
    found = dict.fromkeys(KINDS, 0.0)
    for event in events:
        for kind, names in KINDS.items():
            if event.key.startswith(names):
                found[kind] += event.count / ticks
    return found


def launches(tick: Callable[[], object], device: str, ticks: int = 5) -> dict[str, float]:
    """What a tick launches, on average; empty where there is no GPU.

    Args:
        tick: it ran before, so that nothing is made in it.
        device: "cuda" or "cpu".
        ticks: how many are looked at.
    """
    if not device.startswith("cuda"):
        return {}
    tick()
    torch.cuda.synchronize()
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(ticks):
            tick()
        torch.cuda.synchronize()
    return counted(profile.key_averages(), ticks)
