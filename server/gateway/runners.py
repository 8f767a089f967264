"""Live runners: workers that stay on the list by heartbeats, and the sessions that clients reserve at them.

The rules are those of go-livepeer's `ai/runner/live_runner.go`, without prices.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from comfystream.errors import BusyError, ComfyStreamError
from comfystream.trickle.server import TrickleServer

from ..http.errors import BadRequest

__all__ = ["NOT_FOUND", "TTL_S", "Heartbeat", "Runner", "RunnerSession", "Runners"]

BEAT_S, TTL_S, KEEP_ALIVE_S = 5.0, 20.0, 10.0
MOST_RUNNERS = 1000
MOST_SOCKETS = 64  # of one session
NOT_FOUND = 404
Mode = Literal["persistent", "single-shot"]


class Heartbeat(BaseModel):
    """What a runner says of itself, every few seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    runner_id: str = Field("", max_length=200, pattern=r"^[^/\s]*$")
    runner_url: str = Field(min_length=1, max_length=2000, pattern=r"^https?://[^/\s]+")
    app: str = Field(min_length=1, max_length=300, pattern=r"^\S(.*\S)?$")
    version: str = Field("", max_length=200)
    metadata: str = Field("", max_length=1024)
    status: str = Field("", max_length=40, pattern=r"^[^A-Z\s]*$")
    mode: Mode = "persistent"
    capacity: int = Field(1, ge=0, le=10_000, strict=True)
    gpu: dict[str, Any] | None = None
    session_ids: list[str] = Field(default_factory=list, max_length=10_000)

    @field_validator("mode", mode="before")
    @classmethod
    def _alias(cls, mode: Any) -> Any:
        return {"": "persistent", "single_shot": "single-shot"}.get(mode, mode) if isinstance(mode, str) else mode

    @property
    def places(self) -> int:
        """Sessions at once."""
        return self.capacity or 1


@dataclass(slots=True)
class RunnerSession:
    """One that a client has reserved.

    Attributes:
        id: of it.
        channels: name -> name on the trickle server, type.
        over: set when it has been released.
    """

    id: str
    channels: dict[str, tuple[str, str]] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _sockets: int = 0

    @contextlib.contextmanager
    def one_more_socket(self) -> Iterator[None]:
        """While a web socket is open.

        Raises:
            BusyError: there are too many.
        """
        if self._sockets >= MOST_SOCKETS:
            raise BusyError(f"the session has {MOST_SOCKETS} web sockets already", code="too_many_sockets")
        self._sockets += 1
        try:
            yield
        finally:
            self._sockets -= 1


@dataclass(slots=True, eq=False)
class Runner:
    """One on the list.

    Attributes:
        said: the newest heartbeat.
        base: the address under which it reached us.
        seed: its secrets are made of it.
        seen_s: when it was heard of last, on the list's clock.
        told_s: when it was told something last.
        sessions: by id, the oldest first.
    """

    said: Heartbeat
    base: str
    seed: bytes
    seen_s: float
    told_s: float
    sessions: dict[str, RunnerSession] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """How it is called in addresses."""
        return self.said.runner_id

    @property
    def is_ready(self) -> bool:
        """Whether it takes sessions."""
        return self.said.status in ("", "ready")

    @property
    def o2r(self) -> str:
        """Name of the channel on which it is told of its sessions."""
        return f"{self.id}-{self.secret('trickle:o2r')[:16]}-o2r"

    def secret(self, purpose: str) -> str:
        """One of its secrets: of "heartbeat", of "session:ID"."""
        made = hmac.digest(self.seed, purpose.encode(), hashlib.sha256)
        return base64.b32encode(made).decode().rstrip("=").lower()


