from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from comfystream.catalog.model_folders import model_folders

PACK = """
import folder_paths

class Loads:
    RETURN_TYPES, FUNCTION = ("MODEL",), "run"
    @classmethod
    def INPUT_TYPES(cls):
        names = ["none"] + folder_paths.get_filename_list("loras")
        return {"required": {"lora": (names,), "mode": (["a"],), "new": ("COMBO", {"options": names})}}
    def run(self, **_): return (None,)

class Fails(Loads):
    @classmethod
    def INPUT_TYPES(cls):
        files = folder_paths.get_filename_list("loras")
        if "loras" in files:
            raise ValueError("that is no file")
        return {"required": {"lora": (files,)}}

NODE_CLASS_MAPPINGS = {"Loads": Loads}
"""


def test_the_inputs_that_list_a_folder_and_the_folder(write_pack, load) -> None:
    write_pack("loads.py", PACK)
    found = model_folders(load().get("Loads"))
    assert set(found) == {"lora", "new"}
    kind, folder = found["lora"]
    assert kind == "loras"
    assert Path(folder).parts[-2:] == ("models", "loras")


def test_a_class_that_cannot_live_with_that_tells_nothing_and_breaks_nothing(write_pack, load) -> None:
    write_pack("loads.py", PACK)
    spec = load().get("Loads")
    fails = sys.modules[spec.cls.__module__].Fails
    assert model_folders(replace(spec, cls=fails)) == {}
    import folder_paths

    assert folder_paths.get_filename_list("loras") == []  # the answers are real ones again
