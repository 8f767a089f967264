"""Clocks, power and use of the GPU while something runs: by NVML, or by nvidia-smi where its package is missing."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Gauges", "Reading", "Watch", "resident_mb"]

SMI_FIELDS = "clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu"
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """The GPU at one moment.

    Attributes:
        sm_mhz: clock of the processors.
        memory_mhz: clock of the memory.
        power_w: drawn.
        temperature_c: of the chip.
        busy: share of the last moment in which a kernel ran, 0..1.
        energy_j: drawn since the driver was loaded; None where it is not told.
    """

    sm_mhz: float
    memory_mhz: float
    power_w: float
    temperature_c: float
    busy: float
    energy_j: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {name: getattr(self, name) for name in self.__slots__}


class Gauges:
    """Reads the first GPU. `read` gives None on a machine where nothing can be read."""

    def __init__(self) -> None:
        self._nvml, self._handle = _nvml()
        self._smi = shutil.which("nvidia-smi") if self._nvml is None else None

    def describe(self) -> dict[str, Any]:
        """Driver, and where readings come from."""
        source = "nvml" if self._nvml is not None else "nvidia-smi" if self._smi else "none"
        driver = ""
        if self._nvml is not None:
            driver = str(self._nvml.nvmlSystemGetDriverVersion())
        elif self._smi:
            driver = _ask(self._smi, "driver_version")
        return {"driver": driver, "gauges": source}

    def read(self) -> Reading | None:
        """As it is now."""
        if self._nvml is not None:
            return self._read_nvml()
        if not self._smi:
            return None
        try:
            sm, memory, power, temperature, busy = (float(one) for one in _ask(self._smi, SMI_FIELDS).split(","))
        except ValueError:
            return None
        return Reading(sm, memory, power, temperature, busy / 100)

    def _read_nvml(self) -> Reading | None:
        nvml, handle = self._nvml, self._handle
        try:
            energy = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except nvml.NVMLError:
            energy = None
        try:
            return Reading(
                float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
                float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
                nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
                float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
                nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
                energy,
            )
        except nvml.NVMLError:
            return None


def _nvml() -> tuple[Any, Any]:
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:
        return None, None


def _ask(program: str, fields: str) -> str:
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


@dataclass(slots=True)
class Watch:
    """Looks at the gauges on a thread of its own while something runs.

    Args:
        gauges: what to look at.
    """

    gauges: Gauges
    readings: list[Reading] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _began: float = 0.0
    _took_s: float = 0.0

    def __enter__(self) -> Watch:
        self._look()
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._run, name="gpu gauges", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._took_s = time.perf_counter() - self._began
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self._look()

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        found = self.gauges.read()
        if found is not None:
            self.readings.append(found)

    def summary(self, pictures: int) -> dict[str, Any]:
        """Means, the first and the last reading, and joules per picture."""
        if not self.readings:
            return {}
        first, last = self.readings[0], self.readings[-1]
        within = self.readings[1:-1] or self.readings
        joules = statistics.fmean(one.power_w for one in within) * self._took_s
        if first.energy_j is not None and last.energy_j is not None:
            joules = last.energy_j - first.energy_j
        return {
            "start": first.to_json(),
            "end": last.to_json(),
            "busy": statistics.fmean(one.busy for one in within),
            "power_w": statistics.fmean(one.power_w for one in within),
            "j_per_picture": joules / pictures,
        }


def resident_mb() -> float:
    """Memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0
