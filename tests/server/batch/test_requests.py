"""Batch requests over HTTP: what goes in, what comes out, and who is told what is wrong."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from batch_harness import batches, coded, png, save
from engine_harness import link, node
from on_loop import on_loop
from PIL import Image

from comfystream.engine.child import ChildEngine
from comfystream_server.batch import asked


def through(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Picture in, one node, picture out."""
    return {
        "in": node("LoadImage", image="example.png"),
        "n": node(class_type, image=link("in"), **inputs),
        "out": node("SaveImage", images=link("n"), filename_prefix="batch"),
    }


@pytest.mark.parametrize("form", ["base64", "data URL", "raw", "form", "params"])
@on_loop
async def test_a_picture_comes_in_any_form(shared_engine: ChildEngine, tmp_path: Path, form: str) -> None:
    save(tmp_path, "negative", through("ImageInvert"))
    data = png(55)
    async with batches(shared_engine, tmp_path) as worker:
        match form:
            case "base64":
                reply = await worker.post("/negative", {"image": coded(data)})
            case "data URL":
                reply = await worker.post("/negative", {"image": f"data:image/png;base64,{coded(data)}"})
            case "params":
                reply = await worker.post("/negative", {"params": {"image": coded(data)}})
            case "raw":
                reply = await worker.post("/negative", data=data, headers={"Content-Type": "image/png"})
            case _:
                parts = aiohttp.FormData()
                parts.add_field("image", data, filename="a.png", content_type="image/png")
                reply = await worker.post("/negative", data=parts)
    assert (reply.status, reply.mime) == (200, "image/png"), reply.body[:500]
    assert reply.picture.size == (40, 30)
    assert reply.picture.getpixel((5, 5)) == (200, 200, 200)
    assert reply.metadata["workflow"] == "negative"
    assert (reply.metadata["width"], reply.metadata["height"]) == (40, 30)


@on_loop
async def test_bundled_workflows_answer_out_of_the_box(shared_engine: ChildEngine) -> None:
    async with batches(shared_engine) as worker:
        edges = await worker.post("/image-to-image", {"image": coded(png())})
        assert (edges.status, edges.metadata["workflow"], edges.picture.size) == (200, "edges", (40, 30))
        chosen = await worker.post("/image-to-image", {"image": coded(png(55)), "workflow": "invert"})
        assert (chosen.metadata["workflow"], chosen.picture.getpixel((9, 9))) == ("invert", (200, 200, 200))
        larger = await worker.post("/upscale", {"image": coded(png()), "scale": 3})
        assert (larger.status, larger.picture.size) == (200, (120, 90))
        made = await worker.post("/backdrop")
        assert (made.status, made.picture.size) == (200, (512, 512))
        by_capability = await worker.post("/capability/test/edges", {"image": coded(png())})
        assert by_capability.status == 200
        under_api = await worker.post("/api/edges", {"image": coded(png())})
        assert under_api.status == 200
        assert await worker.status() == "IDLE"


@on_loop
async def test_pictures_of_a_text_take_a_workflow_of_the_operator(shared_engine: ChildEngine, tmp_path: Path) -> None:
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/text-to-image", {"prompt": "a house"})
        assert (reply.status, reply.error["code"]) == (404, "no_workflow")
        assert "--capability text-to-image=FILE" in reply.error["hint"]
        save(tmp_path, "text-to-image", through("ImageInvert"))
        assert (await worker.post("/text-to-image", {"prompt": "x", "image": coded(png())})).error["field"] == "prompt"


@on_loop
async def test_the_capability_itself_runs_its_workflow(shared_engine: ChildEngine, tmp_path: Path) -> None:
    save(tmp_path, "mine", through("ImageInvert"))
    async with batches(shared_engine, capabilities={"negative": tmp_path / "mine.json", "bare": None}) as worker:
        for path in ("/", "/negative", "/capability/negative", "/image-to-image"):
            reply = await worker.post(path, {"image": coded(png(55))})
            assert (reply.status, reply.metadata["workflow"]) == (200, "negative"), path
        assert (await worker.post("/capability/bare", {})).status == 404
        assert (await worker.post("/capability/none/edges", {})).error["code"] == "unknown_capability"


FORMS = [
    ({"format": "jpeg"}, "", "image/jpeg"),
    ({"format": "webp", "quality": 50}, "", "image/webp"),
    ({}, "image/webp", "image/webp"),
    ({}, "text/html, image/jpeg;q=0.5, image/png;q=0.2", "image/jpeg"),
    ({}, "*/*", "image/png"),
    ({}, "application/json", "application/json"),
    ({"format": "png"}, "application/json", "image/png"),
    ({}, "video/mp4", "video/mp4"),
    ({}, "text/event-stream", "text/event-stream"),
    ({"stream": True}, "image/jpeg", "text/event-stream"),
]


