"""Packs on disk: what loads, what breaks, and that the broken never stop the rest."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from comfystream.catalog.loader import module_name
from comfystream.catalog.packs import find_pack, find_packs
from comfystream.errors import AssetError

V3_NODE = """
from comfy_api.latest import ComfyExtension, io

class Doubled(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="Doubled", display_name="Double it", inputs=[io.Int.Input("a")],
                         outputs=[io.Int.Output()])
    @classmethod
    def execute(cls, a):
        return io.NodeOutput(a * 2)
"""

V3_PACK = (
    V3_NODE
    + """
class Pack(ComfyExtension):
    async def on_load(self):
        order.append("on_load")
    async def get_node_list(self):
        order.append("get_node_list")
        return [Doubled]
order = []
"""
)


def test_a_v1_pack_gives_its_classes(write_pack, load, v1_pack) -> None:
    names = '\nNODE_DISPLAY_NAME_MAPPINGS = {"Plain": "Plain and simple"}\nWEB_DIRECTORY = "./js"\n'
    write_pack("simple", {"__init__.py": v1_pack() + names})
    catalog = load()
    spec = catalog.get("Plain")
    assert spec is not None
    assert (spec.api, spec.display_name, spec.pack) == ("v1", "Plain and simple", "simple")
    assert spec.python_module == "custom_nodes.simple"
    (pack,) = catalog.packs()
    assert pack.keys == ("Plain",)
    assert pack.web_directory is not None
    assert pack.web_directory.name == "js"
    assert catalog.broken() == ()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_v3_pack_is_loaded_first_and_asked_then(write_pack, load, kind: str) -> None:
    write_pack("modern", {"__init__.py": f"{V3_PACK}\n{kind} comfy_entrypoint():\n    return Pack()\n"})
    catalog = load()
    spec = catalog.get("Doubled")
    assert spec is not None, catalog.broken()
    assert (spec.api, spec.display_name, spec.output_types) == ("v3", "Double it", ("INT",))
    assert sys.modules[spec.cls.__module__].order == ["on_load", "get_node_list"]


def test_an_entrypoint_is_awaited_where_a_loop_runs_already(write_pack, load) -> None:
    write_pack("modern", {"__init__.py": f"{V3_PACK}\nasync def comfy_entrypoint():\n    return Pack()\n"})

    async def from_a_loop() -> list[str]:
        return load().keys()

    assert asyncio.run(from_a_loop()) == ["Doubled"]


def test_v1_mappings_win_over_an_entrypoint(write_pack, load, v1_pack) -> None:
    write_pack("both", {"__init__.py": v1_pack() + V3_PACK + "\ndef comfy_entrypoint():\n    return Pack()\n"})
    assert load().keys() == ["Plain"]


def test_mappings_may_hold_v3_classes(write_pack, load) -> None:
    write_pack("mixed.py", V3_NODE + '\nNODE_CLASS_MAPPINGS = {"Other key": Doubled}\n')
    spec = load().get("Other key")
    assert spec is not None
    assert spec.api == "v3"


@pytest.mark.parametrize("name", ["with spaces", "with-dashes", "with.dots", "123 digits", "Ümläut", "class"])
def test_odd_folder_names_and_relative_imports(write_pack, load, v1_pack, name: str) -> None:
    write_pack(
        name,
        {
            "__init__.py": "from .parts.plain import NODE_CLASS_MAPPINGS\n",
            "parts/__init__.py": "",
            "parts/plain.py": "from ..shared import NAME\n" + v1_pack(),
            "shared.py": "NAME = 'x'\n",
        },
    )
    catalog = load()
    assert catalog.keys() == ["Plain"], catalog.broken()
    assert catalog.get("Plain").python_module == f"custom_nodes.{name}"


def test_module_names_differ_for_like_named_folders(tmp_path: Path) -> None:
    names = {module_name(tmp_path / name) for name in ("a b", "a-b", "a_b")}
    assert len(names) == 3
    assert all(name.isidentifier() for name in names)


def test_what_a_folder_of_packs_holds(custom_nodes: Path) -> None:
    for name in ("__pycache__", ".git", "old.disabled", "good"):
        (custom_nodes / name).mkdir()
    for name in ("single.py", "notes.txt", "template.py.example", "off.py.disabled"):
        (custom_nodes / name).write_text("")
    assert [source.name for source in find_packs(custom_nodes)] == ["good", "single"]


@pytest.mark.parametrize(("name", "text"), [("nowhere", "no node pack"), ("nowhere.py", "does not exist")])
def test_a_pack_that_is_not_there(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(AssetError, match=text):
        find_pack(tmp_path / name)


BROKEN = {
    "missing module": ("import no_such_module_anywhere\n", "ModuleNotFoundError", "no_such_module_anywhere"),
    "syntax": ("def broken(:\n", "SyntaxError", ""),
    "raises": ("raise RuntimeError('boom at import')\n", "RuntimeError: boom at import", ""),
    "exits": ("import sys\nsys.exit(3)\n", "SystemExit: 3", "ended the program"),
    "no entry": ("x = 1\n", "neither NODE_CLASS_MAPPINGS nor comfy_entrypoint", "may not be a pack"),
    "entry raises": ("def comfy_entrypoint():\n    1 / 0\n", "ZeroDivisionError", ""),
    "no extension": ("def comfy_entrypoint():\n    return 5\n", "returned int", ""),
    "needs models": ("import comfy.samplers\n", "comfy.samplers is part of ComfyUI", "needs a real ComfyUI"),
    "needs a name": ("from comfy.utils import deepcopy_list_dict\n", "deepcopy_list_dict", "needs a real ComfyUI"),
    "needs extras": ("import comfy_extras.nodes_mask\n", "comfy_extras is part of ComfyUI", "needs a real ComfyUI"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_pack_is_reported_and_the_rest_loads(write_pack, load, v1_pack, how: str) -> None:
    source, message, hint = BROKEN[how]
    write_pack("a broken one", {"__init__.py": source})
    write_pack("z good", {"__init__.py": v1_pack()})
    catalog = load()
    assert catalog.keys() == ["Plain"]
    (broken,) = catalog.broken()
    assert broken.pack == "a broken one"
    assert message in broken.message
    assert hint in broken.hint
    assert not broken.hint or broken.hint not in broken.message  # people see both, one after the other
    assert "\n" not in broken.message
    assert broken.message.split(":")[0] in broken.trace.splitlines()[-1]


def test_the_traceback_names_the_line_in_the_pack(write_pack, load) -> None:
    place = write_pack("deep", {"__init__.py": "from .inner import x\n", "inner.py": "\n\n1 / 0\n"})
    (broken,) = load().broken()
    assert f'File "{place / "inner.py"}", line 3' in broken.trace


def test_a_folder_without_init_is_reported(write_pack, load) -> None:
    write_pack("just files", {"readme.txt": "hello"})
    (broken,) = load().broken()
    assert "has no __init__.py" in broken.message


def test_a_broken_pack_leaves_no_modules_behind(write_pack, load) -> None:
    place = write_pack("half", {"__init__.py": "from . import good\n1 / 0\n", "good.py": ""})
    load()
    assert not [name for name in sys.modules if name.startswith(module_name(place))]


BAD_CLASSES = {
    "INPUT_TYPES raises": ("class Bad:\n    @classmethod\n    def INPUT_TYPES(cls):\n        1 / 0\n", "ZeroDivision"),
    "no INPUT_TYPES": ("class Bad:\n    FUNCTION = 'run'\n", "INPUT_TYPES"),
    "no method": (
        "class Bad:\n    FUNCTION = 'gone'\n    @classmethod\n    def INPUT_TYPES(cls):\n        return {}\n",
        "no method 'gone'",
    ),
    "not a class": ("Bad = 5\n", "int"),
}


@pytest.mark.parametrize("how", BAD_CLASSES)
def test_a_bad_class_does_not_take_its_pack_along(write_pack, load, v1_pack, how: str) -> None:
    source, message = BAD_CLASSES[how]
    write_pack("some bad", {"__init__.py": v1_pack() + source + "\nNODE_CLASS_MAPPINGS['Bad'] = Bad\n"})
    catalog = load()
    assert catalog.keys() == ["Plain"]
    (broken,) = catalog.broken()
    assert (broken.pack, broken.key) == ("some bad", "Bad")
    assert message in broken.message


def test_prestartup_scripts_run_before_any_pack(write_pack, load, v1_pack, monkeypatch) -> None:
    write_pack("a", {"__init__.py": "import os\nassert os.environ['PREPARED_BY_B'] == '1'\n" + v1_pack()})
    script = "import os\nos.environ['PREPARED_BY_B'] = '1'\n"
    write_pack("b", {"__init__.py": v1_pack("B"), "prestartup_script.py": script})
    monkeypatch.setenv("PREPARED_BY_B", "0")
    catalog = load()
    assert catalog.keys() == ["B", "Plain"], catalog.broken()


def test_a_failing_prestartup_script_is_reported_and_its_pack_loads(write_pack, load, v1_pack) -> None:
    write_pack("a", {"__init__.py": v1_pack(), "prestartup_script.py": "1 / 0\n"})
    catalog = load()
    assert catalog.keys() == ["Plain"]
    assert catalog.broken()[0].message.startswith("prestartup_script.py: ZeroDivisionError")


def test_a_pack_is_read_again_when_it_is_loaded_again(write_pack, load, v1_pack) -> None:
    write_pack("a", {"__init__.py": "from .part import *\n", "part.py": v1_pack(default=1)})
    assert load().get("Plain").input("value")[1]["default"] == 1
    write_pack("a", {"part.py": v1_pack(default=1000)})
    assert load().get("Plain").input("value")[1]["default"] == 1000
