"""Who is on the list: workers by capability, how they are, and how much of them is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from comfystream.errors import BusyError

__all__ = ["Health", "NoWorker", "Registered", "Worker", "Workers"]

FAILED_S = 30.0  # so long after a failure others come first
MOST_WORKERS = 1000


class NoWorker(BusyError):
    """Nobody who could do it is there, or has room."""

    default_code = "no_worker"
    retry_after_s = 5


class Health(Enum):
    """How a worker answers when it is asked."""

    READY = "ready"
    LOADING = "loading"
    ERROR = "error"
    GONE = "gone"


class Registered(BaseModel):
    """What a worker says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1, max_length=200)
    url: str = Field(min_length=1, max_length=2000, pattern=r"^https?://[^/\s]+")
    description: str = Field("", max_length=2000)
    capacity: int = Field(1, ge=1, le=10_000, strict=True)
    price_per_unit: int = Field(0, ge=0, strict=True)
    price_scaling: int = Field(1, ge=0, strict=True)
    currency: str = Field("", max_length=20)
    token: SecretStr = SecretStr("")

    @field_validator("url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")


@dataclass(slots=True, eq=False)
class Worker:
    """One entry of the list.

    Attributes:
        said: what it registered with.
        base: the address under which it reached us: channels are handed to it under that.
        health: as it was seen last.
        load: streams and requests that it works on for us.
        failed_s: when it failed last, on the list's clock.
        missed: times in a row that it did not answer when asked how it is.
    """

    said: Registered
    base: str
    health: Health = Health.READY
    load: int = 0
    failed_s: float = field(default=float("-inf"))
    missed: int = 0

    @property
    def url(self) -> str:
        """Where it is called."""
        return self.said.url

    @property
    def name(self) -> str:
        """The capability that it offers."""
        return self.said.name

    @property
    def free(self) -> int:
        """Places."""
        return max(0, self.said.capacity - self.load)

    @property
    def headers(self) -> dict[str, str]:
        """What it is shown with every call."""
        token = self.said.token.get_secret_value()
        return {"Authorization": f"Bearer {token}"} if token else {}


class Workers:
    """The list. One capability may have many workers, told apart by their URL.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listed: dict[tuple[str, str], Worker] = {}

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._listed.values()))

    def register(self, said: Registered, base: str) -> Worker:
        """Put on the list, or renew what is known; streams that run count on.

        Raises:
            BusyError: the list is full.
        """
        key = (said.name, said.url)
        known = self._listed.get(key)
        if known is None:
            if len(self._listed) >= MOST_WORKERS:
                raise BusyError(f"{MOST_WORKERS} workers are on the list already", code="too_many_workers")
            known = self._listed[key] = Worker(said, base)
        known.said, known.base, known.health, known.missed = said, base, Health.READY, 0
        return known

    def unregister(self, name: str, url: str = "") -> int:
        """Take the workers of a capability off the list, or only the one at `url`: how many went."""
        gone = [one for one in self if one.name == name and url.rstrip("/") in ("", one.url)]
        for one in gone:
            self.remove(one)
        return len(gone)

    def remove(self, worker: Worker) -> None:
        """Take one off the list. Idempotent."""
        worker.health = Health.GONE
        if self._listed.get((worker.name, worker.url)) is worker:
            del self._listed[worker.name, worker.url]

    def failed(self, worker: Worker) -> None:
        """Others come first for a while."""
        worker.failed_s = self._clock()

    def capacity(self, name: str) -> int:
        """Free places of a capability."""
        return sum(one.free for one in self if one.name == name and one.health in _USABLE)

    def choose(self, name: str, without: Iterable[Worker] = ()) -> Worker:
        """The best for a new stream: ready before loading, without a failure of late, the least taken.

        Raises:
            NoWorker: says whether there is none, or none with room.
        """
        all_of_name = [one for one in self if one.name == name]
        left = [one for one in all_of_name if one.free and one.health in _USABLE and one not in set(without)]
        if not left:
            raise self._none(name, all_of_name)
        now = self._clock()

        def rank(one: Worker) -> tuple[bool, bool, float]:
            return (one.health is not Health.READY, now - one.failed_s < FAILED_S, one.load / one.said.capacity)

        return min(left, key=rank)

    def _none(self, name: str, listed: list[Worker]) -> NoWorker:
        if listed:
            states = ", ".join(f"{one.url} is {one.health.value}, {one.free} free" for one in listed[:5])
            return NoWorker(f'no worker for "{name}" can take this now: {states}', hint="try again in some seconds")
        others = ", ".join(sorted({one.name for one in self})[:10])
        hint = f"registered are: {others}" if others else "start one: comfystream byoc, with ORCH_URL and ORCH_SECRET"
        return NoWorker(f'no worker for "{name[:80]}" is registered', hint=hint)


_USABLE = (Health.READY, Health.LOADING)
