"""On a real GPU: what is recorded gives what eager gives, and outlives nothing."""

from __future__ import annotations

import pytest
import torch
from tiny_models import PAIR, Pair

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.cache import EngineCache
from comfystream.accel.registry import probe_all

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("backend", ["cuda-graph", "inductor", "tensorrt", "tensorrt-rtx"])
def test_a_backend_gives_what_torch_gives(backend: str, tmp_path: object) -> None:
    can = {one.backend: one for one in probe_all()}[backend]
    if not (can.can_run and can.can_build):
        pytest.skip(f"{backend} NOT RUN: {can.reason}")
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