@pytest.mark.parametrize(("more", "accept", "mime"), FORMS)
@on_loop
async def test_the_form_of_the_answer(shared_engine: ChildEngine, more: Any, accept: str, mime: str) -> None:
    headers = {"Accept": accept} if accept else {}
    async with batches(shared_engine) as worker:
        reply = await worker.post("/invert", {"image": coded(png(55)), **more}, headers=headers)
        assert (reply.status, reply.mime) == (200, mime), reply.body[:500]
        if mime.startswith("image"):
            assert reply.picture.format == mime.split("/")[1].upper()
        if mime == "application/json":
            inner = Image.open(io.BytesIO(base64_of(reply.json["images"][0])))
            assert inner.getpixel((3, 3)) == (200, 200, 200)
        if mime == "video/mp4":
            assert reply.body[4:8] == b"ftyp"


def base64_of(url: str) -> bytes:
    import base64

    head, _, data = url.partition(",")
    assert head.startswith("data:")
    assert head.endswith(";base64")
    return base64.b64decode(data)


@on_loop
async def test_several_results_are_json_unless_one_is_asked_for(shared_engine: ChildEngine, tmp_path: Path) -> None:
    three = {
        "a": node("EmptyImage", width=16, height=16, batch_size=3, color=0xFF0000),
        "out": node("PreviewImage", images=link("a")),
        "text": node("PreviewAny", source="a word"),
    }
    save(tmp_path, "three", three)
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/three")
        assert (reply.status, reply.mime, reply.metadata["results"]) == (
            200,
            "application/json",
            {"image": 3, "text": 1},
        )
        assert (len(reply.json["images"]), reply.json["texts"]) == (3, ["a word"])
        refused = await worker.post("/three", {"format": "png"})
        assert (refused.status, refused.error["code"]) == (406, "not_acceptable")
        film = await worker.post("/three", {"format": "mp4", "fps": 3})
        assert (film.status, film.mime) == (200, "video/mp4")
        again = await worker.post("/three")
        assert (again.metadata["results"], again.json["texts"]) == ({"image": 3, "text": 1}, ["a word"])


@on_loop
async def test_sound_in_sound_out(shared_engine: ChildEngine, tmp_path: Path) -> None:
    graph = {
        "a": node("LoadAudio", audio="none.wav"),
        "b": node("TestGain", value=link("a"), gain=0.5),
        "out": node("PreviewAudio", audio=link("b")),
    }
    save(tmp_path, "quiet", graph)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(np.full(800, 20_000, "<i2").tobytes())
    async with batches(shared_engine, tmp_path) as worker:
        for _ in range(2):
            reply = await worker.post("/quiet", data=file.getvalue(), headers={"Content-Type": "audio/wav"})
            assert (reply.status, reply.mime) == (200, "audio/wav"), reply.body[:300]
            with wave.open(io.BytesIO(reply.body)) as heard:
                samples = np.frombuffer(heard.readframes(800), "<i2")
            assert abs(int(samples.mean()) - 10_000) < 5
        refused = await worker.post("/quiet", {"audio": coded(b"no sound")})
        assert (refused.status, refused.error["field"]) == (400, "audio")


@on_loop
async def test_values_go_where_they_belong(shared_engine: ChildEngine, tmp_path: Path) -> None:
    graph = {
        **through("ImageScaleBy", upscale_method="nearest-exact", scale_by=1.0),
        "text": {**node("PrimitiveString", value="before"), "_meta": {"title": "My words"}},
        "show": node("PreviewAny", source=link("text")),
    }
    save(tmp_path, "scaled", graph, inputs={"zoom": "n.scale_by"})
    async with batches(shared_engine, tmp_path) as worker:
        asked_for: list[dict[str, Any]] = [{"values": {"n.scale_by": 2}}, {"params": {"ImageScaleBy.scale_by": 2}}]
        for more in [*asked_for, {"zoom": 2}, {"scale": 2}]:
            reply = await worker.post("/scaled", {"image": coded(png()), "my_words": "after", **more})
            assert reply.status == 200, reply.body
            assert reply.json["width"] == 80
            assert reply.json["texts"] == ["after"]
        sized = await worker.post("/edges", {"image": coded(png()), "width": 64, "height": 64})
        assert sized.picture.size == (64, 64)
        takes = (await worker.call("GET", "/scaled"))[1]["takes"]
        assert takes == ["zoom", "scale", "image"]


