"""Choosing a backend, told with its reasons."""

from __future__ import annotations

import pytest

from comfystream.accel.accelerate import How, job_for
from comfystream.accel.backend import Backend, Capability
from comfystream.accel.machine import machine
from comfystream.accel.registry import Choice, backends, choose, probe_all
from comfystream.accel.spec import ModelSpec, TensorSpec
from comfystream.accel.verify import TOLERANCE, tolerance
from comfystream.errors import EngineError


class FakeBackend(Backend):
    def __init__(self, name: str, can_run: bool, can_build: bool = False) -> None:
        self.name = name
        self._can = can_build or can_run, can_run

    def probe(self) -> Capability:
        return Capability(self.name, "1.0", *self._can, "works" if self._can[1] else "its library is missing", "get it")


def known(**can_run: bool) -> dict[str, Backend]:
    return {name: FakeBackend(name, can) for name, can in can_run.items()}


def test_the_best_that_runs_and_why_not_the_others() -> None:
    choice = choose(has_gpu=True, known=known(eager=True, tensorrt=False, inductor=True))
    assert choice.backend.name == "inductor"
    assert choice.reason == "auto chose inductor; not tensorrt: its library is missing"


def test_no_backend_at_all() -> None:
    with pytest.raises(EngineError, match="no backend works here; not tensorrt: its library is missing"):
        choose(has_gpu=True, known=known(tensorrt=False))


def test_building_is_another_question_than_running() -> None:
    backend = FakeBackend("tensorrt-rtx", can_run=False, can_build=True)
    assert choose("tensorrt-rtx", to_build=True, known={"tensorrt-rtx": backend}).backend is backend
    with pytest.raises(EngineError, match="does not work here: its library is missing.*get it"):
        choose("tensorrt-rtx", known={"tensorrt-rtx": backend})


def test_every_backend_answers_for_itself() -> None:
    found = probe_all()
    assert [one.backend for one in found] == list(backends())
    for one in found:
        assert one.reason
        assert one.can_run or one.hint


def test_auto_passes_over_one_that_cannot_make_its_engines_here() -> None:
    """A machine that runs engines of the Inductor, without what it compiles them with."""
    inductor = FakeBackend("inductor", can_run=True)
    inductor.plan_name = "plan.pt2"
    inductor._can = (False, True)
    choice = choose(has_gpu=True, known={"inductor": inductor, **known(**{"cuda-graph": True})})
    assert choice.backend.name == "cuda-graph"
    assert choice.reason == "auto chose cuda-graph; not inductor: works"
    assert choose("inductor", known={"inductor": inductor}).backend is inductor


def test_the_processor_is_a_part_of_what_engines_depend_on_beside_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's half of a package of the Inductor is compiled for it (-march=native)."""
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, value in (("is_available", True), ("get_device_capability", (8, 9)), ("get_device_name", "RTX 4090")):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    found = machine.__wrapped__()
    assert (found.gpu, found.compute_capability) == ("RTX 4090", "8.9")
    assert torch.backends.cpu.get_cpu_capability() in found.processor


def test_an_engine_is_for_the_gpu_that_it_is_built_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may have several of different kinds."""
    import torch

    gpus = {"cuda:0": ("RTX 4090", (8, 9)), "cuda:1": ("L4", (8, 9)), "cuda": ("RTX 4090", (8, 9))}
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: gpus[device][0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: gpus[device][1])
    monkeypatch.setattr(torch.nn.Identity, "to", lambda self, device: self)
    monkeypatch.setattr("comfystream.accel.accelerate.machine", machine.__wrapped__)
    backend = FakeBackend("tensorrt", can_run=True)
    backend.plan_name = "engine.trt"
    spec, choice = ModelSpec("pair", (TensorSpec("x", "float32", (1,)),), ("y",)), Choice(backend, backend.probe(), "")
    digests = {}
    for device in ("cuda:0", "cuda:1", "cuda"):
        job = job_for(choice, torch.nn.Identity(), spec, How(device=device))
        assert job is not None
        digests[device] = job.key.digest
    assert digests["cuda:0"] == digests["cuda"] != digests["cuda:1"]


def test_single_precision_on_a_gpu_is_held_to_what_it_multiplies_with() -> None:
    assert tolerance("fp32", "cpu") == TOLERANCE["fp32"]
    assert tolerance("fp32", "cuda:0") == TOLERANCE["fp16"]
    assert tolerance("bf16", "cuda") == TOLERANCE["bf16"]
