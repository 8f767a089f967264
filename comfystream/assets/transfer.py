"""One file from the web to the disk: resumed where it was cut off, checked, and under its name only when complete."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from comfystream.errors import AssetError

__all__ = ["Remote", "Transfer", "sha256_of"]

CHUNK = 1 << 20
TRIES = 6
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
TIMEOUT_S = 60.0
POINTER = b"version https://git-lfs.github.com/spec/"
HUGGING_FACE = "huggingface.co"
TOKENS = {HUGGING_FACE: ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), "civitai.com": ("CIVITAI_API_TOKEN", "CIVITAI_TOKEN")}

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Remote:
    """A file somewhere else. `sha256` and `size` are checked when they are known (not empty, not None)."""

    url: str
    sha256: str = ""
    size: int | None = None


class _Cut(Exception):
    """The connection broke, or the other end asks to come again: worth another try."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class Transfer:
    """Fetches files.

    Args:
        mirror: a folder to take files from in place of the web: `MIRROR/HOST/PATH`, or `MIRROR/NAME`.
        environ: where tokens are, and `HF_ENDPOINT`.
        sleep: waits between tries.
    """

    def __init__(
        self,
        mirror: Path | None = None,
        environ: Mapping[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._mirror = mirror
        self._environ = os.environ if environ is None else environ
        self._sleep = sleep

    def fetch(self, remote: Remote, target: Path, on_progress: Progress = lambda done, total: None) -> str:
        """Bring a file to `target`.

        Args:
            remote: what to fetch.
            target: where it goes; what is there is replaced at the end.
            on_progress: told bytes so far and in all (None when that is not known).

        Returns:
            SHA-256 of the file.

        Raises:
            AssetError: it cannot be had, or is not what it should be.
        """
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _locked(part):
                digest = self._bring(remote, part, on_progress)
                _check(remote, part, digest, target.name)
                os.replace(part, target)
                part.with_name(f"{part.name}.tag").unlink(missing_ok=True)
        except OSError as error:
            if isinstance(error, AssetError):
                raise
            raise _disk_error(target, error) from error
        return digest

    def read(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """A small document (at most 16 MB), and its headers by lower-case name; raises what `fetch` raises."""
        tries = 0
        while True:
            try:
                with self._open(url, {}) as answer:
                    return answer.read(16 << 20), {name.lower(): value for name, value in answer.headers.items()}
            except _Cut as cut:
                tries = self._again(url, cut, tries)

    def _bring(self, remote: Remote, part: Path, on_progress: Progress) -> str:
        if self._mirror is not None:
            return _copied(self._mirrored(self._mirror, remote.url), part, on_progress)
        tries, before = 0, -1
        while True:
            try:
                return self._go_on(remote, part, on_progress)
            except _Cut as cut:
                here = part.stat().st_size if part.exists() else 0
                tries = self._again(remote.url, cut, 0 if here > before >= 0 else tries)
                before = here

    def _again(self, url: str, cut: _Cut, tries: int) -> int:
        """Wait for the next try, longer each time; progress in between starts the count anew."""
        if tries + 1 >= TRIES:
            hint = "run the same command again, it goes on from here"
            raise AssetError(f"{url}: {cut}", code="not_fetched", hint=hint)
        self._sleep(min(LONGEST_WAIT_S, cut.wait_s or FIRST_WAIT_S * 2**tries))
        return tries + 1

    def _go_on(self, remote: Remote, part: Path, on_progress: Progress) -> str:
        """One connection: what is missing of the file, appended to what is there."""
        tag_file = part.with_name(f"{part.name}.tag")
        have = part.stat().st_size if part.exists() and tag_file.exists() else 0
        headers = {"Range": f"bytes={have}-", "If-Range": tag_file.read_text("utf-8")} if have else {}
        with self._open(remote.url, headers) as answer:
            if answer.status == 200:
                have = 0
            total = _total(answer, have)
            _check_room(part, (total or 0) - have)
            _keep_tag(tag_file, answer.headers)
            digest = hashlib.sha256()
            with part.open("r+b" if have else "wb") as file:
                for chunk in iter(lambda: file.read(CHUNK), b"") if have else ():
                    digest.update(chunk)
                for chunk in _chunks(answer):
                    file.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    on_progress(have, total)
        if total is not None and have < total:
            raise _Cut(f"the connection ended after {have} of {total} bytes")
        return digest.hexdigest()

    @contextlib.contextmanager
    def _open(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        request = urllib.request.Request(self._address(url), headers={"User-Agent": "comfystream", **headers})
        if token := self._token(url):
            request.add_unredirected_header("Authorization", f"Bearer {token}")  # not for the host that it leads to
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is here is not a beginning of what is there
                raise _Cut("the file there has changed") from error
            if error.code in (408, 425, 429) or error.code >= 500:
                wait = error.headers.get("Retry-After") or ""
                raise _Cut(f"status {error.code}", float(wait) if wait.isdigit() else 0.0) from error
            raise AssetError(f"{url}: status {error.code}", code="not_fetched", hint=_hint(error.code, url)) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise _Cut(str(getattr(error, "reason", "") or error or type(error).__name__)) from error

    def _address(self, url: str) -> str:
        """The url, or its place at another server that speaks for Hugging Face (HF_ENDPOINT)."""
        endpoint = self._environ.get("HF_ENDPOINT", "").rstrip("/")
        parts = urlsplit(url)
        if not endpoint or parts.hostname != HUGGING_FACE:
            return url
        return endpoint + urlunsplit(("", "", parts.path, parts.query, ""))

    def _token(self, url: str) -> str:
        names = TOKENS.get(urlsplit(url).hostname or "", ())
        return next((self._environ[name] for name in names if self._environ.get(name)), "")

    def _mirrored(self, mirror: Path, url: str) -> Path:
        parts = urlsplit(url)
        name = parts.path.rsplit("/", 1)[-1]
        for path in (mirror / (parts.hostname or "") / parts.path.lstrip("/"), mirror / name):
            if path.is_file() and path.resolve().is_relative_to(mirror.resolve()):
                return path
        raise AssetError(f"{mirror} has no {parts.hostname}{parts.path}", code="not_in_mirror", hint=f"nor {name}")


def sha256_of(path: Path, on_progress: Progress = lambda done, total: None) -> str:
    """Of a file on the disk."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            on_progress(done, total)
    return digest.hexdigest()


def _keep_tag(tag_file: Path, headers: Mapping[str, str]) -> None:
    """What tells that it is the same file when it goes on (RFC 9110 13.1.5: a strong tag, or the date)."""
    tag = headers.get("ETag") or ""
    tag = headers.get("Last-Modified") or "" if tag.startswith("W/") or not tag else tag
    if tag:
        tag_file.write_text(tag, "utf-8")
    else:
        tag_file.unlink(missing_ok=True)


def _chunks(answer: Any) -> Iterator[bytes]:
    try:
        while chunk := answer.read(CHUNK):
            yield chunk
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Cut(f"the connection broke: {error or type(error).__name__}") from error


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    if answer.headers.get("Content-Encoding") or length is None or not length.isdigit():
        return None
    return have + int(length)


def _copied(source: Path, part: Path, on_progress: Progress) -> str:
    size = source.stat().st_size
    _check_room(part, size)
    shutil.copyfile(source, part)
    on_progress(size, size)
    return sha256_of(part)


def _check(remote: Remote, part: Path, digest: str, name: str) -> None:
    """Raise, and throw away what was fetched, when it is not what was asked for."""
    with part.open("rb") as file:
        head = file.read(512)
    trouble = ""
    if head.startswith(POINTER) and not name.endswith(".gitattributes"):
        trouble = "came as a Git LFS pointer, not as the file itself"
    elif head.lstrip().lower().startswith((b"<!doctype html", b"<html")) and not name.endswith((".html", ".htm")):
        trouble = "came as a web page, not as a file; perhaps one has to log in there first"
    elif remote.size is not None and part.stat().st_size != remote.size:
        trouble = f"has {part.stat().st_size} bytes, not {remote.size}"
    elif remote.sha256 and digest != remote.sha256:
        trouble = f"has SHA-256 {digest}, not {remote.sha256}"
    elif name.endswith(".safetensors") and not _is_safetensors(head, part.stat().st_size):
        trouble = "is not a safetensors file"
    if trouble:
        part.unlink()
        part.with_name(f"{part.name}.tag").unlink(missing_ok=True)
        raise AssetError(f"{remote.url}: the file {trouble}", code="wrong_file", hint="it was thrown away")


def _is_safetensors(head: bytes, size: int) -> bool:
    """Its header's length, little-endian, then JSON."""
    return len(head) > 8 and 8 + int.from_bytes(head[:8], "little") <= size and head[8:9] == b"{"


def _check_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise AssetError(
            f"{part.parent} has room for {free / 1e9:.1f} GB, and {wanted / 1e9:.1f} GB are to come",
            code="disk_full",
            hint="make room, then run the same command again",
        )


def _disk_error(target: Path, error: OSError) -> AssetError:
    if error.errno == errno.ENOSPC:
        return AssetError(f"{target}: the disk is full", code="disk_full", hint="what has come so far is kept")
    return AssetError(f"{target}: {error.strerror or error}", code="not_writable")


def _hint(status: int, url: str) -> str:
    names = TOKENS.get(urlsplit(url).hostname or "", ())
    if status in (401, 403):
        return f"one has to be let in there first; a token goes into {names[0]}" if names else "one has to log in there"
    return "it may have moved; look at the list that names it" if status in (404, 410) else ""


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[None]:
    """One process at a time; the system lets go of the lock when its holder dies."""
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be replaced there, which does the same
        yield
        return
    with part.with_name(f"{part.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AssetError(f"{part.name[1:-5]} is being fetched by another process", code="busy") from None
        try:
            yield
        finally:
            part.with_name(f"{part.name}.lock").unlink(missing_ok=True)
