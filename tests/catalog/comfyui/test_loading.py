"""A stub ComfyUI loaded as a real one is, each time in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_process import in_own_process
from stub_comfyui import write_comfyui, write_pack


def load(folder: str, options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Runs in the other process: load, and say what is there and what became of this process."""
    import logging
    import os
    import signal
    import sys

    logging.basicConfig(level=logging.ERROR)
    before = (sys.argv[:], sys.stdout, [*logging.getLogger().handlers], logging.getLogger().level, os.getcwd())
    interrupt = signal.getsignal(signal.SIGINT)

    from comfystream.catalog import CatalogOptions, load_catalog
    from comfystream.catalog.comfyui import ComfyUIOptions
    from comfystream.errors import ComfyStreamError

    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    try:
        catalog = load_catalog(CatalogOptions(comfyui=ComfyUIOptions(folder, **options), **more))
    except ComfyStreamError as error:
        return {"error": error.message, "hint": error.hint, "code": error.code}
    after = (sys.argv[:], sys.stdout, [*logging.getLogger().handlers], logging.getLogger().level, os.getcwd())
    modules = {name: getattr(sys.modules.get(name), "__file__", None) for name in ("nodes", "utils", "comfyui_version")}
    modules["ours"] = sys.modules["comfystream_nodes.stream"].__file__
    import comfy.model_management
    import folder_paths

    from server import PromptServer

    return {
        "packs": {spec.key: spec.pack for spec in catalog.specs()},
        "marks": getattr(catalog.get("ImageInvert").cls, "MARK", ""),
        "broken": [[broken.pack, broken.key, broken.message, broken.hint] for broken in catalog.broken()],
        "undisturbed": before == after and signal.getsignal(signal.SIGINT) is interrupt,
        "modules": modules,
        "checkpoints": folder_paths.get_folder_paths("checkpoints"),
        "routes": [[route.verb, route.path] for route in PromptServer.instance.routes],
        "vram": comfy.model_management.vram,
        "published": sorted(sys.modules["nodes"].NODE_CLASS_MAPPINGS),
        "last_places": sys.path[-1],
    }