REFUSED = [
    ("/nothing", {}, 404, "unknown_workflow", None),
    ("/edgse", {}, 404, "unknown_workflow", None),
    ("/edges", {}, 400, "missing_field", "image"),
    ("/edges", {"image": "%%%"}, 400, "bad_field", "image"),
    ("/edges", {"image": "http://10.0.0.1/a.png"}, 400, "bad_field", "image"),
    ("/edges", {"image": "aGVsbG8="}, 400, "bad_image", "image"),
    ("/edges", {"image": 5}, 400, "bad_field", "image"),
    ("/edges", {"image": "ok", "promt": "x"}, 400, "unknown_field", "promt"),
    ("/edges", {"image": "ok", "prompt": "x"}, 400, "no_place", "prompt"),
    ("/edges", {"image": "ok", "seed": "x"}, 400, "bad_field", "seed"),
    ("/edges", {"image": "ok", "seed": 5}, 400, "no_place", "seed"),
    ("/edges", {"image": "ok", "width": 64}, 400, "bad_field", "height"),
    ("/edges", {"image": "ok", "width": 10**9, "height": 5}, 400, "bad_field", "width"),
    ("/edges", {"image": "ok", "values": {"2.nope": 1}}, 400, "unknown_input", "values.2.nope"),
    ("/edges", {"image": "ok", "values": {"2.image": "x"}}, 400, "linked_input", "values.2.image"),
    ("/edges", {"image": "ok", "values": {"99.image": "x"}}, 400, "unknown_node", "values.99.image"),
    ("/edges", {"image": "ok", "values": {"2.blur_radius": [1, 2]}}, 400, "bad_field", None),
    ("/edges", {"image": "ok", "values": {"2.blur_radius": 10_000}}, 400, "value_bigger_than_max", None),
    ("/edges", {"image": "ok", "values": 5}, 400, "bad_field", "values"),
    ("/edges", {"image": "ok", "timeout_seconds": 0}, 400, "bad_field", "timeout_seconds"),
    ("/edges", {"image": "ok", "format": "gif"}, 400, "bad_field", "format"),
    ("/edges", {"image": "ok", "workflow": "nothing"}, 400, "unknown_workflow", "workflow"),
    ("/edges", {"workflow": {"1": {"class_type": "NoSuch", "inputs": {}}}}, 400, "missing_node_type", None),
    ("/edges", {"image": "ok", "audio": "aGVsbG8="}, 400, "no_place", "audio"),
    ("/edges", [1], 400, "not_json", None),
    ("/backdrop", {"image": "ok"}, 400, "no_place", "image"),
    ("/backdrop", {"width": 64, "height": 64}, 400, "ambiguous_field", "width"),
]


@pytest.mark.parametrize(("path", "body", "status", "code", "field"), REFUSED)
@on_loop
async def test_what_the_caller_did_wrong_is_said(
    shared_engine: ChildEngine, path: str, body: Any, status: int, code: str, field: str | None
) -> None:
    if isinstance(body, dict) and body.get("image") == "ok":
        body = {**body, "image": coded(png())}
    async with batches(shared_engine) as worker:
        reply = await worker.post(path, body)
        assert (reply.status, reply.error["code"]) == (status, code), reply.body
        assert field is None or reply.error["field"] == field
        assert reply.json["status"] == "error"
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200


