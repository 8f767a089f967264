"""How `bench gpu` measures: parts, quantiles, a camera at its pace, launches, and the verdict on a goal."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch


def test_a_part_within_a_part_is_counted_once() -> None:
    from comfystream_server.bench.gpu.stages import Stages

    stages = Stages("cpu")
    inner = stages.timed("inner", lambda: time.sleep(0.02))
    outer = stages.timed("outer", lambda: (inner(), inner()))
    outer()
    found = stages.table(1)
    assert found["inner"] >= 40
    assert 0 <= found["outer"] < found["inner"]


def test_quantiles_are_values_that_occurred() -> None:
    from comfystream_server.bench.gpu.measure import quantile

    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([3.0], 0.01) == 3


def test_a_camera_that_is_faster_loses_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu import measure

    clock = [0.0]

    class Time:
        perf_counter = staticmethod(lambda: clock[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            clock[0] += seconds

    class Made:
        pictures = torch.rand(1, 4, 4, 3)

        @staticmethod
        def tick(given: torch.Tensor) -> torch.Tensor:
            clock[0] += 0.1
            return given

    monkeypatch.setattr(measure, "time", Time)
    slow: Any = measure.paced(Made, 20.0, 1.0, "cpu")  # type: ignore[arg-type]
    assert slow["ticks"] + slow["dropped"] == 20
    assert slow["ticks"] == pytest.approx(10, abs=1)
    assert slow["latency_ms"]["p50"] < 160, "the newest picture wins: what waits does not add up"
    quick: Any = measure.paced(Made, 5.0, 1.0, "cpu")  # type: ignore[arg-type]
    assert (quick["ticks"], quick["dropped"]) == (5, 0)
    assert quick["latency_ms"]["p99"] == pytest.approx(100)


def test_launches_are_counted_by_kind() -> None:

    from comfystream_server.bench.gpu.launches import counted
    from comfystream_server.bench.gpu.report import case_lines

    calls = {"cudaGraphLaunch": 5, "cudaLaunchKernel": 6, "cuLaunchKernelEx": 4, "cudaMemcpyAsync": 10, "aten::add": 99}
    found = counted([SimpleNamespace(key=key, count=count) for key, count in calls.items()], ticks=5)
    assert found == {"graphs": 1.0, "kernels": 2.0, "copies": 2.0}
    proof = {"networks": ["unet"], "graph": True, "tick_graph": "yes", "engines": {}, "launches": found}
    lines = [*case_lines({"title": "t", "rows": 1, "backend": "b", "version": "1", "proof": proof})]
    assert "  whole-tick graph: yes; launched per tick: 1 graphs, 2 kernels, 2 copies" in lines


def test_a_goal_in_milliseconds_is_judged_by_the_slow_ticks() -> None:
    from comfystream_server.bench.gpu.report import case_lines

    tick = {"p50": 5.0, "p95": 24.0, "p99": 90.0, "max": 99.0}
    found = {"fps": 200.0, "ticks": 9, "warm_up": 1, "tick_ms": tick, "skipped": 0, "tflop_per_picture": 1.0}
    found |= {"tflops": 1.0, "weights_gb_per_s": 1.0, "unfused_gb_per_s": 2.0, "peak_vram_mb": None, "rss_mb": 1.0}
    case = {"title": "t", "rows": 1, "backend": "b", "version": "1", "flat_out": {**found, "gpu": None}}

    def verdict(most_ms: float) -> str:
        target = {"limit": 5000.0, "goal": 40.0, "goal_p95_ms": most_ms}
        return [*case_lines({**case, "target": target})][-1]

    assert verdict(25.0) == "  H200: limit 0.2 ms, goal p95 25 ms: met"
    assert verdict(20.0).endswith("goal p95 20 ms: missed")
