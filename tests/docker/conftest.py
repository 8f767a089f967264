"""The image for the processor, built for real: once for all tests that ask for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from image_builder import Image, build

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image in a container of its own; skipped, loudly, where images cannot be built."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        needed = ", ".join(missing) or "root"
        pytest.skip(f"NO IMAGE IS BUILT: {needed} is needed (apt-get install buildah debootstrap)")
    with build(REPOSITORY, tmp_path_factory.mktemp("image")) as built:
        yield built


@pytest.fixture
def comfystream_help(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What `comfystream COMMAND --help` prints."""

    def run(command: str) -> str:
        from comfystream_server.cli import main

        main([command, "--help"])
        return capsys.readouterr().out

    return run
