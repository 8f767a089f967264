"""Sound, and graphs without a live input, on both engines."""

from __future__ import annotations

import pytest
from engine_graphs import LIVE, Open, chain
from engine_harness import grey, link, node, sound, video

from comfystream.engine.events import Stopped


class TestSound:
    def test_a_buffer_is_gathered_and_put_out_with_its_time(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "in": node("LoadAudioTensor", buffer_size=20.0),
                "g": node("TestGain", value=LIVE, gain=0.5),
                "out": node("SaveAudioTensor", audio=link("g")),
            }
        )
        run.feed(*(sound(i, 0.5) for i in range(5))).finish()
        assert [(f.pts, f.samples.shape[-1]) for f in run.sounds] == [(0, 960), (960, 960), (1920, 480)]
        assert abs(float(run.sounds[0].samples.mean()) - 0.25) < 1e-6

    def test_sound_that_only_feeds_a_text_passes_through(self, open_run: Open) -> None:
        run = open_run()
        run.load({**chain(node("TestLoudness", value=LIVE)), "in": node("LoadAudioTensor", buffer_size=10.0)})
        run.feed(sound(0), sound(1)).finish()
        assert len(run.sounds) == 2
        assert run.texts == ["0.25", "0.25"]

    def test_two_lanes_cross_by_last_value(self, open_run: Open) -> None:
        run = open_run()
        run.load(
            {
                "pic": node("LoadTensor"),
                "snd": node("LoadAudioTensor", buffer_size=10.0),
                "loud": node("TestLoudness", value=link("snd")),
                "fill": node("TestFill", like=link("pic"), number=link("loud")),
                "out": node("SaveTensor", images=link("fill")),
            }
        )
        assert {lane.value for lane in run.revision.lanes} == {"audio", "video"}
        run.feed(sound(0, 0.2), video(0), video(1), sound(1, 0.8), video(2)).finish()
        assert [round(grey(f) / 255, 1) for f in run.pictures] == [0.2, 0.2, 0.8]

    def test_a_live_source_may_have_another_sample_rate_than_the_one_before(self, open_run: Open) -> None:
        run = open_run(live=True)
        run.load(
            {
                "in": node("LoadAudioTensor", buffer_size=10.0),
                "g": node("TestGain", value=LIVE, gain=0.5),
                "out": node("SaveAudioTensor", audio=link("g")),
            }
        )
        run.feed(sound(0, samples=240), sound(1, samples=441, rate=44_100), sound(2, samples=480)).finish()
        assert [(f.sample_rate, f.pts, f.samples.shape[-1]) for f in run.sounds] == [
            (44_100, 441, 441),
            (48_000, 960, 480),
        ]
        assert not run.events_of(Stopped)

    def test_a_file_that_changes_its_sample_rate_is_told_what_to_do(self, open_run: Open) -> None:
        run = open_run()
        run.load({**chain(node("TestLoudness", value=LIVE)), "in": node("LoadAudioTensor", buffer_size=10.0)})
        from comfystream.errors import EngineError

        with pytest.raises(EngineError, match="from 48000 to 44100 Hz .convert it to one rate first"):
            run.feed(sound(0), sound(1, rate=44_100)).finish()


class TestClock:
    def test_a_workflow_without_input_ticks_by_its_clock(self, open_run: Open) -> None:
        run = open_run(clock_ticks=4, clock_fps=25.0)
        run.load({"c": node("TestCard", number=0.5, size=16), "out": node("SaveTensor", images=link("c"))})
        run.finish()
        assert [(f.pts, float(f.time_base), grey(f)) for f in run.pictures] == [(i, 0.04, 128) for i in range(4)]
