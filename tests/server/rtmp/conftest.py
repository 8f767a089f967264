"""An engine for the servers here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

TESTING_PACK = Path(__file__).parent.parent.parent / "engine" / "testing_pack"


@pytest.fixture(scope="session")
def rtmp_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildEngine]:
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    engine = ChildEngine(EngineOptions(packs=(str(TESTING_PACK),), threads=1, folders=Folders(base=str(base))))
    yield engine
    engine.close()
