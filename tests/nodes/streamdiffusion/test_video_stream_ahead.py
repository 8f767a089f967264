"""Chunks of a video that are made beside the frame loop: the same pictures, and an end in order."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent import futures
from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from video_parts import ONE, THREE, model_of, picture, prompt, run

from comfystream_nodes.streamdiffusion.text import Embedding
from comfystream_nodes.streamdiffusion.video.ahead import Ahead
from comfystream_nodes.streamdiffusion.video.pipelines import Pipeline
from comfystream_nodes.streamdiffusion.video.settings import VideoSettings
from comfystream_nodes.streamdiffusion.video.stream import VideoStream


@pytest.mark.parametrize("pipeline", [ONE, THREE], ids=lambda one: one.name)
def test_a_chunk_made_ahead_is_the_same_a_chunk_later(pipeline: Pipeline) -> None:
    settings, count = VideoSettings(prompt()), 5 * pipeline.frames
    plain = VideoStream(model_of(pipeline), settings)
    ahead = VideoStream(model_of(pipeline), replace(settings, works_ahead=True))
    wanted, made = run(plain, range(count)), run(ahead, range(count))
    assert (plain.delay_frames, ahead.delay_frames) == (pipeline.frames - 1, 2 * pipeline.frames - 1)
    settled = range(2 * pipeline.frames, count)
    assert all(torch.equal(made[number], wanted[number - pipeline.frames]) for number in settled)
    text = [VideoStream(model_of(pipeline), replace(settings, works_ahead=works)) for works in (False, True)]
    for _ in range(count):
        one, other = (stream.process(None) for stream in text)
        assert torch.equal(one, other), "of a prompt alone there is no delay"


def test_what_is_made_ahead_ends_before_a_new_beginning() -> None:
    stream = VideoStream(model_of(), VideoSettings(prompt(), works_ahead=True))
    run(stream, range(6))
    futures.wait([stream._ahead._future])
    begun, go_on, make = threading.Event(), threading.Event(), stream._make

    def slowly(pictures, settings):
        begun.set()
        assert go_on.wait(30)
        return make(pictures, settings)

    stream._make = slowly
    run(stream, range(6, 9))  # frame 8 completes a chunk
    assert begun.wait(30)
    assert stream.beginnings == 1
    threading.Timer(0.05, go_on.set).start()
    stream.settings = replace(stream.settings, resets=1)
    held = stream.process(picture(9))
    del stream._make
    assert stream.beginnings == 2
    assert stream.denoiser.start == 0, "the chunk was made, and then forgotten"
    assert held is not None
    again = VideoStream(model_of(), stream.settings)
    again.process(picture(9))
    for number in range(10, 20):
        one, other = stream.process(picture(number)), again.process(picture(number))
        assert other is None or number < 13 or torch.equal(one, other)


def test_a_stream_that_is_let_go_ends_its_chunk_first(monkeypatch) -> None:
    stream = VideoStream(model_of(), VideoSettings(prompt(), works_ahead=True))
    run(stream, range(stream.model.pipeline.first_frames))
    weights, ended = weakref.ref(stream.model.transformer), threading.Event()
    drop = Ahead.drop

    def dropped(ahead: Ahead) -> None:
        drop(ahead)
        ended.set()

    monkeypatch.setattr(Ahead, "drop", dropped)
    del stream
    deadline = time.monotonic() + 30
    while weights() is not None and time.monotonic() < deadline:
        time.sleep(0.1)
        gc.collect()  # the thread that makes the chunk holds it until that is done
    assert weights() is None
    assert ended.is_set()


def test_what_fails_ahead_is_said_by_the_next_chunk() -> None:
    stream = VideoStream(model_of(), VideoSettings(prompt(), works_ahead=True))
    run(stream, range(6))
    stream._causal.tell = None
    stream.settings = replace(stream.settings, prompt=prompt(2), manages_cache=False)
    run(stream, range(6, 12))
    with pytest.raises(TypeError):
        stream.process(picture(12))
    del stream._causal.tell
    assert all(one is not None for one in run(stream, range(13, 25)))
    assert stream.beginnings == 2


@pytest.mark.gpu
def test_memory_of_a_video_that_ends_in_the_chunk_of_another_one_is_given_back_in_order() -> None:
    """A simulated GPU notices it: the garbage collector ends it while another stream is the current one."""
    model = model_of()
    model.step.to("cuda")
    model.autoencoder.module.to("cuda")
    model = replace(model, device=torch.device("cuda"))
    told = Embedding(prompt().tokens.cuda())
    stream = VideoStream(model, VideoSettings(told, works_ahead=True))
    for number in range(12):
        stream.process(picture(number).cuda())
    future = stream._ahead._future
    assert future is not None
    futures.wait([future])
    stream.myself = stream  # only the collector finds it
    with torch.cuda.stream(torch.cuda.Stream()):
        del stream, future
        gc.collect()
    del model, told
    gc.collect()
