"""The row that says where the figures come from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

__all__ = ["describe_machine"]

PACKAGES = ("torch", "av", "numpy", "opencv-python-headless")


def describe_machine() -> dict[str, Any]:
    """Processor, system and versions, in the shape of a row."""
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "bench": "machine",
        "case": platform.node(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "comfystream": _version("comfystream"),
        **versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
