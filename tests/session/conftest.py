"""A child engine with the testing nodes, shared by the live tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

PACK = Path(__file__).parent.parent / "engine" / "testing_pack"


@pytest.fixture(scope="session")
def engine_options(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    return EngineOptions(packs=(str(PACK),), threads=1, folders=Folders(base=str(base)))


@pytest.fixture(scope="session")
def shared_engine(engine_options: EngineOptions) -> Iterator[ChildEngine]:
    engine = ChildEngine(engine_options)
    yield engine
    engine.close()
