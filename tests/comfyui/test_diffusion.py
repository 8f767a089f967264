"""A diffusion stream in stock ComfyUI: the same pictures by its executor as by our engine, prompt after prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process

HERE = Path(__file__).resolve().parent
PICTURES = ("one.png", "two.png", "one.png")
TOLERANCE = 1e-5


def graph(model: str, picture: str) -> dict[str, Any]:
    from workflows import keep, node

    return {
        "1": node("LoadImage", image=picture),
        "2": node("StreamDiffusionLoadModel", model=model),
        "3": node("StreamDiffusionPrompt", model=["2", 0], text="a cat"),
        "4": node(
            "StreamDiffusionSampler",
            model=["2", 0],
            image=["1", 0],
            prompt=["3", 0],
            t_index_list="20,40",
            num_inference_steps=50,
            cfg_type="self",
            guidance_scale=1.4,
            delta=0.8,
            seed=2,
        ),
        "5": keep("4"),
    }


def compare(checkout: str, folder: str, support: str) -> dict[str, Any]:
    """Runs in the other process: the largest difference per picture, and that between two pictures."""
    sys.path[:0] = [str(HERE), support]
    from test_pixels import difference, write_pictures

    from comfystream.catalog.comfyui import ComfyUIOptions
    from comfystream.catalog.standin import Folders
    from comfystream.engine.local import LocalEngine
    from comfystream.engine.once import OnceRunner
    from comfystream.engine.protocol import EngineOptions
    from comfystream.workflow.api_format import parse_api

    write_pictures(Path(folder))
    folders = Folders(base=folder, input=folder, output=folder)
    packs = (str(HERE / "keep_pack.py"),)
    engine = LocalEngine(EngineOptions(packs=packs, threads=1, folders=folders, comfyui=ComfyUIOptions(checkout)))
    kept = sys.modules[engine.host.catalog.get("TestKeep").cls.__module__].KEPT  # type: ignore[union-attr]

    import tiny

    import nodes
    from comfystream_nodes import streamdiffusion

    nodes.NODE_CLASS_MAPPINGS.update(streamdiffusion.OWN_CLASS_MAPPINGS)
    model = str(tiny.write_folder(Path(folder) / "tiny"))
    graphs = [graph(model, picture) for picture in PICTURES]
    runner = OnceRunner(engine.host)
    ours = []
    for one in graphs:
        runner.run(parse_api(one, source="test"))
        ours.append(dict(kept))
    runner.close()
    theirs = by_comfyui(graphs, kept)
    apart = difference(theirs[1], theirs[2])  # two steps are one picture of delay: what came second comes out third
    return {"worst": [difference(*pair) for pair in zip(ours, theirs, strict=True)], "apart": apart}


def by_comfyui(graphs: list[dict[str, Any]], kept: dict[str, Any]) -> list[dict[str, Any]]:
    """All graphs by one executor, so that the sampler keeps its stream from one to the next."""
    import asyncio

    import execution
    from test_pixels import new_executor

    executor, found = new_executor(), []
    for one in graphs:
        kept.clear()
        valid = asyncio.run(execution.validate_prompt("p", one, None))
        assert valid[0], valid
        executor.execute(one, "p", {}, valid[2])
        assert executor.success, executor.status_messages[-1]
        found.append(dict(kept))
    return found


@pytest.mark.comfyui
@pytest.mark.timeout(300)
def test_a_stream_gives_the_same_pictures(checkout: Path, python: str, tmp_path: Path) -> None:
    support = HERE.parent / "nodes" / "streamdiffusion"
    told = in_own_process(__file__, "compare", checkout, tmp_path, support, python=python, timeout_s=280)
    print(f"largest difference {max(told['worst']):.1e} in {len(PICTURES)} pictures")
    assert max(told["worst"]) <= TOLERANCE
    assert told["apart"] > 10 * TOLERANCE, "pictures that are all the same prove nothing"
