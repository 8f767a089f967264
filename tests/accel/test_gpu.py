"""On a real GPU: what is recorded gives what eager gives, and outlives nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from backends_here import need_backend
from tiny_models import PAIR, Pair

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.cache import EngineCache
from comfystream.accel.graphed import capture_cuda_graph
from comfystream.errors import EngineError
from comfystream.gpu_turns import device_wide

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("backend", ["cuda-graph", "inductor", "tensorrt", "tensorrt-rtx"])
def test_a_backend_gives_what_torch_gives(backend: str, tmp_path: object) -> None:
    need_backend(backend, to_build=True)
    module = Pair().cuda()
    runner = accelerate(module, PAIR, How(backend, "cuda", EngineCache(tmp_path))).runner  # type: ignore[arg-type]
    for batch in (2, 1, 4, 2):
        values = {"picture": torch.randn(batch, 3, 8, 8).cuda(), "strength": torch.rand(batch).cuda()}
        with torch.no_grad():
            mixed, mean = module(*values.values())
        found = runner.run(values)
        torch.testing.assert_close(found["mixed"], mixed, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(found["mean"], mean, rtol=1e-2, atol=1e-3)


def test_a_tick_takes_no_memory_and_does_not_wait() -> None:
    runner = accelerate(Pair().cuda(), PAIR, How("cuda-graph", "cuda")).runner
    values = {"picture": torch.randn(2, 3, 8, 8).cuda(), "strength": torch.rand(2).cuda()}
    runner.run(values)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            runner.run(values)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_after_a_recording_that_fails_all_goes_on() -> None:
    value = torch.ones(4, device="cuda")

    def waits() -> None:
        value.add_(float(value.sum().item()))

    with pytest.raises(EngineError, match="cannot be recorded") as caught:
        capture_cuda_graph(waits)
    assert caught.value.code == "not_capturable"
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()
    assert torch.randn(4, device="cuda").isfinite().all()  # torch's generator is well, too
    value.zero_()

    def adds() -> None:
        value.add_(1)

    replay = capture_cuda_graph(adds)
    value.zero_()
    replay()
    replay()
    assert value.tolist() == [2.0] * 4


def test_recordings_of_many_threads_beside_frames() -> None:
    """What is recorded, what waits for the device, and frames that take memory, on threads of their own."""
    is_over, errors = threading.Event(), list[Exception]()
    frame = torch.rand(3, 512, 512)

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except (RuntimeError, AssertionError) as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def frames() -> None:
        while not is_over.is_set():
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                up = frame.pin_memory().to("cuda", non_blocking=True)
            torch.cuda.current_stream().wait_stream(stream)
            (up * 2).cpu()
            with device_wide():
                torch.cuda.synchronize()
                torch.cuda.empty_cache()

    def record() -> None:
        for _ in range(10):
            runner = accelerate(Pair().cuda(), PAIR, How("cuda-graph", "cuda")).runner
            values = {"picture": torch.rand(2, 3, 8, 8).cuda(), "strength": torch.rand(2).cuda()}
            first = runner.results(values)["mixed"]
            torch.testing.assert_close(runner.results(values)["mixed"], first)
            runner.close()

    running = guarded(frames)
    recording = [guarded(record) for _ in range(3)]
    for thread in recording:
        thread.join(120)
    is_over.set()
    running.join(30)
    assert not errors
