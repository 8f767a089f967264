"""What the engine process logs is in our log, with its level and its session."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from engine_harness import Run, fill, link, node, video, wait_for

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

PACK = """
import logging

log = logging.getLogger("talkative")


class Talk:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        log.error("I work, token=abcdef123")
        print("printed")
        return (image,)


class Fill(Talk):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"like": ("IMAGE",), "number": ("FLOAT", {"default": 0.0})}}

    def run(self, like, number):
        return (like,)


NODE_CLASS_MAPPINGS = {"Talk": Talk, "TestFill": Fill}
"""


def test_lines_come_with_level_session_and_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "talkative.py").write_text(PACK)
    caplog.set_level(logging.INFO)
    options = EngineOptions(packs=(str(tmp_path / "talkative.py"),), threads=1, folders=Folders(base=str(tmp_path)))
    engine = ChildEngine(options)
    try:
        run = Run(engine, live=True, name="session-7")
        run.load(fill(0.5, talk=node("Talk", image=link("fill")), out=node("SaveTensor", images=link("talk"))))
        run.feed(video(0))
        wait_for(lambda: run.pictures, "a picture")
        said = wait_for(lambda: [one for one in caplog.records if "I work" in one.getMessage()], "the line")
        printed = wait_for(lambda: [one for one in caplog.records if one.getMessage() == "printed"], "the other")
        assert {one.levelname for one in said} == {"ERROR"}
        assert {one.name for one in said} == {"talkative"}
        assert {one.session for one in said} == {"session-7"}  # when it was tried out too
        assert {one.engine for one in [*said, *printed]} == {engine.pid}
        assert {one.levelname for one in printed} == {"INFO"}
        assert not any("abcdef123" in one.getMessage() for one in said)
        run.runner.close()
    finally:
        engine.close()
