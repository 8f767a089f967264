"""Frames in shared memory between two processes (here: two ends in one)."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest
from engine_harness import grey, sound, video

from comfystream.engine.shared_frames import SlotReader, SlotWriter
from comfystream.errors import EngineError
from comfystream.frames import VideoFrame


@pytest.fixture
def ends() -> Any:
    writer, reader = SlotWriter(2), SlotReader()
    yield writer, reader
    reader.close()
    writer.close()


def test_a_picture_arrives_as_it_was(ends: Any) -> None:
    writer, reader = ends
    sent = video(7, 200, width=33, height=17)
    packed = writer.write(sent)
    arrived = reader.read(packed)
    assert isinstance(arrived, VideoFrame)
    assert (arrived.id, arrived.pts, arrived.time_base) == (7, 7, sent.time_base)
    assert (arrived.image.width, arrived.image.height, arrived.image.format.name) == (33, 17, "yuv420p")
    assert grey(arrived) == grey(sent)


def test_the_picture_is_the_receivers_own(ends: Any) -> None:
    writer, reader = ends
    first = reader.read(packed := writer.write(video(0, 10)))
    writer.free(packed.slot)
    writer.write(video(1, 200))
    writer.write(video(2, 200))
    assert grey(first) == pytest.approx(10, abs=1)


def test_sound_needs_no_slot(ends: Any) -> None:
    writer, reader = ends
    assert all(writer.write(sound(i)).slot is None for i in range(5))
    assert reader.read(writer.write(sound(3))).id == 3


def test_a_full_writer_waits_for_a_slot(ends: Any) -> None:
    writer, _ = ends
    packed = [writer.write(video(i)) for i in range(2)]
    assert writer.write(video(2), 0.0) is None
    threading.Timer(0.05, writer.free, [packed[0].slot]).start()
    assert writer.write(video(2)).slot == packed[0].slot


def test_a_larger_picture_gets_larger_memory(ends: Any) -> None:
    writer, reader = ends
    for i, width in enumerate((16, 640, 64)):
        packed = writer.write(video(i, 99, width=width, height=360))
        assert reader.read(packed).image.width == width
        writer.free(packed.slot)


def test_closing_lets_go_of_whoever_waits(ends: Any) -> None:
    writer, _ = ends
    for i in range(2):
        writer.write(video(i))
    threading.Timer(0.05, writer.close).start()
    assert writer.write(video(2)) is None


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system takes memory when it makes a segment")
def test_full_shared_memory_is_an_error_and_not_the_end_of_the_process(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = ends

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(EngineError, match="no shared memory") as caught:
            writer.write(video(0))
    assert "--shm-size" in caught.value.hint
    assert reader.read(writer.write(video(1))).id == 1
