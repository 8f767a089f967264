"""What a session says, as the messages that controllers get."""

from __future__ import annotations

from fractions import Fraction

import pytest
from app_harness import app_with, browser
from engine_harness import fill, link, node
from on_loop import on_loop, until

from comfystream.engine.child import ChildEngine
from comfystream.frames import TextCue
from comfystream.session.live_state import PresetsChanged, SizeChanged
from comfystream_server.control.first_generation import text_message
from comfystream_server.control.notices import notice


def test_a_text_has_its_media_time_and_the_number_of_its_frame() -> None:
    said = notice(TextCue(7, 180_045, Fraction(1, 90_000), "hello", 0, "say"))
    assert said is not None
    assert said.event == "text"
    assert said.data == {"text": "hello", "node": "say", "frame": 7, "at_s": pytest.approx(2.0005)}


def test_old_clients_get_the_words_alone_and_no_blank_ones() -> None:
    assert text_message(TextCue(7, 1, Fraction(1, 90_000), "hello", 0, "say")) == {"type": "text", "data": "hello"}
    assert text_message(TextCue(7, 1, Fraction(1, 90_000), " \t", 0, "say")) is None


def test_size_and_presets_are_told() -> None:
    size = notice(SizeChanged("fit", 64, 48))
    presets = notice(PresetsChanged("dark"))
    assert size is not None
    assert presets is not None
    assert (size.event, size.data) == ("size", {"mode": "fit", "width": 64, "height": 48})
    assert (presets.event, presets.data) == ("presets", {"name": "dark"})


@on_loop
async def test_texts_of_a_live_graph_carry_the_time_of_their_pictures(shared_engine: ChildEngine) -> None:
    graph = fill(
        0.5,
        size=node("GetImageSize", image=link("in")),
        words=node("StringFormat", f_string="{a} wide", **{"values.a": link("size")}),
        say=node("SaveTextTensor", data=link("words")),
    )
    async with app_with(shared_engine) as app, browser(app, "comfystream") as client:
        reply = await client.ask("comfystream", type="set_workflow", workflow=graph)
        assert reply["ok"], reply
        await until(lambda: len(client.events("text")) > 5, "texts")
        texts = [event["data"] for event in client.events("text")]
        assert {text["text"] for text in texts} == {"64 wide"}
        times, frames = [text["at_s"] for text in texts], [text["frame"] for text in texts]
        assert times == sorted(set(times))
        assert frames == sorted(set(frames))
        per_frame = (times[-1] - times[0]) / (frames[-1] - frames[0])
        assert per_frame == pytest.approx(1 / 30, rel=0.2)  # the camera's clock, not the time it took
