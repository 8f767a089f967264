"""Presets over the control protocol, in a folder, and those that come with the library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from app_harness import App, app_with
from engine_harness import fill, link, node
from on_loop import on_loop

from comfystream.engine.child import ChildEngine
from comfystream.errors import ConfigError
from comfystream.workflow.presets import Preset, PresetValue, missing
from comfystream_server.library import BUNDLED, Library
from comfystream_server.presets import PresetFolder


def preset(name: str, workflow: str = "") -> Preset:
    return Preset(name=name, workflow=workflow, values=[PresetValue(node="1", input="a", value=1)])


async def talker(app: App) -> Any:
    session = await app.parts.sessions.create()
    session.attach()

    async def say(type: str, **message: Any) -> tuple[int, Any]:
        return await app.json("POST", f"/api/v1/sessions/{session.id}/control", {"type": type, **message})

    return say


def names(reply: Any) -> list[tuple[str, str, bool]]:
    return [(one["name"], one["origin"], one["fits"]) for one in reply["info"]["presets"]]


@on_loop
async def test_values_are_kept_and_recalled(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        say = await talker(app)
        assert (await say("save_preset", name="dark"))[1]["error"]["code"] == "no_workflow"
        await say("set_workflow", workflow=fill(0.25))
        status, reply = await say("save_preset", name="dark")
        assert (status, names(reply)) == (200, [("dark", "saved", True)])
        await say("patch", patches=[{"node": "fill", "input": "number", "value": 1.0}])
        status, reply = await say("apply_preset", name="dark", base_revision=2)
        assert (status, reply["revision"]) == (200, 3)
        values = {(p["node"], p["input"]): p["value"] for p in reply["info"]["parameters"]}
        assert values["fill", "number"] == 0.25
        assert (await say("apply_preset", name="dark", base_revision=2))[0] == 409
        status, reply = await say("apply_preset", name="drak")
        assert (status, reply["error"]["code"]) == (404, "unknown_preset")
        assert "dark" in reply["error"]["hint"]
        assert names((await say("delete_preset", name="dark"))[1]) == []
        assert (await say("delete_preset", name="dark"))[0] == 404


@on_loop
async def test_a_preset_that_does_not_fit_changes_nothing_and_says_what_is_missing(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        say = await talker(app)
        graph = fill(
            0.25, more=node("TestFill", like=link("in"), number=0.5), out=node("SaveTensor", images=link("more"))
        )
        await say("set_workflow", workflow=graph)
        await say("save_preset", name="two")
        await say("set_workflow", workflow=fill(0.75))
        assert names((await say("describe"))[1]) == [("two", "saved", False)]
        status, reply = await say("apply_preset", name="two")
        assert (status, reply["error"]["code"], reply["revision"]) == (409, "preset_does_not_fit", 2)
        assert 'node more "TestFill"' in reply["error"]["message"]
        info = (await say("describe"))[1]["info"]
        assert next(p["value"] for p in info["parameters"] if p["node"] == "fill") == 0.75


@on_loop
async def test_bad_names_are_refused(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        say = await talker(app)
        for name in ("", " ", "a\nb", "x" * 65, None, 5):
            status, reply = await say("save_preset", name=name)
            assert (status, reply["error"]["code"]) == (400, "bad_message")


@on_loop
async def test_those_of_the_library_can_be_recalled_and_stay(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        say = await talker(app)
        reply = (await say("set_workflow", name="edges"))[1]
        assert ("Main lines", "workflow", True) in names(reply)
        status, reply = await say("apply_preset", name="Main lines")
        assert (status, reply["revision"]) == (200, 2)
        assert (await say("delete_preset", name="Main lines"))[1]["error"]["code"] == "preset_is_fixed"
        await say("save_preset", name="Main lines")
        assert ("Main lines", "saved", True) in names((await say("describe"))[1])
        assert ("Main lines", "workflow", True) in names((await say("delete_preset", name="Main lines"))[1])


@on_loop
async def test_a_folder_keeps_them_for_other_sessions_and_another_server(
    shared_engine: ChildEngine, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    async with app_with(shared_engine, preset_folder=str(folder)) as app:
        first, second = await talker(app), await talker(app)
        await first("set_workflow", name="edges")
        await first("save_preset", name="../../Größe: 1")
        await second("set_workflow", name="edges")
        assert ("../../Größe: 1", "saved", True) in names((await second("describe"))[1])
    assert len(os.listdir(folder)) == 1
    assert os.listdir(tmp_path) == ["kept"]
    async with app_with(shared_engine, preset_folder=str(folder)) as app:
        say = await talker(app)
        await say("set_workflow", name="edges")
        assert (await say("apply_preset", name="../../Größe: 1"))[0] == 200
        await say("delete_preset", name="../../Größe: 1")
    assert os.listdir(folder) == []


def _needs_models(name: str) -> bool:
    return bool(yaml.safe_load((BUNDLED / f"{name}.yaml").read_text("utf-8")).get("models"))


@on_loop
async def test_the_presets_of_the_library_fit_and_run(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app:
        catalog = await app.parts.host.known()
        say = await talker(app)
        library, applied = Library(), 0
        for one in library.listed():
            presets = library.presets(one.name)
            if not presets or _needs_models(one.name):
                continue
            await say("set_workflow", name=one.name)
            for preset in presets:
                assert not missing(preset, library.read(one.name, catalog), catalog)
                status, reply = await say("apply_preset", name=preset.name)
                assert status == 200, (one.name, preset.name, reply["error"])
                applied += 1
        assert applied >= 15


def test_damaged_files_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PresetFolder(tmp_path).save(preset("good"))
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_bytes(b"\xff")
    (tmp_path / "c.json").write_text('{"name": "c", "values": []}')
    assert [one.name for one in PresetFolder(tmp_path).of("")] == ["good"]
    assert {"a.json", "b.json", "c.json"} <= {word for line in caplog.messages for word in line.split()}


def test_names_that_look_alike_are_kept_apart(tmp_path: Path) -> None:
    folder = PresetFolder(tmp_path)
    for name in ("a b", "a-b", "A b", "ü", "ö"):
        folder.save(preset(name))
    folder.save(preset("a b", "edges"))
    assert len(list(PresetFolder(tmp_path).of(""))) == 5
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = PresetFolder(tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="was not written"):
        folder.save(preset("x"))


def test_a_file_in_place_of_the_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="preset_folder"):
        PresetFolder(tmp_path / "file")
