"""Ten graphs through ComfyUI's own executor and through ours, in one process, on the node classes of the checkout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5


def compare(checkout: str, folder: str) -> dict[str, Any]:
    """Runs in the other process: per graph the largest difference, and what was compared."""
    sys.path.append(str(HERE))
    from comfystream.catalog.comfyui import ComfyUIOptions
    from comfystream.catalog.standin import Folders
    from comfystream.engine.local import LocalEngine
    from comfystream.engine.once import OnceRunner
    from comfystream.engine.protocol import EngineOptions
    from comfystream.workflow.api_format import parse_api
    from workflows import WORKFLOWS

    write_pictures(Path(folder))
    folders = Folders(base=folder, input=folder, output=folder)
    packs = (str(HERE / "keep_pack.py"),)
    engine = LocalEngine(EngineOptions(packs=packs, threads=1, folders=folders, comfyui=ComfyUIOptions(checkout)))
    kept = sys.modules[engine.host.catalog.get("TestKeep").cls.__module__].KEPT  # type: ignore[union-attr]
    told: dict[str, Any] = {}
    for name, graph in WORKFLOWS.items():
        kept.clear()
        runner = OnceRunner(engine.host)
        runner.run(parse_api(graph, source=name))
        ours = dict(kept)
        kept.clear()
        theirs = by_comfyui(graph, kept)
        runner.close()
        told[name] = {"kept": sorted(ours), "same": sorted(theirs), "worst": difference(ours, theirs)}
    return told


def write_pictures(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(7)
    for name in ("one.png", "two.png"):
        rough = random.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((96, 64), Image.Resampling.BICUBIC).save(folder / name)


def new_executor() -> Any:
    """ComfyUI's own, of the version that is loaded."""
    import execution

    import server

    arguments: dict[str, Any] = {"cache_type": execution.CacheType.CLASSIC}
    if "RAM_PRESSURE" in execution.CacheType.__members__:
        arguments["cache_args"] = {"lru": 0, "ram": 2.0, "ram_inactive": 16.0}
    return execution.PromptExecutor(server.PromptServer.instance, **arguments)


def by_comfyui(graph: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    import asyncio

    import execution

    executor = new_executor()
    valid = asyncio.run(execution.validate_prompt("p", graph, None))
    assert valid[0], valid
    executor.execute(graph, "p", {}, valid[2])
    assert executor.success, executor.status_messages[-1]
    return dict(kept)


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference between two values of the same form."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        return max((difference(ours[key], theirs[key]) for key in theirs), default=0.0)
    if isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        return max((difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    if hasattr(theirs, "shape"):
        assert ours.shape == theirs.shape
        return float((ours.double() - theirs.double()).abs().max())
    return 0.0 if ours == theirs else float("inf")


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_ten_workflows_give_the_same_pixels(checkout: Path, python: str, tmp_path: Path) -> None:
    told = in_own_process(__file__, "compare", checkout, tmp_path, python=python, timeout_s=580)
    assert len(told) == 10
    for name, graph in told.items():
        assert graph["kept"] == graph["same"], name
        assert graph["kept"], name
    worst = {name: graph["worst"] for name, graph in told.items()}
    print(f"largest difference {max(worst.values()):.1e} in {len(worst)} workflows")
    assert {name: value for name, value in worst.items() if value > TOLERANCE} == {}
