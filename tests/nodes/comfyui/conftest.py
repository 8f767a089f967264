"""A stub ComfyUI for the tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from comfyui_stub import StubComfyUI, bare_python, make_checkout


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def comfyui(python: Path, checkout: Path, tmp_path: Path) -> Iterator[Callable[..., StubComfyUI]]:
    """Starts one; what still runs at the end is killed."""
    started: list[StubComfyUI] = []

    def start(**environ: str) -> StubComfyUI:
        started.append(StubComfyUI(python, checkout, tmp_path, **environ))
        return started[-1]

    yield start
    for one in started:
        one.end()