class Runners:
    """The list.

    Args:
        trickle: has the channels.
        beat_s: how often runners are to be heard of.
        clock: monotonic seconds.
    """

    def __init__(
        self, trickle: TrickleServer, beat_s: float = BEAT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trickle = trickle
        self.beat_s = beat_s
        self._clock = clock
        self._listed: dict[str, Runner] = {}

    def __iter__(self) -> Iterator[Runner]:
        return iter(list(self._listed.values()))

    def get(self, id: str) -> Runner:
        """The runner of that name.

        Raises:
            BadRequest: there is none, or it was not heard of for too long.
        """
        runner = self._listed.get(id)
        if runner is None or self._clock() - runner.seen_s > TTL_S:
            raise _not_found("runner not found")
        return runner

    def ready(self, id: str) -> Runner:
        """One that takes sessions; raises what `get` raises."""
        runner = self.get(id)
        if not runner.is_ready:
            raise _not_found("runner not found")
        return runner

    # --- what runners do

    def heartbeat(self, said: Heartbeat, given: str, secret: str, base: str) -> tuple[Runner, bool]:
        """Take a heartbeat: the runner, and whether it is new.

        Args:
            said: what it says.
            given: the secret that it shows.
            secret: of workers that register.
            base: the address under which it reached us.

        Raises:
            BadRequest: the secret is wrong, or the runner is not known any more.
            BusyError: the list is full.
        """
        said = said.model_copy(update={"runner_id": said.runner_id or f"runner_{secrets.token_hex(4)}"})
        known = self._listed.get(said.runner_id)
        if known is None:
            return self._register(said, given, secret, base), True
        if self._clock() - known.seen_s > TTL_S:
            raise _not_found("runner not found")
        _check(given, known.secret("heartbeat"), "invalid heartbeat authorization")
        known.said, known.base, known.seen_s = said, base, self._clock()
        return known, False

    def _register(self, said: Heartbeat, given: str, secret: str, base: str) -> Runner:
        _check(given, secret, "invalid registration authorization")
        if len(self._listed) >= MOST_RUNNERS:
            raise BusyError(f"{MOST_RUNNERS} runners are on the list already", code="too_many_runners")
        runner = Runner(said, base, secrets.token_bytes(32), self._clock(), self._clock())
        self._trickle.create(runner.o2r, "application/json")
        self._listed[runner.id] = runner
        return runner

    def unregister(self, id: str, given: str) -> None:
        """Take one off the list; raises what `get` raises, and BadRequest when the secret is wrong."""
        runner = self.get(id)
        _check(given, runner.secret("heartbeat"), "invalid authorization")
        self._remove(runner)

    def sweep(self) -> list[Runner]:
        """Forget who was not heard of for too long, and say something to the others; those that went."""
        now = self._clock()
        gone = [one for one in self if now - one.seen_s > TTL_S]
        for runner in gone:
            self._remove(runner)
        for runner in self:
            if now - runner.told_s > KEEP_ALIVE_S:
                self._tell(runner, {"keep": "alive"})
        return gone

    def _remove(self, runner: Runner) -> None:
        for session in list(runner.sessions):
            self.release(runner, session)
        self._trickle.close(runner.o2r)
        self._listed.pop(runner.id, None)

    def close(self) -> None:
        """Forget all. Idempotent."""
        for runner in self:
            self._remove(runner)

    def _tell(self, runner: Runner, document: dict[str, Any]) -> None:
        runner.told_s = self._clock()
        channel = self._trickle.get(runner.o2r)
        if channel is not None:
            channel.publish(json.dumps(document).encode())

    # --- sessions

    def reserve(self, runner: Runner) -> RunnerSession:
        """A place for a client.

        Raises:
            BusyError: all are taken.
        """
        if len(runner.sessions) >= runner.said.places:
            raise BusyError("no capacity available for runner", code="no_capacity")
        session = RunnerSession(f"session_{secrets.token_hex(4)}")
        runner.sessions[session.id] = session
        self._say("reserved", runner, session.id)
        return session

    def release(self, runner: Runner, id: str) -> None:
        """The place is free again, and the channels and web sockets of the session end. Idempotent."""
        session = runner.sessions.pop(id, None)
        if session is None:
            return
        session.over.set()
        self._say("released", runner, id)
        for name, _ in session.channels.values():
            self._trickle.close(name)

    def _say(self, event: str, runner: Runner, session: str) -> None:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._tell(runner, {"event": event, "session": session, "timestamp": now})

    def session(self, runner: Runner, id: str) -> RunnerSession:
        """A session of a runner.

        Raises:
            BadRequest: there is none of that name.
        """
        session = runner.sessions.get(id)
        if session is None:
            raise _not_found("runner session not found")
        return session

    def own_session(self, runner: Runner, id: str, token: str) -> RunnerSession:
        """The same for the runner itself, which shows the session's token; BadRequest also when that is wrong."""
        session = self.session(runner, id)
        _check(token, runner.secret(f"session:{id}"), "invalid authorization")
        return session

    def create_channel(self, session: RunnerSession, name: str, mime: str) -> tuple[str, str]:
        """A channel of a session, as it is called on the trickle server, and its type. One that is there stays.

        Raises:
            BusyError: there are too many.
        """
        if name not in session.channels:
            full = f"{session.id}-{name}"
            session.channels[name] = (full, mime or "application/octet-stream")
            self._trickle.create(full, mime)
        return session.channels[name]

    def delete_channel(self, session: RunnerSession, name: str) -> None:
        """End a channel.

        Raises:
            BadRequest: there is none of that name.
        """
        found = session.channels.pop(name, None)
        if found is None:
            raise _not_found("trickle channel not found")
        self._trickle.close(found[0])


def _check(given: str, wanted: str, words: str) -> None:
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise BadRequest(words, status=401, code="bad_secret")


def _not_found(words: str) -> ComfyStreamError:
    return BadRequest(words, status=NOT_FOUND, code="not_found")
