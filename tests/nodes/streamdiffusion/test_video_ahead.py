"""What a chunk reads on its own stream is not given to others before that stream has read it."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest
import torch

from comfystream_nodes.streamdiffusion.video.ahead import Ahead

CPU = torch.device("cpu")


class FakeStream:
    """A stream of a GPU that knows for whom it waited."""

    device = CPU

    def __init__(self) -> None:
        self.waited_for: list[FakeStream] = []

    def wait_stream(self, other: FakeStream) -> None:
        self.waited_for.append(other)


@pytest.fixture
def here(monkeypatch) -> FakeStream:
    """The stream of the frame loop."""
    made = FakeStream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: made)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    return made


def started(side: FakeStream) -> tuple[Ahead, weakref.ref]:
    ahead, pictures = Ahead(CPU), torch.zeros(4)
    ahead._side = side
    ahead.start(lambda: pictures + 1)
    ahead._future.exception(30)
    return ahead, weakref.ref(pictures)


def test_it_begins_after_what_the_frame_loop_has_given_to_the_device(here: FakeStream) -> None:
    side = FakeStream()
    started(side)
    assert side.waited_for == [here]


@pytest.mark.parametrize("end", ["take", "drop"])
def test_what_it_reads_is_kept_until_the_frame_loop_waits_for_it(monkeypatch, here: FakeStream, end: str) -> None:
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *given: None)
    side = FakeStream()
    ahead, pictures = started(side)
    gc.collect()
    assert pictures() is not None, "its thread is done, the device may not be"
    assert here.waited_for == []
    getattr(ahead, end)()
    gc.collect()
    assert here.waited_for == [side]
    assert pictures() is None


def test_the_frame_loop_goes_on_after_a_chunk_that_is_dropped_elsewhere(monkeypatch, here: FakeStream) -> None:
    """As where the garbage collector ends a video in the chunk of another one."""
    side, elsewhere = FakeStream(), FakeStream()
    ahead, _ = started(side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: elsewhere)
    ahead.drop()
    assert here.waited_for == [side]


def test_a_chunk_that_fails_is_waited_for_too(here: FakeStream) -> None:
    side, ahead = FakeStream(), Ahead(CPU)
    ahead._side = side
    ahead.start(lambda: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(RuntimeError):
        ahead.take()
    assert here.waited_for == [side]
