"""A real ComfyUI to test with: COMFYUI_PATH names it, COMFYUI_PYTHON a Python that has its packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkout() -> Path:
    return Path(os.environ["COMFYUI_PATH"]).absolute()


@pytest.fixture(scope="session")
def python() -> str:
    return os.environ.get("COMFYUI_PYTHON", sys.executable)
