"""The catalog in ComfyUI's `/object_info` shape."""

from __future__ import annotations

import json
import logging
import pickle

PACK = '''
from enum import Enum
from comfy_api.latest import io

class Any(str):
    def __ne__(self, other):
        return False

class Size(Enum):
    small = 1

class Legacy:
    """V1."""
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"mode": (["a", "b"],), "n": ("INT", {"default": 1, "min": float("-inf")}), "x": (Any("*"),)},
            "hidden": {"me": "UNIQUE_ID"},
        }
    RETURN_TYPES = ("IMAGE", Any("*"))
    FUNCTION = "run"
    CATEGORY = "old"
    DESCRIPTION = "what it does"
    OUTPUT_NODE = True
    OUTPUT_TOOLTIPS = ("a picture",)
    DEPRECATED = True
    EXPERIMENTAL = False
    def run(self):
        return ()

class Odd(Legacy):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"x": ("INT", {"default": object()})}}

class Modern(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        same = io.MatchType.Template("t", [io.Image, io.Mask])
        return io.Schema(
            node_id="Modern", category="new", description="d", search_aliases=["m"], is_experimental=True,
            inputs=[
                io.Combo.Input("mode", options=["a", "b"], default="a", upload=io.UploadType.image),
                io.Int.Input("n", min=0, max=9, display_mode=io.NumberDisplay.slider,
                             control_after_generate=io.ControlAfterGenerate.fixed, optional=True),
                io.MatchType.Input("any", template=same),
                io.MultiType.Input(io.Float.Input("many", default=0.5), [io.Image, io.Mask]),
            ],
            outputs=[io.MatchType.Output(same), io.Mask.Output("m", tooltip="a mask")],
            hidden=[io.Hidden.unique_id],
        )
    @classmethod
    def execute(cls, **kwargs):
        return None

NODE_CLASS_MAPPINGS = {"Legacy": Legacy, "Odd": Odd, "Modern": Modern}
'''


def _info(write_pack, load) -> dict:
    from comfystream.catalog import object_info

    write_pack("pack.py", PACK)
    catalog = load()
    assert catalog.broken() == ()
    return object_info(catalog)


def test_a_v1_class(write_pack, load) -> None:
    assert _info(write_pack, load)["Legacy"] == {
        "input": {
            "required": {"mode": [["a", "b"]], "n": ["INT", {"default": 1, "min": None}], "x": ["*"]},
            "hidden": {"me": "UNIQUE_ID"},
        },
        "input_order": {"required": ["mode", "n", "x"], "hidden": ["me"]},
        "is_input_list": False,
        "output": ["IMAGE", "*"],
        "output_is_list": [False, False],
        "output_name": ["IMAGE", "*"],
        "name": "Legacy",
        "display_name": "Legacy",
        "description": "what it does",
        "python_module": "custom_nodes.pack",
        "category": "old",
        "output_node": True,
        "has_intermediate_output": False,
        "search_aliases": [],
        "output_tooltips": ["a picture"],
        "deprecated": True,
    }


def test_a_v3_class(write_pack, load) -> None:
    combo = {"multiselect": False, "options": ["a", "b"], "default": "a", "image_upload": True}
    template = {"template": {"template_id": "t", "allowed_types": "IMAGE,MASK"}}
    assert _info(write_pack, load)["Modern"] == {
        "input": {
            "required": {
                "mode": ["COMBO", combo],
                "any": ["COMFY_MATCHTYPE_V3", template],
                "many": ["FLOAT,IMAGE,MASK", {"default": 0.5, "widgetType": "FLOAT"}],
            },
            "optional": {"n": ["INT", {"min": 0, "max": 9, "display": "slider", "control_after_generate": "fixed"}]},
            "hidden": {"unique_id": ["UNIQUE_ID"]},
        },
        "input_order": {"required": ["mode", "any", "many"], "optional": ["n"], "hidden": ["unique_id"]},
        "is_input_list": False,
        "output": ["COMFY_MATCHTYPE_V3", "MASK"],
        "output_is_list": [False, False],
        "output_name": ["MATCHTYPE", "m"],
        "output_tooltips": [None, "a mask"],
        "output_matchtypes": ["t", None],
        "name": "Modern",
        "display_name": None,
        "description": "d",
        "python_module": "custom_nodes.pack",
        "category": "new",
        "output_node": False,
        "deprecated": False,
        "experimental": True,
        "dev_only": False,
        "api_node": False,
        "price_badge": None,
        "search_aliases": ["m"],
        "essentials_category": None,
        "has_intermediate_output": False,
    }


def test_a_class_that_json_has_no_form_for_is_left_out(write_pack, load, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        info = _info(write_pack, load)
    assert sorted(info) == ["Legacy", "Modern"]
    assert "node Odd is left out of object_info: TypeError: Odd.input.required.x.default" in caplog.text


def test_it_crosses_a_process_border_without_the_packs_classes(write_pack, load) -> None:
    info = _info(write_pack, load)
    assert json.loads(json.dumps(info, allow_nan=False)) == info
    assert b"comfystream_pack" not in pickle.dumps(info)
    assert type(info["Legacy"]["output"][1]) is str


def test_fresh_lists_of_files(write_pack, load) -> None:
    from comfystream.catalog import object_info

    write_pack(
        "files.py",
        """
        FILES = ["a"]
        class Pick:
            @classmethod
            def INPUT_TYPES(cls):
                if not FILES:
                    raise RuntimeError("the folder is gone")
                return {"required": {"file": (list(FILES),)}}
            FUNCTION = "run"
            def run(self, file):
                return ()
        NODE_CLASS_MAPPINGS = {"Pick": Pick}
        """,
    )
    catalog = load()
    files = catalog.get("Pick").cls.INPUT_TYPES.__globals__["FILES"]
    files.append("b")
    assert object_info(catalog)["Pick"]["input"]["required"]["file"] == [["a"]]
    assert object_info(catalog, fresh=True)["Pick"]["input"]["required"]["file"] == [["a", "b"]]
    files.clear()
    assert object_info(catalog, fresh=True) == {}
    assert catalog.get("Pick").input("file")[0] == ["a", "b"]
