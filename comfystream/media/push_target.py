"""Where a session may be pushed to: which addresses, in which container, and how they are shown."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, unquote_plus, urlsplit

from comfystream.errors import ConfigError, MediaError

__all__ = ["FORMATS", "PushCommand", "check_push_url", "is_allowed", "push_command", "shown", "without_secrets"]

FORMATS = {
    "rtmp": ["-f", "flv", "-flvflags", "no_duration_filesize"],
    "rtmps": ["-f", "flv", "-flvflags", "no_duration_filesize", "-tls_verify", "1"],
    "srt": ["-f", "mpegts"],
    "udp": ["-f", "mpegts"],
    "tcp": ["-f", "mpegts"],
    "rtsp": ["-f", "rtsp", "-rtsp_transport", "tcp"],
    "rtsps": ["-f", "rtsp", "-rtsp_transport", "tcp", "-tls_verify", "1"],
}
_READ = ["-fpsprobesize", "0", "-analyzeduration", "500000", "-f", "flv", "-i", "pipe:0"]

_MOST_LINE = 990  # bytes of a line that FFmpeg reads of a preset
# What is secret in the query of an SRT address, as options. FFmpeg decodes escapes in an identifier only.
_SRT = {"passphrase": "passphrase", "streamid": "srt_streamid"}
_SRT_READS = {"passphrase": lambda value: value.replace("+", " "), "streamid": unquote_plus}


def check_push_url(url: str, allowed: Sequence[str]) -> str:
    """The address, if it may be pushed to.

    Raises:
        ConfigError: it is no address, its protocol is not known, or the operator does not allow it.
    """
    parts = _split(url)
    if parts is None or re.search(r"[\s\x00-\x1f\x7f\ud800-\udfff]", url):
        raise ConfigError("this is no address to push to", code="bad_url", hint="such as rtmp://host/app/key")
    if parts.scheme not in FORMATS:
        known = ", ".join(FORMATS)
        raise ConfigError(f'cannot push by "{parts.scheme[:20]}"', code="bad_url", hint=f"there are {known}")
    if not any(is_allowed(url, pattern) for pattern in allowed):
        raise ConfigError(
            f"{shown(url)} may not be pushed to",
            code="push_not_allowed",
            hint="the operator lists the addresses in the setting allowed_push_urls",
        )
    return url


def is_allowed(url: str, pattern: str) -> bool:
    """Whether an address fits a pattern, each part by itself, so that no `*` reaches beyond its part.

    `rtmp://*.example.org/live/*` allows hosts below example.org; a pattern without a path allows any path.
    """
    mine, theirs = _split(url), _split(pattern)
    if mine is None or theirs is None or mine.scheme != theirs.scheme:
        return False
    if not fnmatchcase(_host(mine), _host(theirs)):
        return False
    wanted = _rest(theirs)
    return not wanted or fnmatchcase(_rest(mine), wanted)


def shown(url: str) -> str:
    """An address without what is secret in it: passwords, stream keys, what stands in the query."""
    parts = _split(url)
    if parts is None:
        return "?"
    folder = parts.path.rpartition("/")[0] if parts.path.count("/") > 1 else ""
    return f"{parts.scheme}://{_host(parts)}{folder}" + ("/..." if parts.path.strip("/") or parts.query else "")


@dataclass(frozen=True, slots=True)
class PushCommand:
    """The program that takes an FLV stream and sends it.

    Attributes:
        arguments: with its name; other users of the machine can read them.
        preset: options for its `-fpre FILE`, which has to come before the last of `arguments`; "" if there are none.
    """

    arguments: list[str]
    preset: str


def push_command(url: str, *, hides: bool = sys.platform != "win32") -> PushCommand:
    """How the program is called for an address.

    Args:
        url: one that `check_push_url` has let through.
        hides: keep its key out of the arguments. On Windows nobody else can read them.

    A program of its own, because a peer that stops reading can hold libav's calls for ever, and a process can be ended.
    PyAV's own libraries also come without SRT, and do not let a caller ask for TLS certificates to be checked.

    Raises:
        MediaError: it is not installed, or the address has a key that it cannot be told in a file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise MediaError("pushing needs the program ffmpeg", code="no_ffmpeg", hint="install it: apt install ffmpeg")
    quiet = ["-hide_banner", "-nostdin", "-loglevel", "error", "-progress", "pipe:1", "-stats_period", "0.5"]
    address, secrets = without_secrets(url) if hides else (url, {})
    for name, value in secrets.items():
        if value.startswith("=") or len(name) + len(value.encode()) > _MOST_LINE:
            raise MediaError(f"{shown(url)}: its key is too long, or begins with =", code="bad_url")
    out = ["-c", "copy", "-flush_packets", "1", *FORMATS[urlsplit(url).scheme], address]
    preset = "".join(f"{name}={value}\n" for name, value in secrets.items())
    return PushCommand([program, *quiet, *_READ, *out], preset)


def without_secrets(url: str) -> tuple[str, dict[str, str]]:
    """An address without its stream key or passphrase, and these as options of FFmpeg's protocol.

    RTMP: what follows the application's name, which has two parts where three or more are given, as FFmpeg reads it.
    Where there is nothing but that name, it may be the key itself, as at gateways of the Livepeer network.
    RTSP has no such option: its address stays whole.
    """
    parts = urlsplit(url)
    if parts.scheme in ("rtmp", "rtmps"):
        names = parts.path.lstrip("/").split("/")
        count = 2 if len(names) > 2 and ":" not in names[1] else 1
        app, key = "/".join(names[:count]), "/".join(names[count:]) + (f"?{parts.query}" if parts.query else "")
        if app and count == len(names):
            return f"{parts.scheme}://{parts.netloc}", {"rtmp_app": app + key}
        if app and key:
            return f"{parts.scheme}://{parts.netloc}/{app}", {"rtmp_app": app, "rtmp_playpath": key}
    if parts.scheme == "srt":
        given = [pair.partition("=")[::2] for pair in parts.query.split("&")]
        secrets = {_SRT[name]: _SRT_READS[name](value) for name, value in given if name in _SRT}
        left = "&".join(f"{name}={value}" for name, value in given if name and name not in _SRT)
        return parts._replace(query=left).geturl(), secrets
    return url, {}


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts if parts.scheme and _host(parts) else None


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


def _rest(parts: SplitResult) -> str:
    return parts.path + (f"?{parts.query}" if parts.query else "")
