"""`comfystream bench`: the claims of docs/benchmarks.md, measured on this machine."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["app"]

app: Any = importlib.import_module("comfystream_server.bench.app").app
