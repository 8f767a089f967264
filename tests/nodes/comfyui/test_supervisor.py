"""When a server that dies is started again, and when no more. The server is a few lines of Python here."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfyui_stub import until

from comfystream.errors import ConfigError
from comfystream_nodes.comfyui import command, supervisor
from comfystream_nodes.comfyui.settings import Settings
from comfystream_nodes.comfyui.supervisor import State, Supervisor

# What it is told is its port and how it goes on; it says where it listens, as the real one does.
LISTENS = "import sys; print(f'ComfyStream:  http://localhost:{sys.argv[1]}/', flush=True); "
WAITS = LISTENS + "sys.stdin.read()"
DIES = LISTENS + "print('comfystream: error: of mine', flush=True); sys.exit(3)"
NEVER_LISTENS = "import sys; print('an error at once', flush=True); sys.exit(4)"


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Supervisor, list[str]]]]:
    """A supervisor whose processes run these scripts, one after the other, the last again and again."""
    made: list[Supervisor] = []

    def make(*scripts: str, waits: tuple[float, ...] = (0.01, 0.02)) -> tuple[Supervisor, list[str]]:
        left, states = list(scripts), []
        monkeypatch.setattr(
            command, "boot", lambda comfyui: [sys.executable, "-c", left.pop(0) if len(left) > 1 else left[0]]
        )
        monkeypatch.setattr(command, "arguments", lambda settings, port, comfyui: [str(port)])
        one = Supervisor(lambda: states.append(str(one.state)), waits)
        made.append(one)
        return one, states

    yield make
    for one in made:
        one.close()


def status_when(one: Supervisor, state: State) -> dict[str, Any]:
    until(lambda: one.state is state)
    return one.status()


def test_it_is_started_again_and_what_it_died_of_stays_known(supervised: Any) -> None:
    one, states = supervised(DIES, WAITS)
    with_luck(one)
    until(lambda: states.count("running") == 2)
    assert states[:6] == ["starting", "running", "restarting", "starting", "running"]
    status = one.status()
    assert status["restarts"] == 1
    assert (status["last_end"]["exit_code"], status["exit_code"]) == (3, None)
    assert "error: of mine" in status["last_end"]["reason"]
    assert status["last_end"]["lines"][-1] == "comfystream: error: of mine"


def with_luck(one: Supervisor, **settings: Any) -> None:
    """Start one that may be dead again before `start` has looked."""
    with contextlib.suppress(ConfigError):
        one.start(Settings(**settings), None)


def test_a_warning_is_not_what_it_died_of(supervised: Any) -> None:
    warns = "print('19:00:00 WARNING engine: a pack could not be loaded: ImportError: no', flush=True); "
    one, _ = supervised(LISTENS + warns + "print('19:00:01 INFO the last', flush=True); sys.exit(3)", WAITS)
    with_luck(one, restart=False)
    assert status_when(one, State.FAILED)["reason"] == "exit code 3: 19:00:01 INFO the last"


def test_it_is_given_up_after_some_times_in_a_row(supervised: Any) -> None:
    one, states = supervised(DIES)
    with_luck(one)
    status = status_when(one, State.FAILED)
    assert (states.count("restarting"), status["restarts"]) == (2, 2)
    assert status["exit_code"] == 3
    assert "error: of mine" in status["reason"]


def test_one_that_ran_for_long_has_all_its_tries_again(supervised: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STEADY_S", 0.0)
    one, states = supervised(DIES, DIES, DIES, DIES, DIES, WAITS)
    with_luck(one)
    until(lambda: states.count("restarting") == 5 and one.state is State.RUNNING)


def test_a_port_that_somebody_else_took_meanwhile_is_left_to_them(supervised: Any) -> None:
    """Two ComfyUIs that start at once look for a port at the same time."""
    one, states = supervised(NEVER_LISTENS, WAITS)
    taken: list[socket.socket] = []
    boot = command.boot

    def take_and_boot(comfyui: Any) -> list[str]:
        if not taken:
            taken.append(socket.create_server(("127.0.0.1", first)))
        return boot(comfyui)

    command.boot = take_and_boot  # restored with the fixture's own
    first = command.free_port("127.0.0.1", 20_000)
    one.start(Settings(port=first), None)
    assert one.status()["port"] > first
    taken[0].close()


def test_the_first_start_is_tried_once(supervised: Any) -> None:
    one, states = supervised(NEVER_LISTENS)
    with pytest.raises(ConfigError, match="an error at once"):
        one.start(Settings(), None)
    assert states == ["starting", "failed"]


def test_who_does_not_want_it_gets_none(supervised: Any) -> None:
    one, states = supervised(DIES, WAITS)
    with_luck(one, restart=False)
    assert status_when(one, State.FAILED)["exit_code"] == 3
    assert "restarting" not in states


def test_a_stop_between_is_a_stop(supervised: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[Callable[[], None]] = []
    timer = lambda wait, work, args: FakeTimer(lambda: due.append(lambda: work(*args)))  # noqa: E731
    monkeypatch.setattr(supervisor.threading, "Timer", timer)
    one, states = supervised(DIES, WAITS)
    with_luck(one)
    until(lambda: one.state is State.RESTARTING and due)
    one.stop()
    due[0]()
    assert one.state is State.STOPPED
    one.start(Settings(), None)
    pid = one.status()["pid"]
    due[0]()  # a restart that is due must not take the place of what somebody has started
    assert (one.status()["pid"], states.count("starting")) == (pid, 2)


class FakeTimer:
    """Is due when the test says so."""

    def __init__(self, start: Callable[[], None]) -> None:
        self.start = start
        self.daemon = False
