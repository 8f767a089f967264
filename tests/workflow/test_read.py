"""Reading: every form is recognised, every fault gets one clear line with its place."""

from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from comfystream.errors import WorkflowError
from comfystream.workflow import embedded
from comfystream.workflow.api_format import to_api
from comfystream.workflow.model import Link, Literal, Workflow
from comfystream.workflow.read import parse_workflow, read_workflow

PASS = {
    "1": {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}, "_meta": {"title": "out"}},
    "2": {"class_type": "LoadTensor", "inputs": {}, "is_changed": [1.0]},
}


def test_reads_the_api_format(tmp_path: Path) -> None:
    file = tmp_path / "edges.json"
    file.write_text(json.dumps(PASS))
    workflow = read_workflow(file)
    assert list(workflow.nodes) == ["1", "2"]
    assert workflow.nodes["1"].inputs == {"images": Link("2", 0)}
    assert workflow.nodes["1"].title == "out"
    assert workflow.source == "edges.json"


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (["2", 0], Link("2", 0)),
        (["2", 0.0], ["2", 0.0]),
        (["2", True], ["2", True]),
        ([2, 0], [2, 0]),
        ([1, 2, 3], [1, 2, 3]),
        ({"__value__": ["2", 0]}, Literal(["2", 0])),
        ({"__value__": 5}, 5),
        ({"a": 1}, {"a": 1}),
        (None, None),
    ],
)
def test_tells_links_from_constants(value: Any, meant: Any) -> None:
    workflow = parse_workflow({"1": {"class_type": "A", "inputs": {"x": value}}})
    assert workflow.nodes["1"].inputs["x"] == meant


def test_writes_what_it_read() -> None:
    document = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 1], "y": {"__value__": [1]}, "z": 3}, "_meta": {"title": "t"}},
        "2:3": {"class_type": "B", "inputs": {}},
    }
    assert to_api(parse_workflow(document)) == document


@pytest.mark.parametrize("envelope", [{"prompt": PASS, "client_id": "x"}, {"prompt": json.dumps(PASS)}])
def test_opens_the_envelope_of_a_queued_prompt(envelope: dict[str, Any]) -> None:
    assert to_api(parse_workflow(envelope)).keys() == PASS.keys()


def test_keeps_the_editor_form_of_an_envelope() -> None:
    ui = {"nodes": [], "links": []}
    workflow = parse_workflow({"prompt": PASS, "extra_data": {"extra_pnginfo": {"workflow": ui}}})
    assert workflow.ui == ui


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty_file", "w.json: the file is empty"),
        (b" \n\t", "empty_file", "the file is empty"),
        (b"\xff\xfe\x00", "not_json", "neither JSON text nor a PNG or WebP picture"),
        (b"hello", "json_syntax", "w.json:1:1: JSON syntax error"),
        (b'{"1": {\n  "a": 1,\n}}', "json_syntax", "w.json:3:1:"),
        (b'{"1": 2', "json_syntax", "the file ends too early"),
        (b"{\"a\": 'b'}", "json_syntax", "double quotes"),
        (b'{"a" 1}', "json_syntax", "w.json:1:6:"),
        (b"{} x", "json_syntax", "remove what follows"),
        (b"[" * 200_000, "json_syntax", "nested too deeply"),
        (b"[" + b"1" * 5000 + b"]", "json_syntax", "too large"),
        (b"[]", "not_a_workflow", "a list of 0 items"),
        (b"3", "not_a_workflow", "a single value"),
        (b"{}", "empty_workflow", "no nodes"),
        (b'{"prompt": {}}', "empty_workflow", "no nodes"),
        (b'{"a": 1}', "not_a_workflow", "neither nodes nor class_type"),
        (b'{"workflow": {"workflow": {}}}', "not_a_workflow", "none"),
        (b'{"1": {"class_type": "A"}, "2": 5}', "not_a_node", 'entry "2" is a number'),
        (b'{"1": {"class_type": "A"}, "2": {"inputs": {}, "_meta": {"title": "T"}}}', "missing_class_type", '"2" (T)'),
        (b'{"1": {"class_type": 5}}', "wrong_kind", 'class_type of node "1" is a number'),
        (b'{"1": {"class_type": ""}}', "wrong_kind", "an empty string"),
        (b'{"1": {"class_type": "A", "inputs": []}}', "wrong_kind", 'inputs of node "1" are a list'),
        (b'{"nodes": [], "links": []}', "needs_catalog", "Save (API Format)"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, code: str, words: str) -> None:
    file = tmp_path / "w.json"
    file.write_bytes(content)
    with pytest.raises(WorkflowError) as caught:
        read_workflow(file)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_says_when_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="no such file"):
        read_workflow(tmp_path / "none.json")
    with pytest.raises(WorkflowError, match="is a folder"):
        read_workflow(tmp_path)


