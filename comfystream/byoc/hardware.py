"""The GPUs, in the shape that orchestrators read. Without NVIDIA's library there are none."""

from __future__ import annotations

from typing import Any

__all__ = ["gpu_info", "gpu_stats"]


def gpu_info() -> dict[str, dict[str, Any]]:
    """What they are: by index, memory in bytes."""
    return _each(_info)


def gpu_stats() -> dict[str, dict[str, Any]]:
    """How busy they are: by index, in percent."""
    return _each(_stats)


def _each(look: Any) -> dict[str, dict[str, Any]]:
    try:
        import pynvml as nvml
    except ImportError:
        return {}
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return {}
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return {str(index): look(nvml, handle) for index, handle in enumerate(handles)}
    except nvml.NVMLError:
        return {}
    finally:
        nvml.nvmlShutdown()


def _common(nvml: Any, handle: Any) -> dict[str, Any]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "id": _text(nvml.nvmlDeviceGetUUID(handle)),
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory_total": int(memory.total),
        "memory_free": int(memory.free),
    }


def _info(nvml: Any, handle: Any) -> dict[str, Any]:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return {**_common(nvml, handle), "major": major, "minor": minor}


def _stats(nvml: Any, handle: Any) -> dict[str, Any]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {
        **_common(nvml, handle),
        "utilization_compute": int(rates.gpu),
        "utilization_memory": int(rates.memory),
    }


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
