"""Session size and several prompts, with real WebRTC clients."""

from __future__ import annotations

from typing import Any

import pytest
from app_harness import app_with, browser
from engine_harness import fill, node, picture
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.errors import ConfigError
from comfystream.session.live_size import FrameSize, SizeRule
from comfystream.settings import ServerSettings
from comfystream_server.parts import frame_size

SIZES = [(64, 48), (48, 64), (160, 96), (64, 48)]


class Turning:
    """A camera that changes its size every 20 pictures."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Any:
        self.count += 1
        return picture(128 + self.count % 3, *SIZES[self.count // 20 % len(SIZES)])


@pytest.mark.parametrize("mode", ["follow", "fit", "fill"])
@on_loop
async def test_a_camera_that_changes_its_size(shared_engine: ChildEngine, mode: str) -> None:
    camera = Turning()
    async with (
        app_with(shared_engine, size_mode=mode, size="96x64") as app,
        browser(app, "comfystream", camera=camera, prompts=fill(0.5)) as client,
    ):
        await until(lambda: camera.count > 100 and client.size is not None)
        wanted = set(SIZES) if mode == "follow" else {(96, 64)}
        client.sizes.clear()
        await until(lambda: client.sizes >= wanted, "all sizes")
        assert client.sizes == wanted
        assert not client.events("node_failed")


@on_loop
async def test_the_size_is_set_by_a_message_and_told(shared_engine: ChildEngine) -> None:
    async with app_with(shared_engine) as app, browser(app, "comfystream", prompts=fill(0.5)) as client:
        ask: Any = client.ask
        assert (await ask("comfystream", type="set_size", mode="fit", width=128, height=32))["ok"]
        await until(lambda: client.size == (128, 32), "the new size")
        assert (await ask("comfystream", type="set_size", mode="fill"))["ok"]
        info = (await ask("comfystream", type="describe"))["info"]
        assert (info["size_mode"], info["width"], info["height"]) == ("fill", 128, 32)
        await until(lambda: len(client.events("size")) == 2)
        assert client.events("size")[0]["data"] == {"mode": "fit", "width": 128, "height": 32}
        for wrong in ({"width": 127}, {"width": 8}, {"height": 4098}):
            refused = await ask("comfystream", type="set_size", mode="fit", **wrong)
            assert refused["error"]["code"] == "bad_size"
            assert refused["error"]["hint"]
        refused = await ask("comfystream", type="set_size", mode="wrap")
        assert refused["error"]["code"] == "bad_message"
        assert (await ask("comfystream", type="set_size", mode="follow"))["ok"]
        await until(lambda: client.size == (64, 48), "the camera's size")


@on_loop
async def test_resolution_of_an_offer_follows_the_servers_rule(shared_engine: ChildEngine) -> None:
    resolution = {"width": 32, "height": 32}
    async with app_with(shared_engine) as app:
        async with browser(app, prompts=fill(0.5), resolution=resolution) as client:
            await until(lambda: client.size == (64, 48), "the camera's size: old clients only announce theirs")
        async with browser(app, prompts=fill(0.5), resolution={**resolution, "mode": "fit"}) as client:
            await until(lambda: client.size == (32, 32))
    async with (
        app_with(shared_engine, size_mode="fill", size="64x64") as app,
        browser(app, "control", prompts=fill(0.5), resolution=resolution) as client,
    ):
        await until(lambda: client.size == (32, 32))
        assert (await client.ask("control", type="update_resolution", width=48, height=48))["success"]
        await until(lambda: client.size == (48, 48))
        refused = await client.ask("control", type="update_resolution", width=47, height=48)
        assert refused["success"] is False
        assert "even" in refused["error"]


@on_loop
async def test_several_prompts_run_as_one(shared_engine: ChildEngine) -> None:
    dark = fill(0.0)
    bright = fill(1.0, text=node("SaveTextTensor", data="hello"))
    async with (
        app_with(shared_engine) as app,
        browser(app, "control", "data", prompts=[dark, bright]) as client,
    ):
        await until(lambda: client.shown is not None and client.shown > 240, "the last one's picture")
        await until(lambda: ("data", {"type": "text", "data": "hello"}) in client.said, "the text")
        told = (await client.ask("control", type="get_nodes"))["nodes"]
        assert set(told) == {"0", "1"}
        assert told["1"]["fill"]["inputs"]["number"]["value"] == 1.0
        reply = await client.ask("control", type="update_prompts", prompts=[bright, dark])
        assert reply == {"type": "prompts_updated", "success": True}
        await until(lambda: client.shown is not None and client.shown < 20, "the other order")
        reply = await client.ask("control", type="update_prompts", prompts=[dark, {"1": node("LoadTensor")}])
        assert (reply["success"], "prompt 1" in reply["error"]) == (False, True)


@pytest.mark.parametrize("prompts", [[], [fill(0.5)] * 9, [fill(0.5), "{"], [fill(0.5), {"1": node("LoadTensor")}]])
@on_loop
async def test_lists_of_prompts_that_cannot_be_joined(shared_engine: ChildEngine, prompts: Any) -> None:
    async with app_with(shared_engine) as app:
        status, error = await app.json("POST", "/prompt", prompts)
        assert 400 <= status < 500
        assert error["error"]["message"]


def test_the_setting_is_read() -> None:
    assert frame_size(ServerSettings(size="640x360", size_mode="fit")) == FrameSize(SizeRule.FIT, 640, 360)
    for wrong in ("640", "640x", "x", "640x360x3", "-2x4"):
        with pytest.raises(ConfigError, match="no size"):
            frame_size(ServerSettings(size=wrong))
    with pytest.raises(ConfigError, match="even"):
        frame_size(ServerSettings(size="641x360", size_mode="fit"))