def test_accepts_a_byte_order_mark() -> None:
    assert read_workflow(b"\xef\xbb\xbf" + json.dumps(PASS).encode()).nodes.keys() == {"1", "2"}


def picture(kind: str, **texts: str) -> bytes:
    """A small picture with texts in it, as ComfyUI's save nodes write them."""
    image, out = Image.new("RGB", (8, 8)), io.BytesIO()
    if kind == "webp":
        exif = image.getexif()
        for index, (name, text) in enumerate(texts.items()):
            exif[0x0110 - index] = f"{name}:{text}"
        image.save(out, "WEBP", exif=exif)
        return out.getvalue()
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        if kind == "comf":
            info.add(b"comf", name.encode() + b"\0" + text.encode(), after_idat=True)
        elif kind == "itxt":
            info.add_itxt(name, text, zip=True)
        else:
            info.add_text(name, text, zip=kind == "ztxt")
    image.save(out, "PNG", pnginfo=info)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["text", "ztxt", "itxt", "comf", "webp"])
def test_finds_the_workflow_in_a_picture(kind: str) -> None:
    ui = {"nodes": [{"id": 1, "type": "LoadTensor"}], "links": [], "extra": {"name": "gr\u00fcn"}}
    data = picture(kind, prompt=json.dumps(PASS), workflow=json.dumps(ui))
    workflow = read_workflow(data, source="p.png")
    assert workflow.nodes.keys() == PASS.keys()
    assert workflow.ui == ui


def test_takes_the_editor_form_of_a_picture_without_a_prompt(catalog: Any) -> None:
    ui = {"nodes": [{"id": 1, "type": "LoadTensor", "outputs": [{"name": "IMAGE", "type": "IMAGE"}]}], "links": []}
    assert read_workflow(picture("text", workflow=json.dumps(ui)), catalog).nodes.keys() == {"1"}


def test_says_when_a_picture_carries_nothing() -> None:
    with pytest.raises(WorkflowError, match="carries no workflow"):
        read_workflow(picture("text", parameters="steps: 5"))
    with pytest.raises(WorkflowError, match="JSON syntax error"):
        read_workflow(picture("text", prompt="{"))


def test_a_packed_text_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_TEXT_LIMIT", 1000)
    body = b"prompt\0\0" + zlib.compress(b"[" * 100_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + b"\0\0\0\0"
    assert len(embedded.embedded_texts(b"\x89PNG\r\n\x1a\n" + chunk)["prompt"]) == 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
NODE_KEYS = st.sampled_from(
    ["id", "type", "mode", "inputs", "outputs", "widgets_values", "properties", "title", "class_type", "_meta"]
)
NODE_VALUES = JSON | st.sampled_from(["Blur", "Resize", "sub", "GetNode", 4, 2])
DAMAGED_NODE = st.dictionaries(NODE_KEYS, NODE_VALUES, max_size=8)
DAMAGED_API = st.dictionaries(st.text(max_size=3), DAMAGED_NODE | JSON, max_size=4)
DAMAGED_UI = st.fixed_dictionaries(
    {"nodes": st.lists(DAMAGED_NODE | JSON, max_size=4)},
    optional={
        "links": st.lists(st.lists(st.integers(-20, 5) | JSON, max_size=6) | JSON, max_size=4),
        "definitions": JSON | st.fixed_dictionaries({"subgraphs": st.lists(JSON | DAMAGED_NODE, max_size=2)}),
    },
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail))
def test_any_bytes_give_a_workflow_or_a_workflow_error(data: bytes, catalog: Any) -> None:
    for content in (data, b"RIFF\0\0\0\0WEBPEXIF" + data):
        with suppress(WorkflowError):
            assert isinstance(read_workflow(content, catalog), Workflow)


@FUZZ
@given(document=JSON | DAMAGED_API | DAMAGED_UI | DAMAGED_API.map(lambda inner: {"prompt": inner}))
def test_any_json_gives_a_workflow_or_a_workflow_error(document: Any, catalog: Any) -> None:
    with suppress(WorkflowError):
        assert isinstance(parse_workflow(document, catalog), Workflow)
