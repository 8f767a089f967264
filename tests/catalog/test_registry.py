"""Which class stands under which key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comfystream.catalog import CatalogOptions, PackSource, load_catalog


def test_the_last_custom_pack_wins(write_pack, load, v1_pack) -> None:
    write_pack("a", {"__init__.py": v1_pack(default=1)})
    write_pack("b", {"__init__.py": v1_pack(default=2)})
    spec = load().get("Plain")
    assert (spec.pack, spec.input("value")[1]["default"]) == ("b", 2)


def test_a_custom_pack_never_replaces_a_bundled_class(write_pack, load, v1_pack, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bundled_for_test.py").write_text(v1_pack(default=7))
    monkeypatch.syspath_prepend(tmp_path)
    write_pack("a", {"__init__.py": v1_pack(default=2) + "\nNODE_CLASS_MAPPINGS['More'] = Plain\n"})
    catalog = load(bundled=(PackSource("core", module="bundled_for_test"),))
    assert catalog.get("Plain").pack == "core"
    assert catalog.get("Plain").python_module == "nodes"
    assert catalog.get("More").pack == "a"
    assert [pack.keys for pack in catalog.packs()] == [("Plain",), ("More",)]


def test_packs_by_path_allow_and_block(write_pack, load, v1_pack, custom_nodes: Path) -> None:
    for name in "abc":
        write_pack(name, {"__init__.py": v1_pack(name.upper())})
    assert load(allow=("a", "b")).keys() == ["A", "B"]
    assert load(block=("a",)).keys() == ["B", "C"]
    assert load(pack_folders=(), packs=(str(custom_nodes / "b"),)).keys() == ["B"]
    twice = load(packs=(str(custom_nodes / "b"),))
    assert [pack.name for pack in twice.packs()] == ["a", "b", "c"]


def test_a_folder_that_is_not_there_is_reported(load, tmp_path: Path) -> None:
    (broken,) = load(pack_folders=(str(tmp_path / "gone"),)).broken()
    assert "does not exist" in broken.message


def test_a_missing_bundled_pack_is_reported(load) -> None:
    (broken,) = load(bundled=(PackSource("core", module="comfystream_no_such_pack"),)).broken()
    assert broken.pack == "core"


@pytest.mark.parametrize(("asked", "found"), [("Plian", "Plain"), ("plain", "Plain"), ("Zebra", None)])
def test_the_nearest_name(write_pack, load, v1_pack, asked: str, found: str | None) -> None:
    write_pack("a", {"__init__.py": v1_pack()})
    assert load().nearest(asked) == found


def test_refresh_reads_the_inputs_again(write_pack, load, tmp_path: Path) -> None:
    (tmp_path / "home" / "input").mkdir(parents=True)
    write_pack(
        "files.py",
        """
        import folder_paths, os
        class Pick:
            @classmethod
            def INPUT_TYPES(cls):
                return {"required": {"file": (sorted(os.listdir(folder_paths.get_input_directory())),)}}
            RETURN_TYPES = ()
            FUNCTION = "run"
            def run(self, file):
                return ()
        NODE_CLASS_MAPPINGS = {"Pick": Pick}
        """,
    )
    catalog = load()
    assert catalog.get("Pick").input("file")[0] == [], catalog.broken()
    (tmp_path / "home" / "input" / "new.png").write_bytes(b"")
    assert catalog.get("Pick").input("file")[0] == []
    assert catalog.refresh("Pick").input("file")[0] == ["new.png"]
    assert catalog.get("Pick").input("file")[0] == ["new.png"]
    assert catalog.refresh("No such node") is None


def test_packs_see_the_classes_before_them_in_nodes(write_pack, load, v1_pack) -> None:
    write_pack("a", {"__init__.py": v1_pack()})
    write_pack(
        "b",
        {
            "__init__.py": """
            from nodes import NODE_CLASS_MAPPINGS as known, Plain
            class Derived(Plain):
                RETURN_NAMES = ("derived",)
            assert known["Plain"] is Plain
            NODE_CLASS_MAPPINGS = {"Derived": Derived}
            """
        },
    )
    catalog = load()
    assert catalog.get("Derived").output_names == ("derived",), catalog.broken()


def test_importing_the_catalog_and_loading_plain_packs_takes_no_torch(tmp_path: Path, v1_pack) -> None:
    (tmp_path / "plain.py").write_text(v1_pack())
    code = (
        "import sys\n"
        "from comfystream.catalog import CatalogOptions, load_catalog\n"
        "catalog = load_catalog(CatalogOptions(packs=(sys.argv[1],), bundled=()))\n"
        "import folder_paths, comfy_api.latest, comfy_execution.graph_utils, nodes, server\n"
        "print(catalog.keys(), [m for m in ('torch', 'av', 'numpy', 'PIL') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "plain.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['Plain'] []"


def test_defaults_name_the_bundled_packs() -> None:
    assert [source.module for source in CatalogOptions().bundled] == [
        "comfystream_nodes.core",
        "comfystream_nodes.stream",
        "comfystream_nodes.streamdiffusion",
        "comfystream_nodes.accel",
    ]
    assert load_catalog(CatalogOptions(bundled=())).keys() == []
