"""A server in this process on the engine process that all tests here share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

PACK = Path(__file__).parent.parent / "engine" / "testing_pack.py"


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildEngine]:
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    engine = ChildEngine(EngineOptions(packs=(str(PACK),), threads=1, folders=Folders(base=str(base))))
    yield engine
    engine.close()
