"""A run: workloads by importance, within a budget of time; each step is told and kept as soon as it is there."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from comfystream.accel.backend import Capability
from comfystream.accel.machine import machine
from comfystream.accel.registry import probe_all
from comfystream.errors import ComfyStreamError, ConfigError, EngineError

from ..machine import describe_machine
from .cost import HARDWARE, Hardware
from .gauges import Gauges
from .journal import Journal
from .measure import Amounts, flat_out, is_finite, paced, parts
from .prepared import Prepared
from .report import case_lines, machine_lines
from .scale import REAL, Scale
from .workloads import FRAME_PATH, Workload, chosen

__all__ = ["BACKENDS", "Options", "run_bench"]

log = logging.getLogger(__name__)

BACKENDS = ("cuda-graph", "inductor", "tensorrt", "tensorrt-rtx", "eager")
"""In the order in which they are measured: what is most likely to be used first, for a budget may end."""

BUILD_S = {"eager": 8.0, "cuda-graph": 12.0, "inductor": 120.0, "tensorrt": 240.0, "tensorrt-rtx": 120.0}
"""Estimates for SD-Turbo; what a backend took last takes their place."""

MEASURE_S = 20.0
QUICKLY_READY = "cuda-graph"
"""What makes no engines: all workloads have a figure by it before some get a better one."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        only: keys of workloads; empty for all.
        rows: of the first workload, or of those in `only`; empty for what each has goals for.
        backends: empty for all that work here.
        is_everything: every workload by every backend; otherwise only the first one, and the others by the fastest.
        budget_s: no case begins that would not end within it; 0 is without end.
        amounts: how much is measured.
        scale: of the models.
        precision: of all models.
        engines: where engines are kept; None begins with none.
    """

    only: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()
    is_everything: bool = False
    budget_s: float = 0.0
    amounts: Amounts = field(default_factory=Amounts)
    scale: Scale = REAL
    precision: str = "fp16"
    engines: Path | None = None


Say = Callable[[str], None]


def run_bench(options: Options, say: Say, json: Path | None = None, device: str = "cuda") -> Journal:
    """Measure.

    Args:
        options: what.
        say: told every line as soon as it is known.
        json: the file that is written along.
        device: "cuda"; "cpu" only shows that the bench works.

    Raises:
        ConfigError: there is no GPU, and nothing is measured; or an option is wrong.
    """
    here = machine()
    if device == "cuda" and not here.gpu:
        raise ConfigError(
            f"nothing was measured: {here.why_no_gpu}", code="no_gpu", hint="run it on a machine with an NVIDIA GPU"
        )
    workloads, capable = chosen(options.only), _capable(options.backends)
    gauges = Gauges()
    about = _about(gauges, capable)
    journal = Journal(json, about)
    for line in machine_lines(about):
        say(line)
    with _engine_folder(options.engines):
        _Run(options, say, journal, gauges, capable, device).all(workloads)
    reading = gauges.read()
    journal.complete({"gauges": reading.to_json() if reading is not None else None})
    return journal


def _capable(asked: Sequence[str]) -> dict[str, Capability]:
    """The backends to measure; one that was named has to work.

    Raises:
        ConfigError: it does not, or there is none of this name.
    """
    found = {one.backend: one for one in probe_all()}
    for name in asked:
        if name not in found or not found[name].can_run:
            reason = found[name].reason if name in found else f"there is none of this name, but {', '.join(found)}"
            raise ConfigError(f"the backend {name} cannot be measured here: {reason}", code="backend_missing")
    names = asked or [name for name in BACKENDS if name in found and found[name].can_run]
    return {name: found[name] for name in names}


def _about(gauges: Gauges, capable: dict[str, Capability]) -> dict[str, Any]:
    here = machine()
    reading = gauges.read()
    return {
        **describe_machine(),
        **gauges.describe(),
        "gpu": here.gpu or "no GPU",
        "cuda": here.cuda,
        "compute_capability": here.compute_capability,
        "torch": here.torch,
        "diffusers": _version("diffusers"),
        "revision": _revision(),
        "backends": {name: f"{one.version}: {one.reason}" for name, one in capable.items()},
        "at_start": reading.to_json() if reading is not None else None,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _revision() -> str:
    """Of the checkout that this file is in, with a mark when something is changed; empty for an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


@contextmanager
def _engine_folder(kept: Path | None) -> Iterator[None]:
    """Engines of a run are in a folder of their own, so that "cold" means cold."""
    before = os.environ.get("COMFYSTREAM_ENGINES")
    with tempfile.TemporaryDirectory(prefix="comfystream-bench-") as folder:
        os.environ["COMFYSTREAM_ENGINES"] = str(kept or folder)
        try:
            yield
        finally:
            os.environ.pop("COMFYSTREAM_ENGINES", None)
            if before is not None:
                os.environ["COMFYSTREAM_ENGINES"] = before


