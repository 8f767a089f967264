"""Which addresses a pattern allows, and what is shown of them."""

from __future__ import annotations

import pytest

from comfystream.errors import ConfigError
from comfystream.media.push_target import check_push_url, is_allowed, shown


@pytest.mark.parametrize(
    ("url", "pattern", "fits"),
    [
        ("rtmp://live.example.org/app/key", "rtmp://live.example.org/app/*", True),
        ("rtmp://live.example.org/app/key", "rtmp://live.example.org", True),
        ("rtmp://LIVE.example.org/app/key", "rtmp://live.example.org", True),
        ("rtmp://a.example.org/app/key", "rtmp://*.example.org/app/*", True),
        ("rtmp://evil.example/x.example.org/app/key", "rtmp://*.example.org/app/*", False),
        ("rtmp://live.example.org@evil.example/app/key", "rtmp://live.example.org/*", False),
        ("rtmp://me:word@live.example.org/app/key", "rtmp://live.example.org/*", True),
        ("rtmp://live.example.org.evil.example/app/key", "rtmp://live.example.org/*", False),
        ("rtmp://live.example.org:1/app/key", "rtmp://live.example.org/*", False),
        ("rtmps://live.example.org/app/key", "rtmp://live.example.org/*", False),
        ("rtmp://live.example.org/other/key", "rtmp://live.example.org/app/*", False),
        ("srt://10.0.0.1:9000?streamid=a", "srt://10.0.0.1:*", True),
        ("rtmp://live.example.org/app/key", "*", False),
        ("rtmp://[", "rtmp://*", False),
    ],
)
def test_patterns(url: str, pattern: str, fits: bool) -> None:
    assert is_allowed(url, pattern) is fits


@pytest.mark.parametrize(
    "url", ["", "x", "file:///etc/x", "pipe:1", "http://a/b", "rtmp://a b/c", "rtmp://", "tee:a|b"]
)
def test_what_is_no_address_to_push_to(url: str) -> None:
    with pytest.raises(ConfigError):
        check_push_url(url, ["rtmp://*", "file://*", "http://*"])


def test_nothing_is_allowed_unless_it_is_listed() -> None:
    with pytest.raises(ConfigError, match="allowed_push_urls"):
        check_push_url("rtmp://live.example.org/app/key", [])


def test_secrets_are_not_shown() -> None:
    assert shown("rtmp://me:word@live.example.org/app/key?token=x") == "rtmp://live.example.org/app/..."
    assert shown("srt://10.0.0.1:9000?passphrase=x") == "srt://10.0.0.1:9000/..."
    assert shown("rtmp://[") == "?"
