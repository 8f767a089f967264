"""What the Inductor does differently for a GPU, as far as it shows without one."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor
import torch.utils._triton
import torch.utils.cpp_extension
from tiny_models import PAIR

from comfystream.accel import inductor
from comfystream.accel.graphed import GraphedRunner
from comfystream.accel.inductor import InductorBackend
from comfystream.accel.machine import Machine

H200 = Machine("Linux", "x86_64", "2.11.0", gpu="NVIDIA H200", compute_capability="9.0", driver="580", cuda="13.0")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor, "machine", lambda: H200)
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: True)
    monkeypatch.setattr(inductor, "compiler", lambda: "g++")


@pytest.mark.usefixtures("gpu")
def test_packages_for_a_gpu_need_the_headers_of_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", None)
    found = InductorBackend().probe()
    assert (found.can_build, found.can_run) == (False, True)
    assert found.reason == "engines can be run, not built: the headers of CUDA are not here"
    assert "CUDA_HOME" in found.hint
    monkeypatch.setattr(torch.utils.cpp_extension, "CUDA_HOME", str(tmp_path))
    assert not InductorBackend().probe().can_build
    (tmp_path / "include").mkdir()
    (tmp_path / "include/cuda_runtime_api.h").touch()
    assert InductorBackend().probe().can_build


@pytest.mark.usefixtures("gpu")
def test_packages_for_a_gpu_need_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor, "compiler", lambda: None)
    assert "there is no C++ compiler" in InductorBackend().probe().reason


class Package:
    """Notes when two threads are in it."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.together = threading.Barrier(2)

    def __call__(self, picture: torch.Tensor, strength: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.together.wait(0.1)
        self.inside -= 1
        return torch.zeros(2, 4, 8, 8), torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cuda", {"run_single_threaded": True, "device_index": -1}),
        ("cuda:1", {"run_single_threaded": True, "device_index": 1}),
        ("cpu", {"run_single_threaded": False, "device_index": -1}),
    ],
)
def test_a_package_is_loaded_for_its_device_and_for_recording(
    device: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def load(path: str, **how: Any) -> Package:
        given.update(how)
        return Package()

    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    runner = InductorBackend().load(Path("plan.pt2"), PAIR, device)
    assert given == expected
    assert isinstance(runner, GraphedRunner) == device.startswith("cuda")


def test_twins_take_turns_in_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package()
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path, **how: package)
    call = InductorBackend().load(Path("plan.pt2"), PAIR, "cuda").unrecorded()._call  # type: ignore[attr-defined]
    given = torch.zeros(2, 3, 8, 8), torch.zeros(2)
    threads = [threading.Thread(target=call, args=given) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert package.most == 1
