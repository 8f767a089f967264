"""Recording by the rules of CUDA and of torch's allocator, on a fake of what is below `torch.cuda.graph`."""

from __future__ import annotations

import threading

import pytest
import torch
from fake_cuda_graphs import POOLED, FakeCuda

from comfystream.accel.graphed import WARM_RUNS, GraphedRunner, capture_cuda_graph, cuda_capture
from comfystream.errors import EngineError
from comfystream.gpu_turns import device_wide

LONG_S = 30


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda().install(monkeypatch)


def test_it_is_warmed_recorded_and_done_again(cuda: FakeCuda) -> None:
    replay = capture_cuda_graph(lambda: cuda.work("unet"))
    assert cuda.done == ["unet"] * WARM_RUNS
    replay()
    assert cuda.done == ["unet"] * (WARM_RUNS + 1)
    assert cuda.graphs[0].mode == "thread_local"
    assert cuda.current() is cuda.default


def test_no_other_thread_is_ever_given_the_stream_of_the_recording(cuda: FakeCuda) -> None:
    """torch has 32 streams of usual priority: the 33rd is the first again."""

    def run() -> None:
        cuda.work("unet")
        if cuda.recorded is not None:  # meanwhile, for a frame that goes up
            for _ in range(POOLED):
                cuda.work("copy", torch.cuda.Stream())  # type: ignore[arg-type]

    capture_cuda_graph(run)
    assert cuda.graphs[0].work == ["unet"]
    assert cuda.done.count("copy") == POOLED


def test_a_recording_that_fails_leaves_nothing_behind(cuda: FakeCuda) -> None:
    """A tick that cannot be recorded goes on unrecorded: on its own stream, and others are recorded after it."""

    def run() -> None:
        cuda.work("unet")
        cuda.wait_in_recording()

    with pytest.raises(EngineError, match="cannot be recorded as a CUDA graph") as caught:
        capture_cuda_graph(run)
    assert caught.value.code == "not_capturable"
    assert cuda.current() is cuda.default
    assert not cuda.open_pools
    assert cuda.graphs[0].pool_id in cuda.released
    torch.cuda.empty_cache()
    capture_cuda_graph(lambda: cuda.work("vae"))()
    assert cuda.done[-1] == "vae"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), EngineError("unet: full", code="out_of_memory")]
)
def test_a_full_gpu_is_not_a_model_that_cannot_be_recorded(error: RuntimeError, cuda: FakeCuda) -> None:
    def run() -> None:
        if cuda.recorded is not None:
            raise error

    with pytest.raises(type(error)) as caught:
        capture_cuda_graph(run)
    assert caught.value is error
    assert not cuda.open_pools


def test_one_is_recorded_at_a_time_and_nobody_waits_for_the_device_meanwhile(cuda: FakeCuda) -> None:
    errors: list[BaseException] = []

    def others() -> None:
        try:
            capture_cuda_graph(lambda: cuda.work("other"))
            with device_wide():
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=others, daemon=True)

    def run() -> None:
        if cuda.recorded is not None:
            thread.start()
            thread.join(0.05)

    capture_cuda_graph(run)
    thread.join(LONG_S)
    assert not errors
    assert len(cuda.graphs) == 2


def test_it_is_recorded_on_the_device_of_the_model(cuda: FakeCuda) -> None:
    capture = cuda_capture("cuda:1")
    assert capture is not None
    capture(lambda: None)
    assert cuda.devices == ["cuda:1"]
    assert cuda_capture("cpu") is None


def test_a_runner_is_recorded_on_its_own_device(cuda: FakeCuda) -> None:
    from tiny_models import PAIR

    from comfystream.accel.eager import FunctionRunner

    kept = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4)
    inner = FunctionRunner(lambda *_: kept, PAIR, "cuda:1", "eager")
    GraphedRunner(inner).run({"picture": torch.zeros(2, 3, 8, 8), "strength": torch.zeros(2)})
    assert cuda.devices == ["cuda:1"]
