"""torch's compiler: engines that are kept, at both ends of a range. Compiling takes a while."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import PAIR, Pair

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.cache import EngineCache
from comfystream.accel.inductor import InductorBackend
from comfystream.accel.machine import machine
from comfystream.errors import EngineError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not InductorBackend().probe().can_run, reason="needs what the Inductor compiles with (g++)"),
]


def test_an_engine_is_compiled_once_and_right_at_every_batch(tmp_path: Path) -> None:
    module, cache = Pair().eval(), EngineCache(tmp_path)
    heard: list[str] = []
    how = How("inductor", cache=cache)
    for _ in range(2):
        made = accelerate(module, PAIR, how, on_build=lambda progress: heard.append(progress.step))
        for batch in (1, 2, 4, 1):
            values = {"picture": torch.randn(batch, 3, 8, 8), "strength": torch.rand(batch)}
            with torch.no_grad():
                mixed, mean = module.to("cpu")(*values.values())
            found = made.runner.run(values)
            torch.testing.assert_close(found["mixed"].cpu(), mixed, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found["mean"].cpu(), mean, rtol=1e-4, atol=1e-5)
    assert heard.count("compiling") == 1


def test_without_an_engine_it_compiles_in_the_process() -> None:
    module = Pair().eval()
    runner = InductorBackend().wrap(module, PAIR, machine().device)
    values = {"picture": torch.randn(2, 3, 8, 8), "strength": torch.rand(2)}
    found = runner.run(values)["mixed"].cpu()
    torch.testing.assert_close(found, module.to("cpu")(*values.values())[0], rtol=1e-4, atol=1e-5)


def test_a_broken_package_is_refused_in_words(tmp_path: Path) -> None:
    plan = tmp_path / "plan.pt2"
    plan.write_bytes(b"no package" * 100)
    with pytest.raises(EngineError, match="plan.pt2: not a compiled package for this machine") as caught:
        InductorBackend().load(plan, PAIR, "cpu")
    assert caught.value.code == "engine_refused"
