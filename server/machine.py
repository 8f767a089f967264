"""What this machine and its software are, for reports and for `doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import comfystream

__all__ = ["machine", "version_of", "versions"]

PACKAGES = ("torch", "av", "numpy", "opencv-python-headless", "pillow", "pydantic")


def version_of(package: str) -> str | None:
    """Version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Python, ComfyStream and the packages that do the work."""
    found = {"comfystream": comfystream.__version__, "python": platform.python_version()}
    found.update({name: version for name in PACKAGES if (version := version_of(name))})
    return found


def machine() -> dict[str, Any]:
    """System, processor and memory."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": _memory_bytes(),
        "gpu": _gpu(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gpu() -> str | None:
    """Name of the GPU that torch uses, when torch is loaded anyway."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
