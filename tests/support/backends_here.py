"""Which acceleration backends a test can use on this machine."""

from __future__ import annotations

import pytest

from comfystream.accel.registry import probe_all

__all__ = ["need_backend"]


def need_backend(name: str, *, to_build: bool = False) -> None:
    """Skip the test, with the reason, when a backend does not run here, or cannot build; "auto" always does."""
    can = {one.backend: one for one in probe_all()}.get(name)
    if can is not None and not (can.can_run and (can.can_build or not to_build)):
        pytest.skip(f"{name} NOT RUN: {can.reason}")