@on_loop
async def test_bodies_that_are_no_json_and_forms_that_are_none(shared_engine: ChildEngine) -> None:
    async with batches(shared_engine) as worker:
        for data, kind, status in [
            (b"{", "application/json", 400),
            (b'{"image": NaN}', "application/json", 400),
            (b"[" * 100_000, "application/json", 400),
            (b"hello", "text/plain", 415),
            (b"junk", "multipart/form-data; boundary=x", 400),
            (b"junk", "multipart/form-data", 400),
            (b"", "image/png", 400),
        ]:
            reply = await worker.post("/edges", data=data, headers={"Content-Type": kind})
            assert reply.status == status, (data[:20], reply.body)
        refused = await worker.post("/edges", {"image": coded(png())}, headers={"Accept": "text/html"})
        assert refused.status == 406


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@on_loop
async def test_too_much_is_turned_away(shared_engine: ChildEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with batches(shared_engine) as worker:
        huge = await worker.post("/edges", data=b"\0" * (17 << 20), headers={"Content-Type": "image/png"})
        assert huge.status == 413
        bomb = io.BytesIO()
        Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
        assert len(bomb.getvalue()) < 200_000
        reply = await worker.post("/edges", {"image": coded(bomb.getvalue())})
        assert (reply.status, reply.error["code"], reply.error["field"]) == (413, "too_many_pixels", "image")
        monkeypatch.setattr(asked, "MOST_PIXELS", 40 * 30 - 1)
        assert (await worker.post("/edges", {"image": coded(png())})).status == 413


@on_loop
async def test_a_token_is_asked_for(shared_engine: ChildEngine) -> None:
    async with batches(shared_engine, token="s3cret", is_ready=False) as worker:
        assert (await worker.post("/edges", {"image": coded(png())})).status == 401
        headers = {"Authorization": "Bearer s3cret"}
        assert (await worker.post("/edges", {"image": coded(png())}, headers=headers)).status == 200


@on_loop
async def test_a_node_that_fails_is_named(shared_engine: ChildEngine, tmp_path: Path) -> None:
    graph = through("ImageInvert")
    graph["bad"] = node("TestFail", value=link("n"), on="all")
    graph["out"]["inputs"]["images"] = link("bad")
    save(tmp_path, "failing", graph)
    save(tmp_path, "absent", through("NoSuchNode"))
    (tmp_path / "broken.json").write_text("{")
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/failing", {"image": coded(png())})
        assert reply.status == 500
        assert (reply.error["node"], reply.error["class_type"]) == ("bad", "TestFail")
        assert "the test asked for this" in reply.json["message"]
        for name in ("absent", "broken"):
            reply = await worker.post(f"/{name}", {"image": coded(png())})
            assert (reply.status, reply.error["code"]) == (500, "workflow_broken"), reply.body
        assert (await worker.post("/edges", {"image": coded(png())})).status == 200


@on_loop
async def test_progress_and_results_as_events(shared_engine: ChildEngine, tmp_path: Path) -> None:
    noise = io.BytesIO()
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 256, (300, 300, 3), np.uint8)).save(noise, "PNG")
    save(tmp_path, "slow", {**through("ImageInvert"), "t": node("PreviewAny", source="ü" * 20_000)})
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/slow", {"image": coded(noise.getvalue()), "stream": True})
    assert max(len(line) for line in reply.body.split(b"\n")) <= 60 << 10
    said = reply.events
    kinds = [one["type"] for one in said]
    assert (kinds[0], kinds[-1]) == ("accepted", "done")
    assert {"n"} <= {one.get("node") for one in said if one["type"] == "progress"}
    picture = next(one for one in said if one["type"] == "result" and one["kind"] == "image")
    assert picture["parts"] > 3
    parts = [base64_of(f"data:;base64,{one['data']}") for one in said if one["type"] == "part" and one["index"] == 0]
    data = b"".join(parts)
    assert (len(parts), len(data)) == (picture["parts"], picture["bytes"])
    assert Image.open(io.BytesIO(data)).size == (300, 300)
    text = b"".join(base64_of(f"data:;base64,{one['data']}") for one in said if one.get("index") == 1 and "data" in one)
    assert text.decode() == "ü" * 20_000


@on_loop
async def test_what_fails_while_events_flow_is_an_event(shared_engine: ChildEngine, tmp_path: Path) -> None:
    graph = through("ImageInvert")
    graph["n"] = node("TestFail", value=link("in"), on="all")
    save(tmp_path, "failing", graph)
    async with batches(shared_engine, tmp_path) as worker:
        reply = await worker.post("/failing", {"image": coded(png()), "stream": True})
        assert (reply.status, reply.events[-1]["type"]) == (200, "error")
        assert reply.events[-1]["error"]["node"] == "n"
        early = await worker.post("/failing", {"image": "?", "stream": True})
        assert (early.status, early.mime) == (400, "application/json")


@on_loop
async def test_a_seed_is_made_up_unless_it_is_given(shared_engine: ChildEngine, tmp_path: Path) -> None:
    graph = {
        "a": node("EmptyImage", width=16, height=16, batch_size=1, color=0x808080),
        "n": node("ImageAddNoise", image=link("a"), seed=1, strength=0.5),
        "out": node("PreviewImage", images=link("n")),
    }
    save(tmp_path, "noise", graph)
    async with batches(shared_engine, tmp_path) as worker:
        given = [await worker.post("/noise", {"seed": 7}) for _ in range(2)]
        lots = [await worker.post("/noise") for _ in range(2)]
        assert [reply.metadata["seed"] for reply in given] == [7, 7]
        assert given[0].body == given[1].body
        assert lots[0].metadata["seed"] != lots[1].metadata["seed"]
        assert lots[0].body != lots[1].body
        sized = await worker.post("/noise", {"width": 32, "height": 24})
        assert sized.picture.size == (32, 24)
        assert json.loads(sized.headers["X-Metadata"])["width"] == 32
