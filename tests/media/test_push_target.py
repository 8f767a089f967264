"""Which addresses a pattern allows, and what is shown of them."""

from __future__ import annotations

import pytest

from comfystream.errors import ConfigError, MediaError
from comfystream.media import push_target
from comfystream.media.push_target import check_push_url, is_allowed, push_command, shown, without_secrets


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
    "url", ["", "x", "file:///etc/x", "pipe:1", "http://a/b", "rtmp://a b/c", "rtmp://", "tee:a|b", "rtmp://\ud800/a"]
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


@pytest.mark.parametrize(
    ("url", "address", "secrets"),
    [
        ("rtmp://h/live/key?a=b/c", "rtmp://h/live", {"rtmp_app": "live", "rtmp_playpath": "key?a=b/c"}),
        ("rtmps://h:444/a/b/key", "rtmps://h:444/a/b", {"rtmp_app": "a/b", "rtmp_playpath": "key"}),
        ("rtmp://h/a/b/c/key", "rtmp://h/a/b", {"rtmp_app": "a/b", "rtmp_playpath": "c/key"}),
        ("rtmp://h/a/mp4:b/key", "rtmp://h/a", {"rtmp_app": "a", "rtmp_playpath": "mp4:b/key"}),
        ("rtmp://h/key", "rtmp://h", {"rtmp_app": "key"}),
        ("rtmp://me:word@h:1/key?token=a/b", "rtmp://me:word@h:1", {"rtmp_app": "key?token=a/b"}),
        ("rtmp://h", "rtmp://h", {}),
        ("rtmp://h/", "rtmp://h/", {}),
        (
            "srt://h:9?mode=caller&passphrase=a+b%20&streamid=%23!::r=x+y",
            "srt://h:9?mode=caller",
            {"passphrase": "a b%20", "srt_streamid": "#!::r=x y"},
        ),
        ("srt://h:9", "srt://h:9", {}),
        ("rtsp://h/key", "rtsp://h/key", {}),
    ],
)
def test_what_is_secret_in_an_address_is_taken_out(url: str, address: str, secrets: dict[str, str]) -> None:
    assert without_secrets(url) == (address, secrets)


def test_a_key_is_in_no_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_target.shutil, "which", lambda name: f"/usr/bin/{name}")
    command = push_command("rtmp://h/live/the-key", hides=True)
    assert not [argument for argument in command.arguments if "the-key" in argument]
    assert command.preset == "rtmp_app=live\nrtmp_playpath=the-key\n"
    assert push_command("rtmp://h/live/the-key", hides=False).arguments[-1].endswith("the-key")
    for key in ("=key", "k" * 1000):
        with pytest.raises(MediaError, match="its key is too long, or begins with ="):
            push_command(f"rtmp://h/live/{key}", hides=True)