def loaded(folder: Path, options: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return in_own_process(__file__, "load", folder, options or {}, more)


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    return write_comfyui(tmp_path / "Comfy UI")


@pytest.fixture(scope="module")
def everyday(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One ComfyUI with packs good and bad, and what came of loading it."""
    folder = write_comfyui(tmp_path_factory.mktemp("everyday") / "Comfy UI")
    packs = folder / "custom_nodes"
    write_pack(packs, "rude", "LoadTensor")
    write_pack(packs, "wave", "ImageWave")
    write_pack(folder / "elsewhere/more_nodes", "far", "ImageFar")
    write_pack(packs, "raises", "Raises", "raise ValueError('not today')")
    write_pack(packs, "leaves", "Leaves", "raise SystemExit(3)")
    write_pack(packs, "startles", "Startles")
    (packs / "startles" / "prestartup_script.py").write_text("1 / 0\n")
    return folder, loaded(folder)


def test_its_nodes_go_before_ours_which_fill_in_and_the_live_ones_stay(everyday: tuple[Path, dict]) -> None:
    _, told = everyday
    packs = told["packs"]
    assert told["marks"] == "theirs"
    assert {packs[key] for key in ("ImageInvert", "Extra", "Paid")} == {"ComfyUI"}
    assert packs["PreviewImage"] == "core"
    assert packs["LoadTensor"] == "comfystream"
    assert (packs["ImageWave"], packs["ImageFar"]) == ("wave", "far")
    assert {"ImageWave", "ImageFar"} <= set(told["published"])


def test_names_stay_apart_and_the_process_stays_ours(everyday: tuple[Path, dict], repository: Path) -> None:
    folder, told = everyday
    modules = told["modules"]
    assert Path(modules["nodes"]) == folder / "nodes.py"
    assert Path(modules["utils"]) == folder / "utils" / "__init__.py"
    assert Path(modules["ours"]) == repository / "nodes" / "stream" / "__init__.py"
    assert told["undisturbed"]
    assert Path(told["last_places"]) == folder / "comfy"


def test_what_is_broken_is_reported_with_the_reason_and_the_rest_is_there(everyday: tuple[Path, dict]) -> None:
    _, told = everyday
    reasons = {pack: (message, hint) for pack, _, message, hint in told["broken"]}
    assert set(reasons) == {"comfy_extras/nodes_broken.py", "raises", "leaves", "startles"}
    assert "a_package_that_is_not_there" in reasons["comfy_extras/nodes_broken.py"][0]
    assert "install" in reasons["comfy_extras/nodes_broken.py"][1]
    assert reasons["raises"][0] == "ValueError: not today"
    assert "SystemExit" in reasons["leaves"][0]
    assert reasons["startles"][0].startswith("prestartup_script.py: ZeroDivisionError")
    assert "Startles" in told["packs"]


def test_extra_model_paths_count(everyday: tuple[Path, dict]) -> None:
    folder, told = everyday
    assert str(folder / "elsewhere" / "weights") in told["checkpoints"]


def test_routes_are_kept(everyday: tuple[Path, dict]) -> None:
    assert everyday[1]["routes"] == [["get", "/extra"]]


def test_blocked_packs_are_not_imported_and_allowed_ones_are_the_only_ones(comfyui: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    for name in ("one", "two"):
        write_pack(comfyui / "custom_nodes", name, name.title(), f"open({str(seen)!r}, 'a').write('{name} ')")
    assert "One" not in loaded(comfyui, block=["one"])["packs"]
    assert seen.read_text() == "two "
    assert "Two" not in loaded(comfyui, allow=["one"])["packs"]
    assert seen.read_text() == "two one "


def test_api_nodes_can_stay_out_and_vram_passes_through(comfyui: Path) -> None:
    told = loaded(comfyui, {"api_nodes": False, "vram": "low"})
    assert "Paid" not in told["packs"]
    assert "Extra" in told["packs"]
    assert told["vram"] == "low"


def test_a_comfyui_that_parses_arguments_unasked_does_not_see_ours(tmp_path: Path) -> None:
    told = loaded(write_comfyui(tmp_path / "ui", parses_argv=True))
    assert "error" not in told


def test_an_unknown_version_is_tried(tmp_path: Path) -> None:
    told = loaded(write_comfyui(tmp_path / "ui", version="7.0.0"))
    assert told["packs"]["ImageInvert"] == "ComfyUI"


def test_an_unknown_version_that_does_not_load_says_which_ones_do(tmp_path: Path) -> None:
    folder = write_comfyui(tmp_path / "ui", version="7.0.0")
    (folder / "folder_paths.py").write_text("class Gone: pass\n")
    told = loaded(folder)
    assert told["code"] == "comfyui"
    assert "ComfyUI 7.0.0" in told["error"]
    assert "0.3.64 to 0.33" in told["hint"]


def test_a_package_that_it_needs_is_named(comfyui: Path) -> None:
    (comfyui / "nodes.py").write_text("import a_missing_package\n")
    told = loaded(comfyui)
    assert "a_missing_package" in told["error"]
    assert f"-m pip install -r {comfyui / 'requirements.txt'}" in told["hint"]


def mixed(first: str, second: str) -> dict[str, Any]:
    """Runs in the other process: a second ComfyUI beside the first."""
    load(first, {}, {})
    return load(second, {}, {})


def test_two_of_them_in_one_process_are_refused(comfyui: Path, tmp_path: Path) -> None:
    told = in_own_process(__file__, "mixed", comfyui, write_comfyui(tmp_path / "second"))
    assert told["code"] == "comfyui_loaded"
    assert str(comfyui) in told["error"]


def after_standins(folder: str) -> dict[str, Any]:
    """Runs in the other process: the stand-ins were in force before."""
    from comfystream.catalog import load_catalog

    load_catalog()
    return load(folder, {}, {})


def test_standins_do_not_give_way(comfyui: Path) -> None:
    told = in_own_process(__file__, "after_standins", comfyui)
    assert told["code"] == "comfyui_loaded"
    assert "stand-ins" in told["error"]


@pytest.mark.parametrize(
    ("version", "known"),
    [("0.3.63", False), ("0.3.64", True), ("0.9.0", True), ("0.33.0", True), ("0.33.7", True), ("0.34.0", False)]
    + [("1.0", False), ("", False)],
)
def test_which_versions_are_known(version: str, known: bool) -> None:
    from comfystream.catalog.comfyui.compat_loading import is_known

    assert is_known(version) is known


def test_models_and_packs_may_be_in_another_folder(comfyui: Path, tmp_path: Path) -> None:
    base = tmp_path / "my data"
    write_pack(base / "custom_nodes", "mine", "ImageMine")
    write_pack(comfyui / "custom_nodes", "left", "ImageLeft")
    more = tmp_path / "more paths.yaml"
    more.write_text(f"more:\n  base_path: {tmp_path}\n  checkpoints: weights of mine\n")
    told = loaded(comfyui, {"base": str(base), "extra_model_paths": [str(more)]})
    assert "ImageMine" in told["packs"]
    assert "ImageLeft" not in told["packs"]
    assert str(base / "models" / "checkpoints") in told["checkpoints"]
    assert str(tmp_path / "weights of mine") in told["checkpoints"]
    assert str(comfyui / "elsewhere" / "weights") in told["checkpoints"], "the checkout's own file counts as well"
