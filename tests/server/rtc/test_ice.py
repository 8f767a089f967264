from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from comfystream.errors import ConfigError
from comfystream_server.rtc.ice import IceServer, IceSettings, PortRange, TurnSecret

TURN = ("turn:turn.example.org:3478?transport=udp", "turns:turn.example.org:5349")


def test_nothing_public_by_default() -> None:
    assert IceSettings().for_browser() == []
    assert IceSettings().configuration().iceServers == []


def test_a_password_made_from_a_secret() -> None:
    """As coturn checks it: base64 of HMAC-SHA1 over "expiry:user"."""
    settings = IceSettings((IceServer(("stun:stun.example.org",)),), (TurnSecret(TURN, "s3cret", ttl_s=60),))
    stun, turn = settings.for_browser(now_s=1000.9)
    assert stun == {"urls": ["stun:stun.example.org"]}
    assert turn["username"] == "1060:comfystream"
    digest = hmac.new(b"s3cret", b"1060:comfystream", hashlib.sha1).digest()
    assert turn["credential"] == base64.b64encode(digest).decode()
    assert "s3cret" not in str(settings.for_browser())
    assert settings.configuration(1000.9).iceServers[1].credential == turn["credential"]


@pytest.mark.parametrize(
    ("urls", "words"),
    [((), "at least one"), (("http://x",), "invalid scheme"), (("stun:",), "malformed"), (TURN, "no username")],
)
def test_a_bad_server_says_what_is_bad(urls: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        IceServer(urls)


def test_ports() -> None:
    assert PortRange.parse("50000-50100") == PortRange(50_000, 50_100)
    assert PortRange.parse("5000") == PortRange(5000, 5000)
    for text in ("", "a-b", "9-1", "0-5", "1-70000"):
        with pytest.raises(ConfigError, match="media ports"):
            PortRange.parse(text)
