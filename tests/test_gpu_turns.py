"""Recordings are made alone; waiting for the whole device is not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from comfystream.gpu_turns import device_wide, give_way, recording

LONG_S = 30


def beside(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_who_waits_for_the_device_waits_for_the_recording_first() -> None:
    order: list[str] = []

    def wait() -> None:
        with device_wide():
            order.append("waited")

    with recording():
        other = beside(wait)
        other.join(0.05)
        order.append("recorded")
    other.join(LONG_S)
    assert order == ["recorded", "waited"]


def test_a_recording_waits_for_a_build_and_says_so() -> None:
    order: list[str] = []
    said = threading.Event()

    def record() -> None:
        with recording(said.set):
            order.append("recorded")

    with device_wide(), device_wide():
        other = beside(record)
        assert said.wait(LONG_S)
        with device_wide():  # nobody waits for one who only wants to record
            order.append("built")
    other.join(LONG_S)
    assert order == ["built", "recorded"]


def test_a_long_build_lets_recordings_in_between_its_steps() -> None:
    order: list[str] = []
    wants = threading.Event()

    def record() -> None:
        with recording(wants.set):
            order.append("recorded")

    with device_wide():
        other = beside(record)
        assert wants.wait(LONG_S)
        order.append("one step")
        give_way()
        order.append("another step")
    other.join(LONG_S)
    give_way()  # nobody wants anything
    assert order == ["one step", "recorded", "another step"]


def test_many_wait_for_the_device_at_once() -> None:
    both = threading.Barrier(2)

    def wait() -> None:
        with device_wide():
            both.wait(LONG_S)

    other = beside(wait)
    wait()
    other.join(LONG_S)
    assert not both.broken


def test_one_thread_may_do_both() -> None:
    order: list[str] = []
    with device_wide(), recording():
        order.append("recorded where it waits")
    with recording(), device_wide():
        order.append("waited where it records")
    other = beside(lambda: order.append("free") if recording().__enter__() is None else None)
    other.join(LONG_S)
    assert order == ["recorded where it waits", "waited where it records", "free"]


def test_who_is_not_wanted_any_more_stops_waiting() -> None:
    ready, done = threading.Event(), threading.Event()

    def build() -> None:
        with device_wide():
            ready.set()
            done.wait(LONG_S)

    def stop() -> None:
        raise InterruptedError

    other = beside(build)
    assert ready.wait(LONG_S)
    with pytest.raises(InterruptedError), recording(stop):
        pass
    done.set()
    other.join(LONG_S)
    with recording():
        pass
