"""Which addresses may be read: scheme, host, port and path each have to fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clip_file import write_clip

from comfystream.errors import ConfigError, MediaError
from comfystream.session.source_rules import SourceRules

RULES = SourceRules(
    allowed=[
        "rtsp://camera.lan/*",
        "http://127.0.0.1:8080/live/*",
        "https://*.example.org/*",
        "srt://0.0.0.0:9000",
        "http://host:*/a",
        "udp://239.0.0.1:5000",
        "rtsp://[::1]/x",
    ]
)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera.lan/front",
        "rtsp://camera.lan:554/front?channel=1",
        "rtsp://me:secret@camera.lan/front",
        "RTSP://Camera.LAN/front",
        "http://127.0.0.1:8080/live/a.m3u8",
        "https://a.b.example.org/x",
        "srt://0.0.0.0:9000?mode=listener",
        "http://host:81/a",
        "udp://239.0.0.1:5000",
        "rtsp://[::1]/x",
    ],
)
def test_what_is_on_the_list_may_be_read(url: str) -> None:
    assert RULES.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera.lan.evil.org/front",
        "rtsp://evil.org/camera.lan/front",
        "rtsp://camera.lan@evil.org/front",
        "rtsp://camera.lan:8554/front",
        "rtsps://camera.lan/front",
        "http://127.0.0.1:8080/live/../admin",
        "http://127.0.0.1:8080/live/%2e%2e/admin",
        "http://127.0.0.1/live/a",
        "http://169.254.169.254/latest",
        "https://evil.org/.example.org/x",
        "https://example.org/x",
        "srt://0.0.0.0:9001?mode=listener",
        "http://host:81/b",
        "http://127.0.0.1:8080\\@evil.org/live/a",
        "http://127.0.0.1:8080 .evil.org/live/",
        "http://evil.org#@127.0.0.1:8080/live/a",
        "http://host:99999999/a",
        "http://[::1/a",
    ],
)
def test_what_is_not_on_the_list_may_not(url: str) -> None:
    with pytest.raises(MediaError) as caught:
        RULES.url(url)
    assert caught.value.code in ("url_not_allowed", "bad_url")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "concat:a|b", "/etc/passwd", "subfile,,start,0,end,9,,:/etc/passwd", "data:,x", "ftp://a/b"]
)
def test_other_protocols_are_no_addresses(url: str) -> None:
    with pytest.raises(MediaError) as caught:
        SourceRules(allowed=["http://*:*/*", "rtsp://*/*"]).url(url)
    assert caught.value.code == "bad_url"


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(MediaError, match="may not be read") as caught:
        SourceRules().url("rtsp://camera.lan/front")
    assert "allowed_urls" in caught.value.hint


def test_passwords_are_not_shown() -> None:
    plan = RULES.url("rtsp://me:secret@camera.lan/front?key=word")
    assert plan.name == "rtsp://camera.lan/front"
    with pytest.raises(MediaError) as caught:
        RULES.url("rtsp://me:secret@other.lan/front")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["camera.lan", "file:///*", "*", "rtsp://", "ftp://host/*"])
def test_a_pattern_that_cannot_be_used_is_said_at_the_start(pattern: str) -> None:
    with pytest.raises(ConfigError, match="allowed_urls"):
        SourceRules(allowed=[pattern])


def test_of_two_folders_the_first_wins_and_hidden_files_are_not_listed(tmp_path: Path) -> None:
    for name, frames in (("a/x.mp4", 2), ("b/x.mp4", 9), ("b/y/z.mp4", 2), ("b/.hidden.mp4", 2)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / name, frames=frames, sound=False)
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    rules = SourceRules([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    assert [file.path for file in rules.listed()] == ["x.mp4", "y/z.mp4"]
    with pytest.raises(MediaError):
        rules.file("y/../x.mp4", is_looped=True, has_sound=True)
    with pytest.raises(MediaError):
        rules.file(".hidden.mp4", is_looped=True, has_sound=True)
    assert rules.listed()[0].size == (tmp_path / "a" / "x.mp4").stat().st_size