class _Run:
    """The cases of a run, one after the other."""

    def __init__(
        self,
        options: Options,
        say: Say,
        journal: Journal,
        gauges: Gauges,
        capable: dict[str, Capability],
        device: str,
    ) -> None:
        self._options, self._say, self._journal, self._gauges = options, say, journal, gauges
        self._capable, self._device = capable, device
        self._began = time.monotonic()
        self._build_s = dict(BUILD_S)
        self._hardware: Hardware | None = next((one for part, one in HARDWARE.items() if part in machine().gpu), None)

    def all(self, workloads: Sequence[Workload]) -> None:
        """The first workload by every backend; the others by one that is ready at once, then by the fastest one."""
        self._frame_path()
        if not workloads:
            return
        first, *others = workloads
        rows = self._options.rows or tuple(first.targets)
        for backend in self._capable:
            self._case(first, rows[0], backend)
        more = [(first, number) for number in rows[1:]]
        more[1:1] = [(workload, number) for workload in others for number in self._rows_of(workload)]
        for backend in self._used():
            for workload, number in more:
                self._case(workload, number, backend)

    def _rows_of(self, workload: Workload) -> tuple[int, ...]:
        return self._options.rows if self._options.only and self._options.rows else tuple(workload.targets)

    def _used(self) -> tuple[str, ...]:
        """The backends for all but the first case."""
        if self._options.is_everything:
            return tuple(self._capable)
        fastest = self._fastest()
        first = QUICKLY_READY if QUICKLY_READY in self._capable else fastest
        return (first,) if first == fastest else (first, fastest)

    def _frame_path(self) -> None:
        """The way of a frame without a model."""
        if self._options.only and FRAME_PATH not in self._options.only:
            return
        amounts, side = self._options.amounts, self._options.scale.side
        try:
            from ..frame_path import bench_frame_path

            found = list(
                bench_frame_path(
                    device=self._device, size=(side, side), frames=amounts.ticks, seconds=amounts.paced_s or 1.0
                )
            )
        except (ComfyStreamError, RuntimeError, ImportError) as error:  # PyAV may be missing where only models run
            reason = f"it failed: {' '.join(str(error).split())[:300]}"
            self._dropped(reason, {"workload": FRAME_PATH, "rows": 1, "backend": "none"})
            return
        self._journal.add({"workload": FRAME_PATH, "figures": [row.to_json() for row in found]})
        for row in found:
            beside = f" ({row.baseline_name}: {row.baseline:.3g})" if row.baseline is not None else ""
            self._say(f"frame path {side}², {row.metric}: {row.ours:.4g} {row.unit}{beside}; goal {row.goal or 'none'}")

    def _fastest(self) -> str:
        measured = [case for case in self._journal.cases if "flat_out" in case]
        if not measured:
            return next(iter(self._capable))
        return str(max(measured, key=lambda case: case["flat_out"]["fps"])["backend"])

    def _case(self, workload: Workload, rows: int, backend: str) -> None:
        what = {"workload": workload.key, "rows": rows, "backend": backend}
        needed = self._build_s.get(backend, 60.0) * workload.weight + MEASURE_S
        left = self._options.budget_s - (time.monotonic() - self._began)
        if self._options.budget_s and needed > left:
            self._dropped(f"it takes about {needed:.0f} s, and {max(0.0, left):.0f} s are left", what)
            return
        target = workload.targets.get(rows)
        self._journal.add(
            {
                **what,
                "title": workload.title,
                "version": self._capable[backend].version,
                "target": asdict(target) if target and self._hardware else None,
            }
        )
        try:
            self._measure(workload, rows, backend)
        except Exception as error:  # time on a GPU is short: one case must not cost the others
            log.exception("%s by %s", workload.key, backend)
            self._journal.update(failed=" ".join(str(error).split())[:500])
            self._dropped(f"it failed: {self._journal.cases[-1]['failed']}", what)
        for line in case_lines(self._journal.cases[-1]):
            self._say(line)

    def _dropped(self, reason: str, what: dict[str, Any]) -> None:
        self._journal.drop(reason, **what)
        self._say(f"NOT MEASURED: {what['workload']}, {what['rows']} rows, {what['backend']}: {reason}")

    def _measure(self, workload: Workload, rows: int, backend: str) -> None:
        options, device = self._options, self._device
        made = workload.case.prepare(options.scale, rows, backend, device, options.precision)
        self._build_s[backend] = max(3.0, made.cold_s / workload.weight)
        try:
            self._journal.update(facts=made.facts, cold_s=made.cold_s, cached_s=made.cached_s, proof=made.proof())
            self._journal.update(first_ms=self._first(made), is_finite=is_finite(made))
            if not self._journal.cases[-1]["is_finite"]:
                raise EngineError("its pictures are not finite", code="not_finite")
            self._journal.update(flat_out=flat_out(made, options.amounts, device, self._gauges, self._hardware))
            for pace in options.amounts.paces if options.amounts.paced_s else ():
                found = paced(made, pace, options.amounts.paced_s, device)
                self._journal.update(paced=[*self._journal.cases[-1].get("paced", []), found])
            self._journal.update(parts_ms=parts(made, device))
        finally:
            made.close()
            del made
            self._free()

    def _first(self, made: Prepared) -> float:
        """Milliseconds from a picture to its result, alone."""
        began = time.perf_counter()
        made.tick(made.pictures)
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        return (time.perf_counter() - began) * 1000

    def _free(self) -> None:
        gc.collect()
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()
