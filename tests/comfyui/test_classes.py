"""All node classes of a real checkout load on the processor; real packs load or are reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process


def load(checkout: str, pack_folders: list[str]) -> dict[str, Any]:
    """Runs in the other process: what is there and what is not."""
    import logging

    logging.basicConfig(level=logging.ERROR)
    from comfystream.catalog import CatalogOptions, load_catalog, object_info
    from comfystream.catalog.comfyui import ComfyUIOptions

    catalog = load_catalog(CatalogOptions(comfyui=ComfyUIOptions(checkout), pack_folders=tuple(pack_folders)))
    import nodes

    packs: dict[str, int] = {}
    for spec in catalog.specs():
        packs[spec.pack] = packs.get(spec.pack, 0) + 1
    unread = sorted(set(nodes.NODE_CLASS_MAPPINGS) - set(catalog.keys()))
    broken = [[broken.pack, broken.key, broken.message, broken.hint] for broken in catalog.broken()]
    return {"packs": packs, "unread": unread, "broken": broken, "described": len(object_info(catalog))}


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_all_classes_load(checkout: Path, python: str) -> None:
    told = in_own_process(__file__, "load", checkout, [], python=python, timeout_s=580)
    print(f"{told['packs']['ComfyUI']} classes of ComfyUI, {sum(told['packs'].values())} in all; {told['broken']}")
    assert told["packs"]["ComfyUI"] >= 495
    assert told["packs"]["comfystream"] == 8
    assert told["unread"] == []
    assert told["described"] == sum(told["packs"].values())
    for pack, _, message, hint in told["broken"]:  # a file of its own whose packages are not installed here
        assert message.startswith("ModuleNotFoundError"), (pack, message)
        assert "install" in hint


@pytest.mark.comfyui
@pytest.mark.timeout(600)
def test_real_packs_load_or_are_reported(checkout: Path, python: str) -> None:
    folder = os.environ.get("COMFYUI_PACKS")
    if not folder:
        pytest.skip("COMFYUI_PACKS names no folder of node packs (clones, as in custom_nodes)")
    told = in_own_process(__file__, "load", checkout, [folder], python=python, timeout_s=580)
    whole = {pack: (message, hint) for pack, key, message, hint in told["broken"] if not key}
    for pack in sorted(path.name for path in Path(folder).iterdir() if path.is_dir()):
        count = told["packs"].get(pack, 0)
        print(f"{pack}: {f'{count} classes' if count else whole.get(pack)}")
        assert count or whole.get(pack, ("",))[0], f"{pack} gave nothing, and nobody was told why"
