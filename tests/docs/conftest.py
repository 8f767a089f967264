"""A folder per page with what its examples use: a short cut of the demo clip and the ready workflows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

SECONDS = "0.5"


@pytest.fixture(scope="session")
def holiday(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first half second of the demo clip, small."""
    from comfystream_server.cli import main

    file = tmp_path_factory.mktemp("clips") / "holiday.mp4"
    workflows = repository / "workflows"
    cut = ("--size", "160x120", "--duration", SECONDS)
    asked = ("run", workflows / "passthrough.json", "-i", workflows / "assets/demo.mp4", "-o", file, *cut, "-q")
    assert main([str(word) for word in asked]) == 0
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path, holiday: Path) -> Path:
    """Where the examples run."""
    shutil.copytree(repository / "workflows", tmp_path / "workflows", ignore=shutil.ignore_patterns("assets"))
    shutil.copy(holiday, tmp_path / "holiday.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path
