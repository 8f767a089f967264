"""What a soak looks at: memory, threads, files and tasks over time, and whether they are flat."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .rows import Goal, Row

__all__ = ["Sample", "growth", "read_process", "verdicts"]

MOST_GROWTH_MB = 8.0  # from the end of the warm-up to the end: what allocators and caches move about
MOST_GROWTH_SHARE = 0.03
MOST_SEGMENTS = 96  # of shared memory: eight for each direction of six runs
MOST_MORE = {"threads": 3.0, "fds": 6.0, "tasks": 8.0}  # viewers come and go while samples are taken
OLDEST_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    Attributes:
        at_s: since the beginning.
        server_mb, engine_mb: resident memory.
        server_threads, engine_threads, server_fds, engine_fds: of each process.
        tasks: of the server's event loop.
        sessions, viewers: at that moment.
    """

    at_s: float
    server_mb: float
    engine_mb: float
    server_threads: float
    engine_threads: float
    server_fds: float
    engine_fds: float
    tasks: float
    sessions: float
    viewers: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return asdict(self)


def read_process(pid: int) -> tuple[float, float, float]:
    """Resident memory in MB, threads and open files of a process, as Linux tells them.

    Shared memory is opened as it is needed, up to eight segments per run and direction, and kept: how many a run has
    needed so far is no growth, as long as it stays within that.
    """
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text(encoding="ascii").split()[1])
    threads = len(list((folder / "task").iterdir()))
    names = [_name_of(entry) for entry in (folder / "fd").iterdir()]
    segments = sum(name.startswith("/dev/shm/") for name in names)
    files = len(names) - min(segments, MOST_SEGMENTS)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, threads, files


def _name_of(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:  # closed meanwhile
        return ""


def growth(samples: Sequence[Sample], name: str) -> float:
    """How much a figure grew over the samples by its slope (Theil-Sen: a burst does not move it), in its unit."""
    points = [(one.at_s, float(getattr(one, name))) for one in samples]
    slopes = [
        (y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :] if x2 > x1
    ]
    return statistics.median(slopes) * (points[-1][0] - points[0][0]) if slopes else 0.0


def verdicts(samples: Sequence[Sample], warm_up_s: float) -> Iterator[Row]:
    """Rows with goals: what grew after the warm-up, and by how much it may."""
    kept = [one for one in samples if one.at_s >= warm_up_s]
    if len(kept) < 3:
        return
    minutes = (kept[-1].at_s - kept[0].at_s) / 60
    for name in ("server_mb", "engine_mb"):
        level = statistics.median(getattr(one, name) for one in kept)
        limit = max(MOST_GROWTH_MB, MOST_GROWTH_SHARE * level)
        grown = growth(kept, name)
        who = name.removesuffix("_mb")
        yield Row("soak", who, "memory growth", "MB", grown, goal=Goal("ours", round(limit, 1)))
        yield Row("soak", who, "memory slope", "MB/min", grown / minutes)
        yield Row("soak", who, "memory", "MB", getattr(kept[-1], name), getattr(kept[0], name), "warm")
    for name in ("server_threads", "server_fds", "engine_threads", "engine_fds", "tasks"):
        who, _, what = name.rpartition("_")
        yield Row(
            "soak", who or "server", f"{what}, growth", "", growth(kept, name), goal=Goal("ours", MOST_MORE[what])
        )
        yield Row("soak", who or "server", what, "", getattr(kept[-1], name), getattr(kept[0], name), "warm")
