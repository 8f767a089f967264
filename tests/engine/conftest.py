"""Engines to test, in this process and in a child."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Run

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import Engine, EngineOptions
from comfystream.media.device.backend import HostBackend

PACKS = [str(Path(__file__).with_name(name)) for name in ("testing_pack", "testing_pack_expand.py")]


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    folders = Folders(base=str(base))
    return EngineOptions(packs=tuple(PACKS), threads=1, folders=folders, frames_on="host")


@pytest.fixture(scope="session")
def local(options: EngineOptions) -> Iterator[LocalEngine]:
    engine = LocalEngine(options)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def child(options: EngineOptions) -> Iterator[ChildEngine]:
    engine = ChildEngine(options)
    yield engine
    engine.close()


@pytest.fixture(params=["local", "scheduled", "pipelined", "child"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Every test that takes this runs compiled, on the scheduler (which must not differ), by the way of a device, and
    in a child process.
    """
    if request.param == "pipelined":  # the processor is the device
        monkeypatch.setattr(request.getfixturevalue("local").host, "backend", HostBackend())
    if request.param == "scheduled":
        monkeypatch.setattr("comfystream.engine.plan.may_expand", lambda spec: True)
    engine: Engine = request.getfixturevalue("child" if request.param == "child" else "local")
    return engine


@pytest.fixture
def open_run(engine: Engine) -> Iterator[Callable[..., Run]]:
    """Opens runs on both kinds of engine, and closes them."""
    runs: list[Run] = []

    def open_(**options: Any) -> Run:
        runs.append(Run(engine, **options))
        return runs[-1]

    yield open_
    for run in runs:
        run.runner.close()
