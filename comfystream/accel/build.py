"""Several engines in a row, with progress in words: "building engine 3/5 (unet), about 4 min left"."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from comfystream.gpu_turns import device_wide, give_way

from .backend import Step
from .cache import CacheEntry, EngineCache
from .key import EngineKey
from .placement import bring
from .registry import Choice
from .runner import memory_trouble, on_device
from .verify import verify_runner

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BuildProgress", "EngineJob", "build_all", "job_of_module"]


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far it is.

    Args:
        number: of the engine that is being built, from 1.
        total: how many there are.
        label: its name.
        step: what is being done.
        share: how much of this engine is done, 0..1.
        left_s: about how long it all takes from here; None when nothing like it was ever built here.
    """

    number: int
    total: int
    label: str
    step: str
    share: float
    left_s: float | None

    def __str__(self) -> str:
        text = f"building engine {self.number}/{self.total} ({self.label})"
        if self.step == WAITING:
            return f"{text}: {WAITING}"
        return f"{text}, about {_in_words(self.left_s)} left" if self.left_s is not None else f"{text}: {self.step}"


WAITING = "waiting for another process to finish building"
OnBuild = Callable[[BuildProgress], None]


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min"


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One engine to make.

    Args:
        label: for people.
        key: what it is.
        make: writes it into a folder, tells its steps, returns the plan's file.
    """

    label: str
    key: EngineKey
    make: Callable[[Path, Step], Path]


def job_of_module(
    choice: Choice, module: nn.Module, key: EngineKey, device: str, *, verifies: bool = True, label: str = ""
) -> EngineJob:
    """The job that makes the engine of a module; where it can run, it is compared with the module before it is kept.

    The module is brought to the device when the engine is built: it need not be there for one that is found.
    """

    def make(folder: Path, on_step: Step) -> Path:
        def step(what: str, share: float) -> None:
            give_way()
            on_step(what, share)

        with on_device(device), device_wide():  # builders time kernels, and wait for the device after each
            with memory_trouble(key.spec.name):
                bring(module, device)
            plan = choice.backend.make(module, key.spec, folder, key.options, step)
        if verifies and choice.capability.can_run:
            on_step("comparing with torch", 1.0)
            runner = choice.backend.load(plan, key.spec, device)
            try:
                verify_runner(runner, module, key.spec)
            finally:
                runner.close()
        return plan

    return EngineJob(label or key.spec.name, key, make)


class _Clockwork:
    """How long the rest takes: by what was built here before, and by what this run has built so far."""

    def __init__(self, jobs: Sequence[EngineJob], cache: EngineCache, clock: Callable[[], float]) -> None:
        self._usual = [cache.usual_build_s(job.key.backend, job.label) for job in jobs]
        self._took: list[float] = []
        self._clock = clock
        self._began = clock()

    def begin(self) -> None:
        self._began = self._clock()

    def end(self, was_built: bool) -> None:
        if was_built:
            self._took.append(self._clock() - self._began)

    def left_s(self, index: int, share: float) -> float | None:
        mean = sum(self._took) / len(self._took) if self._took else None
        expected = [usual if usual is not None else mean for usual in self._usual[index:]]
        spent = self._clock() - self._began
        if expected[0] is None and share > 0.05:
            expected[0] = spent / share
        if any(one is None for one in expected):
            return None
        first, *rest = (one for one in expected if one is not None)
        return max(0.0, first - spent) + sum(rest)


def build_all(
    jobs: Sequence[EngineJob],
    cache: EngineCache,
    on_build: OnBuild = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> list[CacheEntry]:
    """Make the engines that are not there yet, one after the other.

    Args:
        jobs: what to make.
        cache: where they go.
        on_build: told of progress; called on this thread.
        should_stop: looked at while another process builds.
        clock: seconds that only go up.

    Returns:
        An entry per job, in their order.

    Raises:
        EngineError: one of them cannot be built; those before it are kept.
        AssetError: the cache cannot be written to.
        BusyError: `should_stop` said so.
    """
    clockwork = _Clockwork(jobs, cache, clock)
    made = []
    for index, job in enumerate(jobs):
        clockwork.begin()
        was_built = False

        def tell(step: str, share: float, index: int = index, job: EngineJob = job) -> None:
            on_build(BuildProgress(index + 1, len(jobs), job.label, step, share, clockwork.left_s(index, share)))

        def make(folder: Path, job: EngineJob = job, tell: Step = tell) -> Path:
            nonlocal was_built
            was_built = True
            clockwork.begin()
            return job.make(folder, tell)

        def wait(tell: Step = tell) -> None:
            tell(WAITING, 0.0)

        made.append(cache.build(job.key, make, job.label, wait, should_stop))
        clockwork.end(was_built)
    return made
