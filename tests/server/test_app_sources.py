"""Sources that the server reads itself: chosen by a message, sessions without any browser, and what may not be read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from app_harness import App, app_with, browser
from clip_file import write_clip
from engine_harness import fill
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream_server.control.messages import request_adapter
from comfystream_server.http.sources import NewSession

PATTERN = {"type": "pattern", "width": 64, "height": 48, "fps": 30}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "inner").mkdir()
    write_clip(folder / "inner" / "clip.mp4", frames=10)
    write_clip(folder / "short.mkv", frames=5, sound=False)
    whole = (folder / "inner" / "clip.mp4").parent / "whole.mkv"
    write_clip(whole, frames=50, gop=5)
    (folder / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    outside = tmp_path_factory.mktemp("outside")
    write_clip(outside / "secret.mp4", frames=5)
    os.symlink(outside / "secret.mp4", folder / "link.mp4")
    os.symlink(outside, folder / "folder")
    (folder / "notes.txt").write_text("no video")
    (folder / "broken.mp4").write_bytes(b"no video either")
    (folder / "list.ts").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{outside}/secret.mp4\n#EXT-X-ENDLIST\n")
    return folder


async def _begun(app: App, **body: Any) -> str:
    status, info = await app.json("POST", "/api/v1/sessions", body)
    assert status == 201, info
    return str(info["session"])


async def _choose(app: App, session: str, **source: Any) -> tuple[int, Any]:
    message = {"type": "set_source", "source": source}
    return await app.json("POST", f"/api/v1/sessions/{session}/control", message)


@on_loop
async def test_a_session_without_a_browser_runs_a_workflow_on_the_test_card(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine, abandoned_after_s=0) as app:
        body = {"name": "studio", "prompt": fill(0.5), "source": PATTERN, "size": {"width": 64, "height": 48}}
        status, info = await app.json("POST", "/api/v1/sessions", body)
        assert (status, info["session"], info["source"]["state"]) == (201, "studio", "running")
        session = app.parts.sessions.get("studio")
        await until(lambda: session.counts().frames_out > 5, "pictures")
        await app.parts.sessions.end_abandoned()
        assert app.parts.sessions.get("studio") is session
        assert (await app.json("POST", "/api/v1/sessions", body))[0] == 409
        assert (await app.client.delete("/api/v1/sessions/studio")).status == 204


@on_loop
async def test_files_are_listed_and_played(shared_engine: ChildEngine, videos: Path) -> None:
    async with app_with(shared_engine, source_folders=(str(videos),)) as app:
        _, listed = await app.json("GET", "/api/v1/sources")
        names = ["broken.mp4", "cut.mkv", "inner/clip.mp4", "list.ts", "short.mkv"]
        assert [one["path"] for one in listed["files"]] == names
        id = await _begun(app)
        session = app.parts.sessions.get(id)
        events: list[Any] = []
        async with session.events() as heard:
            status, reply = await _choose(app, id, type="file", path="short.mkv", is_looped=False)
            assert (status, reply["info"]["source"]["name"]) == (200, "short.mkv")
            async for event in heard:
                events.append(event.chosen.state)
                if event.chosen.state == "ended":
                    break
        assert events[0] == "opening"
        assert "running" in events
        assert session.counts().frames_in >= 5
        assert session.source == "short.mkv"  # the last picture stays; viewers do not come in between
        status, reply = await _choose(app, id, type="viewer")
        assert reply["info"]["source"] == {"type": "viewer", "name": "", "state": "viewers", "reason": "", "sender": ""}


@pytest.mark.parametrize(
    "path",
    ["../outside0/secret.mp4", "/etc/passwd", "link.mp4", "folder/secret.mp4", "short.mkv\0.mp4", "notes.txt"]
    + ["x" * 999, "..\\short.mkv", "inner", ".", "file:short.mkv", "concat:short.mkv|short.mkv", "none.mp4"],
)
@on_loop
async def test_what_is_not_in_the_folders_cannot_be_chosen(
    shared_engine: ChildEngine, videos: Path, path: str
) -> None:
    async with app_with(shared_engine, source_folders=(str(videos),)) as app:
        id = await _begun(app, source=PATTERN)
        status, reply = await _choose(app, id, type="file", path=path)
        assert (status, reply["error"]["code"], reply["error"]["field"]) == (422, "no_such_file", "source.path")
        assert app.parts.sessions.get(id).source == "test pattern"


@on_loop
async def test_a_file_that_breaks_off_says_so_without_telling_where_it_lies(
    shared_engine: ChildEngine, videos: Path
) -> None:
    async with app_with(shared_engine, source_folders=(str(videos),)) as app:
        id = await _begun(app)
        session = app.parts.sessions.get(id)
        assert (await _choose(app, id, type="file", path="cut.mkv", is_looped=False))[0] == 200
        await until(lambda: session.chosen.state == "failed", "the end of what there is")
        assert session.chosen.reason.startswith("cut.mkv breaks off")
        assert str(videos) not in session.chosen.reason


@pytest.mark.parametrize("path", ["broken.mp4", "list.ts"])
@on_loop
async def test_a_bad_file_leaves_the_earlier_source(shared_engine: ChildEngine, videos: Path, path: str) -> None:
    async with app_with(shared_engine, source_folders=(str(videos),)) as app:
        id = await _begun(app, source=PATTERN)
        status, reply = await _choose(app, id, type="file", path=path)
        assert (status, reply["error"]["field"]) == (422, "source.path")
        assert str(videos) not in json.dumps(reply)
        session = app.parts.sessions.get(id)
        before = session.counts().frames_in
        await until(lambda: session.counts().frames_in > before + 3, "the earlier source")
        assert session.chosen.state == "running"


@on_loop
async def test_nobody_sends_into_a_session_without_source(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        id = await _begun(app)
        camera = app.parts.sessions.get(id).claim_source("camera")
        assert camera.is_in_force
        assert (await _choose(app, id, type="none"))[0] == 200
        assert not camera.is_in_force
        assert (await _choose(app, id, type="viewer"))[0] == 200
        assert camera.is_in_force


@on_loop
async def test_a_session_that_cannot_begin_is_not_there(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        for body, field in (
            ({"source": {"type": "url", "url": "http://127.0.0.1:1/x"}}, "source.url"),
            ({"source": {"type": "file", "path": "x"}}, "source.path"),
            ({"source": {"type": "tape"}}, "source"),
            ({"workflow": "edges", "prompt": {}}, None),
            ({"name": "a/b"}, None),
            ({"workflow": "nothing"}, None),
        ):
            status, error = await app.json("POST", "/api/v1/sessions", body)
            assert 400 <= status < 500, error
            assert error["error"].get("field") == field
        assert len(app.parts.sessions) == 0


def test_the_examples_of_the_page_are_messages() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "sources.md"
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    messages = [example for example in examples if "type" in example]
    kinds = {request_adapter.validate_python(message).source.type for message in messages}
    assert kinds == {"file", "url", "pattern", "none", "viewer"}
    (begun,) = [example for example in examples if "type" not in example]
    assert NewSession.model_validate(begun).source is not None


@on_loop
async def test_a_viewer_sees_the_source_that_its_offer_names_and_hears_of_it(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, "comfystream", source=PATTERN) as one:
        session = app.parts.sessions.get(one.session)
        assert session.source == "test pattern"
        await until(lambda: one.shown is not None, "a picture")
        reply = await one.ask("comfystream", type="set_source", source={"type": "none"})
        assert reply["info"]["source"]["type"] == "none"
        told = await until(lambda: one.events("source"), "a notice")
        assert told[-1]["data"] == {
            "who": "no source",
            "chosen": {"type": "none", "name": "no source", "state": "running", "reason": ""},
        }
        reply = await one.ask("comfystream", type="set_source", source={"type": "url", "url": "rtsp://camera.lan/x"})
        assert (reply["error"]["code"], reply["error"]["field"]) == ("url_not_allowed", "source.url")
        assert session.chosen.type == "none"
        await one.ask("comfystream", type="set_source", source={"type": "viewer"})
        await until(lambda: session.source.startswith("viewer"), "the viewer's own picture")
