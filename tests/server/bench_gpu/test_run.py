"""A run of `bench gpu`: what is measured in which order, the budget, and what is left when it is cut off or fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_bench import KEYS, options, run

from comfystream.errors import EngineError


def test_what_does_not_fit_the_budget_is_left_out_and_told(said: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run(said, file, budget_s=10.0, only=("sd-turbo", "sdxl-turbo"), rows=(1,))
    document = json.loads(file.read_text())
    assert document["is_complete"]
    assert document["cases"] == []
    assert [one["workload"] for one in document["not_run"]] == ["sd-turbo", "sdxl-turbo"]
    assert any(line.startswith("NOT MEASURED: sd-turbo, 1 rows, eager: it takes about 28 s, and 10 s") for line in said)


def order_of(monkeypatch: pytest.MonkeyPatch, fps: dict[str, float], **changes: Any) -> list[tuple[str, int, str]]:
    """What is measured, in order, where these backends work and are so fast."""
    from comfystream.accel.backend import Capability
    from comfystream_server.bench.gpu import run as running
    from comfystream_server.bench.gpu.gauges import Gauges
    from comfystream_server.bench.gpu.journal import Journal
    from comfystream_server.bench.gpu.workloads import WORKLOADS

    done: list[tuple[str, int, str]] = []

    def case(self: Any, workload: Any, rows: int, backend: str) -> None:
        done.append((workload.key, rows, backend))
        self._journal.add({"backend": backend, "flat_out": {"fps": fps[backend]}})

    monkeypatch.setattr(running._Run, "_case", case)
    monkeypatch.setattr(running._Run, "_frame_path", lambda self: None)
    capable = {name: Capability(name, "1", True, True, "") for name in fps}
    chosen = options(backends=(), **changes)
    running._Run(chosen, print, Journal(None, {}), Gauges(), capable, "cpu").all(WORKLOADS)
    return done


def test_every_workload_has_a_figure_before_some_get_a_better_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = order_of(monkeypatch, {"cuda-graph": 150.0, "inductor": 200.0, "eager": 50.0})
    assert done[:3] == [("sd-turbo", 1, name) for name in ("cuda-graph", "inductor", "eager")]
    quick, best = done[3:21], done[21:]
    assert {backend for *_, backend in quick} == {"cuda-graph"}
    assert {backend for *_, backend in best} == {"inductor"}
    assert [case[:2] for case in quick] == [case[:2] for case in best]
    assert quick[0][:2] == ("sd-turbo", 4)
    assert quick[-1][:2] == ("sd-turbo", 2), "what is least important comes last"
    assert {key for key, *_ in quick} == set(KEYS)


def test_the_fastest_backend_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done = order_of(monkeypatch, {"cuda-graph": 200.0, "eager": 50.0})
    assert len(done) == 2 + 18
    assert len(order_of(monkeypatch, {"cuda-graph": 200.0, "eager": 50.0}, is_everything=True)) == 2 + 2 * 18


def test_a_run_that_is_cut_off_still_says_something(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfystream_server.bench.gpu import run as running

    real, calls = running.flat_out, []

    def cut_off(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(running, "flat_out", cut_off)
    file = tmp_path / "found.json"
    with pytest.raises(KeyboardInterrupt):
        run(said, file, only=("srvgg-x4", "fsrcnn-x2"))
    document = json.loads(file.read_text())
    assert not document["is_complete"]
    first, second = document["cases"]
    assert first["flat_out"]["fps"] > 0
    assert second["workload"] == "fsrcnn-x2"
    assert "flat_out" not in second
    assert second["cold_s"] > 0


def test_a_case_that_fails_is_told_and_the_others_go_on(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu.pictures import UpscaleCase

    real = UpscaleCase.prepare

    def fails(self: Any, *arguments: Any) -> Any:
        if self.kind == "srvgg":
            raise EngineError("the device is full", code="out_of_memory", hint="use a smaller size")
        return real(self, *arguments)

    monkeypatch.setattr(UpscaleCase, "prepare", fails)
    found = run(said, only=("srvgg-x4", "fsrcnn-x2"))
    assert found["srvgg-x4"]["failed"] == "the device is full (use a smaller size)"
    assert found["fsrcnn-x2"]["flat_out"]["fps"] > 0
    assert any("NOT MEASURED: srvgg-x4, 1 rows, eager: it failed: the device is full" in line for line in said)


def test_pictures_that_are_no_numbers_are_no_result(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu import pictures

    monkeypatch.setattr(
        pictures, "random_weights", lambda module, seed=0: module.requires_grad_(False).apply(_overflowing)
    )
    case = run(said, only=("srvgg-x4",))["srvgg-x4"]
    assert "flat_out" not in case
    assert "not finite" in case["failed"]


def _overflowing(module: Any) -> None:
    for parameter in module.parameters():
        parameter.fill_(float("inf"))


def test_the_file_says_on_what_it_was_measured(said: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run(said, file, only=("fsrcnn-x2",))
    about = json.loads(file.read_text())["machine"]
    assert {"gpu", "driver", "cuda", "torch", "processor", "cores", "revision", "backends", "at_start"} <= set(about)
    assert about["backends"]["eager"].startswith(torch.__version__)
