from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from comfystream.catalog.from_object_info import ObjectInfoCatalog
from comfystream.workflow.missing import Missing, Origin, find_missing
from comfystream.workflow.read import parse_workflow

INFO = {
    "Loader": {"input": {"required": {"name": [["there.safetensors"], {}], "mode": [["a", "b"], {}]}}, "output": ["X"]},
    "New": {"input": {"required": {"name": ["COMBO", {"options": []}]}}, "output": ["X"]},
    "Far": {"input": {"required": {"name": ["COMBO", {"options": [], "remote": {"route": "/x"}}]}}, "output": ["X"]},
}
CATALOG = ObjectInfoCatalog(INFO)


def missing(document: Any, folders: dict[str, tuple[str, str]] | None = None) -> Missing:
    workflow = parse_workflow(document, CATALOG)
    return find_missing(workflow, CATALOG, (lambda spec: folders) if folders is not None else None)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def test_a_class_that_is_used_twice_is_one_line() -> None:
    found = missing({"1": node("Gone"), "2": node("Gone"), "3": node("Loader", name="there.safetensors", mode="a")})
    assert [(one.class_type, one.nodes, one.origin) for one in found.classes] == [("Gone", ("1", "2"), None)]
    assert found.files == ()


def test_a_model_file_goes_into_the_folder_that_the_input_lists() -> None:
    graph = {"1": node("Loader", name="sub\\x.safetensors", mode="c")}
    (file,) = missing(graph, {"name": ("loras", "/models/loras")}).files
    assert (file.name, file.kind, file.folder) == ("sub\\x.safetensors", "loras", "/models/loras")
    assert file.node.startswith("node 1")


def test_a_file_whose_folder_nobody_tells_is_known_by_its_ending() -> None:
    graph = {"1": node("New", name="a.gguf"), "2": node("New", name="fancy"), "3": node("Far", name="b.gguf")}
    assert [(file.name, file.folder) for file in missing(graph).files] == [("a.gguf", "")]


@pytest.mark.parametrize(("name", "is_there"), [("a/b", True), ("c.safetensors", False), (" ", True)])
def test_a_model_that_a_text_input_names(name: str, is_there: bool) -> None:
    option = {"model_folders": ["loras", "extra"]}
    info = {"Named": {"input": {"optional": {"lora": ["STRING", option], "words": ["STRING", {}]}}, "output": ["X"]}}
    catalog = ObjectInfoCatalog(info)
    asked = []

    def missing_model(name: str, kinds: Sequence[str]) -> str | None:
        asked.append((name, list(kinds)))
        return None if is_there else "/models/loras"

    graph = {"1": node("Named", lora=name, words="gone.safetensors"), "2": node("Named", lora=["1", 0])}
    files = find_missing(parse_workflow(graph, catalog), catalog, None, missing_model).files
    assert asked == ([(name, ["loras", "extra"])] if name.strip() else [])
    wanted = [] if is_there else [(name, "lora", "loras", "/models/loras")]
    assert [(file.name, file.input_name, file.kind, file.folder) for file in files] == wanted


def ui_node(id: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": kind, "mode": 0, "inputs": [], "outputs": [{"name": "x", "type": "X"}], **more}


@pytest.mark.parametrize("models", [[{"name": "x.safetensors", "url": "https://a.example/x"}], "nonsense", [3], None])
def test_the_editor_s_file_says_where_classes_and_models_are_from(models: Any) -> None:
    loader = ui_node(1, "Loader", widgets_values=["x.safetensors", "a"], properties={"models": models})
    gone = ui_node(2, "Gone", properties={"cnr_id": "a-pack", "aux_id": "me/a-pack", "ver": "1.2"})
    found = missing({"nodes": [loader, gone], "links": []})
    assert found.classes[0].origin == Origin("a-pack", "me/a-pack", "1.2")
    is_told = isinstance(models, list) and isinstance(models[0], dict)
    assert [file.url for file in found.files] == ["https://a.example/x" if is_told else ""]
