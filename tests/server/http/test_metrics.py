"""`/metrics` as Prometheus reads it, and GPU figures where the driver's library is there."""

from __future__ import annotations

import sys
import threading
import time
import types
from dataclasses import replace
from typing import Any

import pytest
from app_harness import App, app_with, browser
from engine_harness import fill
from on_loop import on_loop, until
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import NodeTiming
from comfystream_server.http import metric_sources
from comfystream_server.http.metric_sources import NodeTimes, Traffic
from comfystream_server.resources import Gpus, memory_bytes


async def scraped(app: App) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name, each by the values of its labels."""
    _, text = await app.json("GET", "/metrics")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def scraped_until(app: App, condition: Any) -> dict[str, dict[tuple[str, ...], float]]:
    latest: dict[str, Any] = {}

    async def look() -> None:
        latest.clear()
        latest.update(await scraped(app))

    for _ in range(600):
        await look()
        if condition(latest):
            return latest
    raise AssertionError(f"it did not come about: {sorted(latest)}")


@on_loop
async def test_a_session_with_a_viewer_is_in_the_metrics(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        async with browser(app, prompts=fill(0.5)) as viewer:
            await until(lambda: viewer.shown is not None)
            stages = ("decode", "wait", "compute", "hand_over", "encode", "send", "total")
            found = await scraped_until(
                app, lambda now: all(now.get("comfystream_stage_seconds_count", {}).get((stage,)) for stage in stages)
            )
            id = viewer.session
            assert found["comfystream_sessions"] == {(): 1}
            assert found["comfystream_viewers"] == {(): 1}
            assert found["comfystream_frames_total"][id, "in"] > 0
            assert found["comfystream_sent_bytes_total"][id,] > 0
            assert found["comfystream_target_bitrate"][id,] > 0
            assert found["comfystream_engine_starts_total"] == {(): 1}
            assert found["comfystream_engine_restarts_total"] == {(id,): 0}
            assert found["comfystream_memory_bytes"]["engine",] > 1e7
            assert "stream_fps" in found
            names = {class_type for class_type, *_ in found["comfystream_node_calls_total"]}
            assert "TestFill" in names, names
            assert all(value > 0 for value in found["comfystream_node_calls_total"].values())
        app.parts.sessions.drain(0)
        assert (await scraped(app))["comfystream_draining"] == {(): 1}


def timing(node: str, calls: int, total_ms: float) -> NodeTiming:
    return NodeTiming(node, "Blur", "", "video", calls, total_ms, 1.0)


def calls_in(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["class_type"], sample.labels["node"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "comfystream_node_calls_total"
    }


def test_time_per_node_only_grows_whatever_sessions_and_engines_do() -> None:
    registry = CollectorRegistry()
    nodes = NodeTimes(registry)
    nodes.add(("one", 1), [timing("3", 10, 20.0)])
    nodes.add(("two", 1), [timing("3", 5, 10.0)])
    nodes.add(("one", 1), [timing("3", 12, 24.0)])
    assert calls_in(registry) == {("Blur", "3"): 17}
    nodes.add(("one", 1), [timing("3", 2, 4.0)])  # the engine was started again
    nodes.add(("one", 2), [timing("3", 1, 2.0)])  # another revision
    nodes.forget({"one"})
    assert calls_in(registry) == {("Blur", "3"): 20}
    labels = {"class_type": "Blur", "node": "3", "place": ""}
    seconds = registry.get_sample_value("comfystream_node_seconds_total", labels)
    assert seconds == pytest.approx(0.040)


def test_a_node_says_where_its_pictures_are() -> None:
    registry = CollectorRegistry()
    nodes = NodeTimes(registry)
    nodes.add(("one", 1), [replace(timing("3", 10, 20.0), place="host")])
    labels = {"class_type": "Blur", "node": "3", "place": "host"}
    assert registry.get_sample_value("comfystream_node_calls_total", labels) == 10


def test_the_number_of_nodes_in_the_metrics_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_sources, "MOST_NODES", 3)
    registry = CollectorRegistry()
    NodeTimes(registry).add(("one", 1), [timing(str(number), 1, 1.0) for number in range(10)])
    assert calls_in(registry) == {("Blur", "0"): 1, ("Blur", "1"): 1, ("Blur", "2"): 1, ("other", "other"): 7}


def test_bytes_of_viewers_who_left_stay_counted() -> None:
    there: list[tuple[str, int, dict[str, int]]] = [("one", 1, {"bytes": 100}), ("one", 2, {"bytes": 10})]
    traffic = Traffic([types.SimpleNamespace(id="one")], lambda: there)  # type: ignore[arg-type]

    def total() -> float:
        return next(f.samples[0].value for f in traffic.collect() if f.name == "comfystream_sent_bytes")

    assert total() == 110
    there[:] = [("one", 2, {"bytes": 15})]
    assert total() == 115
    there[:] = []
    assert total() == 115


# --- the machine


def test_memory_of_a_process_and_of_none() -> None:
    import os

    assert (memory_bytes(os.getpid()) or 0) > 1e6
    assert memory_bytes(2**31 - 1) is None


class FakeNvml(types.ModuleType):
    """NVIDIA's library on a machine with one GPU whose driver does not know its power."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *, has_driver: bool) -> None:
        super().__init__("pynvml")
        self._has_driver = has_driver
        self.reads = 0

    def nvmlInit(self) -> None:
        if not self._has_driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self.reads += 1
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "GPU"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return types.SimpleNamespace(used=5, total=10)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return types.SimpleNamespace(gpu=37)

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        return [types.SimpleNamespace(pid=7, usedGpuMemory=3)]


def test_a_gpu_is_read_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(has_driver=True)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    now = [100.0]
    gpus = Gpus(lambda: now[0])
    (reading,) = gpus.read(7)
    assert (reading.name, reading.utilisation, reading.memory_total_bytes) == ("GPU", 37, 10)
    assert (reading.engine_memory_bytes, reading.temperature_c, reading.power_w) == (3, 61, None)
    gpus.read(7)
    assert library.reads == 1
    now[0] += 1
    gpus.read(7)
    assert library.reads == 2


def test_a_driver_that_takes_its_time_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    library, may_answer, asked = FakeNvml(has_driver=True), threading.Event(), threading.Event()

    def slow() -> int:
        asked.set()
        assert may_answer.wait(20)
        return 1

    library.nvmlDeviceGetCount = slow
    monkeypatch.setitem(sys.modules, "pynvml", library)
    gpus = Gpus()
    assert gpus.latest(7) == ()
    assert asked.wait(20)
    assert gpus.latest(7) == ()
    may_answer.set()
    deadline = time.monotonic() + 20
    while not (found := gpus.latest(7)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found[0].utilisation == 37


def test_without_driver_or_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(has_driver=False))
    assert Gpus().read() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus().read() == ()
