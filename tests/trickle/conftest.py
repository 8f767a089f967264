"""The servers under test. TRICKLE_SERVER_URL names another server that creates channels for its clients; what needs
options of ours, or is better than the reference on purpose, is then left out, and says so."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from trickle_wire import Peer, new_name, running

REMOTE = os.environ.get("TRICKLE_SERVER_URL", "").rstrip("/")
KEEP_ALIVE_S = 10.0 if REMOTE else 0.15


@pytest.fixture(scope="package")
def server_url() -> Iterator[str]:
    """A server that makes channels."""
    if REMOTE:
        yield REMOTE
        return
    with running(
        auto_create=True, changefeed=True, keep_alive_s=KEEP_ALIVE_S, grace_s=0.1, gone_check_s=0.05
    ) as server:
        yield server.url


@pytest.fixture(scope="package")
def strict_url() -> Iterator[str]:
    """A server that does not make channels."""
    given = os.environ.get("TRICKLE_STRICT_SERVER_URL", "").rstrip("/")
    if REMOTE and not given:
        pytest.skip("needs TRICKLE_STRICT_SERVER_URL, a server that makes no channels for clients")
    if given:
        yield given
        return
    with running() as server:
        yield server.url


@pytest.fixture
def keep_alive_s() -> float:
    """How often the server under test sends 100 Continue."""
    return KEEP_ALIVE_S


@pytest.fixture
def ch(server_url: str) -> Peer:
    """A new channel."""
    return Peer(server_url, new_name()).create()


@pytest.fixture
def ours(request: pytest.FixtureRequest) -> None:
    """For tests of what the reference does not do, or of options."""
    if REMOTE:
        pytest.skip("another server is under test: this is about options or improvements of ours")
