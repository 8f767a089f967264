"""Which files and addresses a session may be told to read: those in named folders and those on a list."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from comfystream.errors import ConfigError, MediaError
from comfystream.media.adapted import Looped
from comfystream.media.decoders import choose_decoder
from comfystream.media.file_source import FileSource
from comfystream.media.pattern import PatternSource
from comfystream.media.source import Source
from comfystream.media.url_source import IN_BURSTS, SCHEMES, UrlSource
from comfystream.session.source_state import SourcePlan

__all__ = ["MediaFile", "SourceRules"]

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".gif", ".flv"})
MOST_LISTED, DEEPEST = 1000, 4
# A file that names other files is read by none of these.
_FILE_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,gif,flv",
}
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
_URL = re.compile(r"[!-~]+")
_USER = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:-]*")
_ADDRESS = re.compile(r"(?P<scheme>[a-z]+)://(?P<host>\[[^\]]*\]|[^/:@?#]+)(?::(?P<port>\*|\d+))?(?P<rest>[/?].*)?")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file that may be chosen: its path below its folder, with slashes, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class _Allowed:
    """One line of the list: scheme, host, port and the rest each have to fit."""

    scheme: str
    host: str
    port: str
    rest: str

    @classmethod
    def parse(cls, text: str) -> _Allowed:
        found = _ADDRESS.fullmatch(text)
        if found is None or found["scheme"] not in SCHEMES:
            raise ConfigError(
                f'allowed_urls: "{text[:100]}" is no pattern of addresses',
                code="bad_setting",
                hint=f'such as "rtsp://camera.lan/*"; there are: {", ".join(sorted(SCHEMES))}',
            )
        port = found["port"] or str(_PORTS.get(found["scheme"], ""))
        return cls(found["scheme"], found["host"].strip("[]").lower(), port, found["rest"] or "*")

    def fits(self, url: SplitResult, port: str) -> bool:
        rest = (url.path or "/") + (f"?{url.query}" if url.query else "")
        return (
            url.scheme == self.scheme
            and fnmatchcase((url.hostname or "").lower(), self.host)
            and self.port in ("*", port)
            and fnmatchcase(rest, self.rest)
        )


class SourceRules:
    """What may be chosen, from the settings.

    Args:
        folders: whose files may be read.
        allowed: patterns of addresses: `scheme://host[:port][/path]`, with `*` in host and path, and as the port.
        decoder: of the pictures of all of them, one of `media.decoders.DECODERS`.

    Raises:
        ConfigError: a pattern that cannot be used.
        MediaError: a decoder that does not work here.
    """

    def __init__(self, folders: Sequence[Path] = (), allowed: Sequence[str] = (), decoder: str = "software") -> None:
        choose_decoder(decoder)
        self._decoder = decoder
        self._folders = tuple(folder.expanduser() for folder in folders)
        self._allowed = tuple(_Allowed.parse(text) for text in allowed)

    # --- files

    def listed(self) -> list[MediaFile]:
        """The files that may be chosen, by path; of two with the same path the first folder's."""
        found: dict[str, MediaFile] = {}
        for folder in self._folders:
            for path in _walk(folder, DEEPEST):
                name = path.relative_to(folder).as_posix()
                full = self._find(name)
                with contextlib.suppress(OSError):  # it may be gone by now
                    if full is not None:
                        found.setdefault(name, MediaFile(name, full.stat().st_size))
                if len(found) >= MOST_LISTED:
                    break
        return sorted(found.values(), key=lambda file: file.path.casefold())

    def file(self, path: str, *, is_looped: bool, has_sound: bool) -> SourcePlan:
        """A file of one of the folders.

        Raises:
            MediaError: there is none of that path in any of them.
        """
        if not self._folders:
            raise MediaError("this server has no folders of files", code="no_folders", hint="set source_folders")
        full = self._find(path)
        if full is None:
            raise MediaError(
                f"there is no video {_quoted(path)} in the folders of this server",
                code="no_such_file",
                hint="GET /api/v1/sources lists what there is",
            )

        def open_it() -> Source:
            try:
                return FileSource(
                    full, audio=None if has_sound else False, options=_FILE_OPTIONS, name=path, decoder=self._decoder
                )
            except MediaError as error:  # whoever chooses a file need not know where it lies
                raise MediaError(error.message.replace(str(full), path), code=error.code, hint=error.hint) from error

        if is_looped:
            return SourcePlan("file", path, lambda stopped: Looped(open_it))
        return SourcePlan("file", path, lambda stopped: open_it())

    def _find(self, path: str) -> Path | None:
        """The real file of a path from outside; None unless it lies in one of the folders, links followed."""
        pure = PurePosixPath(path)
        if not path or "\0" in path or "\\" in path or pure.is_absolute():
            return None
        if any(part.startswith(".") for part in pure.parts):
            return None
        for folder in self._folders:
            try:
                full = (folder / pure).resolve(strict=True)
                is_inside = full.is_relative_to(folder.resolve()) and full.is_file()
            except (OSError, ValueError):
                continue
            if is_inside and full.suffix.lower() in SUFFIXES:
                return full
        return None

    # --- addresses

    def url(self, url: str) -> SourcePlan:
        """A stream or a file from the network.

        Raises:
            MediaError: the list does not have it.
        """
        parts = self.check_url(url)
        name = _named(parts)
        full = urlunsplit(parts)

        def open_it(stopped: Event) -> Source:
            return UrlSource(full, name, self.check_url, stopped, self._decoder)

        is_listening = parts.scheme == "srt" and "listener" in parse_qs(parts.query).get("mode", ())
        return SourcePlan(
            "url",
            name,
            open_it,
            is_stream=True,
            is_paced=parts.scheme in IN_BURSTS,
            is_awaited=is_listening or parts.scheme == "udp",
        )

    def check_url(self, url: str) -> SplitResult:
        """The address, taken apart, without its fragment.

        Raises:
            MediaError: it is none, or the list does not have it.
        """
        parts, port = _taken_apart(url)
        if not any(one.fits(parts, port) for one in self._allowed):
            raise MediaError(
                f"{_named(parts)} may not be read by this server",
                code="url_not_allowed",
                hint="the operator lists what may: the setting allowed_urls",
            )
        return parts

    # --- made here

    def pattern(self, width: int, height: int, fps: Fraction, *, has_sound: bool) -> SourcePlan:
        """The test card."""
        rate = 48_000 if has_sound else 0
        return SourcePlan(
            "pattern", "test pattern", lambda stopped: PatternSource(width, height, fps, sample_rate=rate)
        )

    def none(self) -> SourcePlan:
        """Nothing comes in: for workflows that tick by a clock."""
        return SourcePlan("none", "no source", None)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in SUFFIXES:
            yield entry
        elif depth > 1 and entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, depth - 1)


def _taken_apart(url: str) -> tuple[SplitResult, str]:
    """The parts and the port of an address that every reader takes apart the same way."""
    if not _URL.fullmatch(url) or any(sign in url for sign in '\\"<>^`{|}'):
        raise _no_address(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_address(url) from None
    user, _, _ = parts.netloc.rpartition("@")
    is_strange = not _USER.fullmatch(user) or ".." in unquote(parts.path).split("/") or not parts.hostname
    if parts.scheme not in SCHEMES or is_strange:
        raise _no_address(url)
    return parts._replace(fragment=""), str(port if port is not None else _PORTS.get(parts.scheme, ""))


def _no_address(url: str) -> MediaError:
    return MediaError(
        f"{_quoted(url.rpartition('@')[2])} is no address that can be read",
        code="bad_url",
        hint=f"it begins with one of {', '.join(f'{scheme}://' for scheme in sorted(SCHEMES))}",
    )


def _named(parts: SplitResult) -> str:
    """An address without what must not be shown to everybody."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _quoted(text: Any) -> str:
    shown = str(text)[:80].encode("ascii", "backslashreplace").decode()
    return f'"{shown}"' if shown.isprintable() else repr(shown)
