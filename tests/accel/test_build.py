"""Several engines in a row: what people are told meanwhile. And one call that does it all."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import PAIR, Pair
from torch import nn

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.backend import BuildOptions, Step
from comfystream.accel.build import BuildProgress, EngineJob, build_all, job_of_module
from comfystream.accel.cache import EngineCache
from comfystream.accel.key import EngineKey, Lora, digest_of_module
from comfystream.accel.machine import Machine, machine
from comfystream.accel.onnx_runtime import OnnxRuntimeBackend
from comfystream.accel.registry import Choice, choose
from comfystream.accel.spec import ModelSpec
from comfystream.errors import EngineError
from comfystream.gpu_turns import recording

KEY = EngineKey("fake", "1", Machine("", "", ""), PAIR, BuildOptions(), "graph", "")
LEGACY = BuildOptions(exporter="legacy")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def jobs(clock: Clock, count: int, fails_at: int = -1) -> list[EngineJob]:
    def job(number: int) -> EngineJob:
        def make(folder: Path, on_step: Step) -> Path:
            on_step("compiling", 0.0)
            clock.now += 60
            on_step("compiling", 0.5)
            if number == fails_at:
                raise EngineError("the builder gave up", code="build_failed")
            clock.now += 60
            (folder / "plan").write_bytes(b"engine")
            return folder / "plan"

        return EngineJob(f"part {number}", replace(KEY, weights=str(number)), make)

    return [job(number) for number in range(1, count + 1)]


def test_progress_in_words(tmp_path: Path) -> None:
    clock, heard = Clock(), list[str]()
    build_all(jobs(clock, 3), EngineCache(tmp_path), lambda progress: heard.append(str(progress)), clock=clock)
    assert heard == [
        "building engine 1/3 (part 1): compiling",  # nothing like it was built here: no number is made up
        "building engine 1/3 (part 1): compiling",
        "building engine 2/3 (part 2), about 4 min left",
        "building engine 2/3 (part 2), about 3 min left",
        "building engine 3/3 (part 3), about 2 min left",
        "building engine 3/3 (part 3), about 60 s left",
    ]


def test_one_engine_tells_its_end_by_its_share(tmp_path: Path) -> None:
    clock, heard = Clock(), list[float | None]()
    build_all(jobs(clock, 1), EngineCache(tmp_path), lambda progress: heard.append(progress.left_s), clock=clock)
    assert heard == [None, 60.0]


def test_what_is_there_is_not_built(tmp_path: Path) -> None:
    clock, cache = Clock(), EngineCache(tmp_path)
    build_all(jobs(clock, 2), cache, clock=clock)
    heard = list[BuildProgress]()
    entries = build_all(jobs(clock, 3), cache, heard.append, clock=clock)
    assert [entry.label for entry in entries] == ["part 1", "part 2", "part 3"]
    assert {progress.number for progress in heard} == {3}


def test_what_was_built_before_a_failure_is_kept(tmp_path: Path) -> None:
    clock, cache = Clock(), EngineCache(tmp_path)
    with pytest.raises(EngineError, match="gave up"):
        build_all(jobs(clock, 3, fails_at=2), cache, clock=clock)
    assert [entry.label for entry in cache.entries()] == ["part 1"]


def how(tmp_path: Path, backend: str) -> How:
    return How(backend, cache=EngineCache(tmp_path), options=LEGACY)


def test_a_module_becomes_a_runner(tmp_path: Path) -> None:
    module, heard = Pair(), list[str]()
    made = accelerate(module, PAIR, how(tmp_path, "onnxruntime"), on_build=lambda progress: heard.append(progress.step))
    assert heard[0] == "exporting"
    assert "comparing with torch" in heard
    for batch in (1, 2, 4):
        values = {"picture": torch.randn(batch, 3, 8, 8), "strength": torch.rand(batch)}
        mixed, mean = module(*values.values())
        found = made.runner.run(values)
        torch.testing.assert_close(found["mixed"], mixed)
        torch.testing.assert_close(found["mean"], mean)
    heard.clear()
    again = accelerate(
        module, PAIR, how(tmp_path, "onnxruntime"), on_build=lambda progress: heard.append(progress.step)
    )
    assert again.engine == made.engine
    assert heard == []


def test_other_weights_or_another_lora_scale_is_another_engine(tmp_path: Path) -> None:
    engines = {
        accelerate(Pair(seed), PAIR, how(tmp_path, "onnxruntime"), loras).engine
        for seed, loras in ((0, ()), (1, ()), (0, [Lora("a", "d", 0.5)]), (0, [Lora("a", "d", 0.6)]))
    }
    assert len(engines) == 4


def test_auto_says_what_it_chose_and_why(tmp_path: Path) -> None:
    if machine().gpu:
        pytest.skip("this machine has a GPU: auto has more to choose from")
    made = accelerate(Pair(), PAIR, How(cache=EngineCache(tmp_path)))
    assert made.choice.reason == f"auto chose eager ({machine().why_no_gpu})"
    assert made.engine == ""


def test_a_wrong_engine_is_not_kept(tmp_path: Path) -> None:
    """Whatever a compiler does: its engine is compared with the module at both ends of every range."""

    class OfAnother(OnnxRuntimeBackend):
        def export(self, module: object, spec: object, folder: Path, options: object) -> Path:
            return super().export(Pair(seed=7), PAIR, folder, LEGACY)

    backend = OfAnother()
    choice = Choice(backend, backend.probe(), "")
    module, cache = Pair(), EngineCache(tmp_path)
    key = EngineKey.of(choice.capability, machine(), PAIR, LEGACY, digest_of_module(module))
    with pytest.raises(EngineError, match="differs from torch by") as caught:
        build_all([job_of_module(choice, module, key, "cpu")], cache)
    assert caught.value.code == "engine_differs"
    assert cache.entries() == []


def test_weights_are_brought_to_the_device_for_a_build_and_not_for_an_engine_that_is_found(tmp_path: Path) -> None:
    class Plans(OnnxRuntimeBackend):
        def make(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
            assert {one.device.type for one in module.parameters()} == {"meta"}
            (folder / "plan").write_bytes(b"engine")
            return folder / "plan"

    choice, cache = Choice(Plans(), Plans().probe(), ""), EngineCache(tmp_path)
    for wanted in ("meta", "cpu"):
        module = Pair()
        build_all([job_of_module(choice, module, KEY, "meta", verifies=False)], cache)
        assert {one.device.type for one in module.parameters()} == {wanted}


def test_a_backend_that_is_asked_for_is_never_replaced() -> None:
    """Defect 2 of the known implementations: slow PyTorch in silence."""
    if machine().gpu:
        pytest.skip("this machine has a GPU")
    for name in ("cuda-graph", "tensorrt"):
        with pytest.raises(EngineError) as caught:
            choose(name)
        assert caught.value.code == "backend_missing"
        assert f"the backend {name} does not work here: " in str(caught.value)
        assert caught.value.hint
    with pytest.raises(EngineError, match='there is no backend "tensort".*did you mean "tensorrt"'):
        choose("tensort")


def test_nothing_is_recorded_while_an_engine_is_built_but_between_its_steps(tmp_path: Path) -> None:
    order: list[str] = []
    wants = threading.Event()

    def record() -> None:
        with recording(wants.set):
            order.append("recorded")

    class Slow(OnnxRuntimeBackend):
        def make(self, module: nn.Module, spec: ModelSpec, folder: Path, options: BuildOptions, on_step: Step) -> Path:
            threading.Thread(target=record, daemon=True).start()
            assert wants.wait(30)
            order.append("timed a kernel")
            on_step("building", 0.5)
            order.append("timed another")
            return folder

    slow = Slow()
    job = job_of_module(Choice(slow, slow.probe(), ""), Pair(), KEY, "cpu", verifies=False)
    job.make(tmp_path, lambda step, share: None)
    assert order == ["timed a kernel", "recorded", "timed another"]
