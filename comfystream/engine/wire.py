"""What the server process and the engine process say to each other, and how it gets across."""

from __future__ import annotations

import contextlib
import pickle
import socket
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from comfystream.engine.events import Event
from comfystream.engine.shared_frames import PackedFrame
from comfystream.errors import ComfyStreamError

__all__ = ["Call", "Feed", "Freed", "Happened", "HappenedOnce", "Message", "Out", "Ready", "Reply", "Wire"]


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine has loaded its node classes."""


@dataclass(frozen=True, slots=True)
class Call:
    """Ask for something; `runner` is None for the engine itself. Answered by one `Reply` with the same id."""

    id: int
    runner: int | None
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call: a value or an error."""

    id: int
    value: Any = None
    error: ComfyStreamError | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """An input frame for a runner."""

    runner: int
    packed: PackedFrame


@dataclass(frozen=True, slots=True)
class Out:
    """An output frame of a runner."""

    runner: int
    packed: PackedFrame


@dataclass(frozen=True, slots=True)
class Freed:
    """The receiver of a picture is done with its slot."""

    runner: int
    slot: int


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of a runner."""

    runner: int
    event: Event


@dataclass(frozen=True, slots=True)
class HappenedOnce:
    """Progress of a single run."""

    job: int
    event: Event


Message = Ready | Call | Reply | Feed | Out | Freed | Happened | HappenedOnce


class Wire:
    """A connection that any thread may send on; one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: the other side is gone.
        """
        packed = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)  # sooner than the connection's own pickler
        with self._sending:
            self._connection.send_bytes(packed)

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            EOFError, OSError: the other side is gone.
        """
        message: Message = self._connection.recv()
        return message

    def close(self) -> None:
        """Close the connection, so that both sides hear it. Idempotent.

        A socket that another thread waits on stays open behind a mere close: the other process would never know.
        """
        if sys.platform != "win32" and not self._connection.closed:
            with contextlib.suppress(OSError), _socket_of(self._connection) as shared:
                shared.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _socket_of(connection: Connection) -> socket.socket:
    return socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
