from __future__ import annotations

import pytest

from comfystream.errors import ConfigError

torch = pytest.importorskip("torch")
from comfystream.media.device import backend  # noqa: E402
from comfystream.media.device.backend import CudaBackend, open_backend, why_no_device  # noqa: E402


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "why_no_device", lambda: "PyTorch finds no CUDA device")


@pytest.mark.usefixtures("without_gpu")
def test_a_device_that_is_named_and_not_there_is_an_error_and_never_replaced() -> None:
    with pytest.raises(ConfigError, match="PyTorch finds no CUDA device") as raised:
        open_backend("cuda")
    assert raised.value.code == "no_gpu"
    assert "--frames-on" in raised.value.hint


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("wanted", ["auto", "host"])
def test_without_a_gpu_frames_are_on_the_host(wanted: str) -> None:
    assert open_backend(wanted) is None


def test_the_reason_for_no_device_is_in_words() -> None:
    assert bool(why_no_device()) is not torch.cuda.is_available()


@pytest.mark.gpu
def test_a_gpu_is_taken_when_it_is_there() -> None:
    found = open_backend("auto")
    assert isinstance(found, CudaBackend)
    assert found.name.startswith("cuda:0 (")


@pytest.mark.gpu
def test_streams_and_events_of_a_gpu() -> None:
    found = CudaBackend()
    side, pinned, there = found.stream(), found.pinned(1 << 20), found.empty(1 << 20)
    pinned.fill_(7)
    with found.on(side):
        found.copy(there, pinned)
    copied = side.record()
    found.compute().wait_for(copied)
    there.add_(1)
    done = found.compute().record()
    done.wait()
    assert done.is_done()
    assert copied.is_done()
    assert int(there.sum()) == 8 << 20
