from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_lost_exceptions(caplog: pytest.LogCaptureFixture):
    """asyncio logs what nobody awaited: that is a failure."""
    yield
    lost = [record.getMessage() for record in caplog.records if record.name == "asyncio" and record.levelno >= 40]
    assert not lost
