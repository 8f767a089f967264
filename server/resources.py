"""Memory and GPU as the system tells of them; what it does not tell is left out."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GpuReading", "Gpus", "memory_bytes"]

FRESH_S = 0.9


def memory_bytes(pid: int) -> int | None:
    """Memory that a process holds (resident); None where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU at one moment; None for what its driver does not say.

    Attributes:
        utilisation: share of the last moments in which something ran, in percent.
        memory_used_bytes, memory_total_bytes: of the whole GPU, all programs together.
        engine_memory_bytes: held by the engine process.
        temperature_c: degrees Celsius.
        power_w: watts.
    """

    index: int
    name: str
    utilisation: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    engine_memory_bytes: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


class Gpus:
    """Asks NVIDIA's management library (nvidia-ml-py), which needs no CUDA context; nothing where it is missing.

    Args:
        now_s: monotonic seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._library: Any = None
        self._is_tried = False
        self._read_s = float("-inf")
        self._last: tuple[GpuReading, ...] = ()
        self._reading: threading.Thread | None = None

    def read(self, engine_pid: int | None = None) -> tuple[GpuReading, ...]:
        """All GPUs; the last reading again within a second of it."""
        library = self._loaded()
        if library is None:
            return ()
        if self._now_s() - self._read_s >= FRESH_S:
            self._last = tuple(_read(library, index, engine_pid) for index in range(_count(library)))
            self._read_s = self._now_s()
        return self._last

    def latest(self, engine_pid: int | None = None) -> tuple[GpuReading, ...]:
        """The last reading; an older one than a second has a new one made beside, since a driver may take its time."""
        if self._reading is None or not self._reading.is_alive():
            is_none = self._is_tried and self._library is None
            if not is_none and self._now_s() - self._read_s >= FRESH_S:
                self._reading = threading.Thread(target=self.read, args=(engine_pid,), name="gpus", daemon=True)
                self._reading.start()
        return self._last

    def _loaded(self) -> Any:
        if not self._is_tried:
            self._is_tried = True
            with contextlib.suppress(ImportError):
                import pynvml

                with contextlib.suppress(pynvml.NVMLError):  # no driver
                    pynvml.nvmlInit()
                    self._library = pynvml
        return self._library


def _count(library: Any) -> int:
    try:
        return int(library.nvmlDeviceGetCount())
    except library.NVMLError:
        return 0


def _read(library: Any, index: int, engine_pid: int | None) -> GpuReading:
    def told(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except library.NVMLError:  # this driver or this GPU does not know
            return None

    handle = told(lambda: library.nvmlDeviceGetHandleByIndex(index))
    if handle is None:
        return GpuReading(index, "")
    memory = told(lambda: library.nvmlDeviceGetMemoryInfo(handle))
    name = told(lambda: library.nvmlDeviceGetName(handle)) or ""
    running = told(lambda: library.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
    return GpuReading(
        index=index,
        name=name.decode() if isinstance(name, bytes) else name,
        utilisation=told(lambda: int(library.nvmlDeviceGetUtilizationRates(handle).gpu)),
        memory_used_bytes=memory and int(memory.used),
        memory_total_bytes=memory and int(memory.total),
        engine_memory_bytes=next((one.usedGpuMemory for one in running if one.pid == engine_pid), None),
        temperature_c=told(lambda: int(library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU))),
        power_w=told(lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000),
    )
