"""The log: for people as lines, for programs as JSON, each line with the session that it is about, none with a secret.

What works for a session says so once, by `about(session)`: a context variable, which tasks inherit from whoever made
them. A thread is told when it begins. The engine process writes its lines as JSON to its output (`to_parent`); the
server process reads them back (`from_child`), so that there is one log with one form.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, TextIO

__all__ = ["about", "begin", "enter", "from_child", "redacted", "to_parent"]

Form = Literal["text", "json"]
NOISY = ("aiohttp.access", "aioice", "aiortc", "asyncio", "libav", "PIL", "urllib3", "numba", "matplotlib")
_CHILD = "\x1e"  # a record separator begins a line of ours among what nodes print
_session: ContextVar[str] = ContextVar("session", default="")

# A secret is what follows its name. Addresses with a password in them are secrets too.
_SECRETS = (
    re.compile(
        r"(?P<name>[\"']?(?:authorization|proxy-authorization)[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|digest)\s+)?)"
        r"[^\s\"',;]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<name>\bbearer\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE),
    re.compile(
        r"(?P<name>[\"']?\b(?:[a-z]+[_-])?(?:token|credential|password|passwd|secret|api[_-]?key|stream[_-]?key)[\"']?\s*[:=]\s*[\"']?)"
        r"[^\s\"',;&)}\]]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<name>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)", re.IGNORECASE),
)


def enter(session: str) -> None:
    """What this thread, task or request logs from now on is about `session`."""
    _session.set(session)


@contextlib.contextmanager
def about(session: str) -> Iterator[None]:
    """What is logged inside is about `session`; tasks that are made inside inherit it."""
    token = _session.set(session)
    try:
        yield
    finally:
        _session.reset(token)


def redacted(text: str) -> str:
    """The text without tokens, passwords and credentials."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\g<name>***", text)
    return text


class _Line(logging.Formatter):
    """For people: time, level, session, words."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it if there is one."""
        told = _told(record)
        session = f"[{told['session']}] " if "session" in told else ""
        engine = "engine: " if "engine" in told else ""
        words = f"{told['time'][11:19]} {told['level']} {session}{engine}{told['message']}"
        return f"{words}\n{told['trace']}" if "trace" in told else words


class _Json(logging.Formatter):
    """For programs: an object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        return json.dumps(_told(record), ensure_ascii=False)


class _ForParent(_Json):
    def format(self, record: logging.LogRecord) -> str:
        """A line that `from_child` knows again."""
        return _CHILD + super().format(record)


def _told(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says: time, level, logger, message; session, engine and trace where there are any."""
    told: dict[str, Any] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
        "level": record.levelname,
        "logger": record.name,
        "message": redacted(record.getMessage()),
    }
    if session := getattr(record, "session", "") or _session.get():
        told["session"] = session
    if engine := getattr(record, "engine", None):
        told["engine"] = engine
    if record.exc_info:
        told["trace"] = redacted(logging.Formatter().formatException(record.exc_info))
    elif trace := getattr(record, "trace", ""):
        told["trace"] = redacted(trace)
    return told


class _Output(logging.StreamHandler[TextIO]):
    """Writes lines. Where they cannot be written (a full disk, a reader that has left), that is said once.

    The work goes on: a log is no reason to stop a stream.
    """

    has_complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say it once, on the output for errors if that is another one."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.has_complained:
            self.has_complained = True
            words = f"comfystream: the log cannot be written: {error.strerror or error}; it goes on without\n"
            with contextlib.suppress(OSError, ValueError):
                (sys.__stderr__ if self.stream is not sys.__stderr__ else sys.__stdout__).write(words)  # type: ignore[union-attr]


def begin(level: str = "INFO", form: Form = "text", stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error by default) from now on, in place of what was set up before.

    Args:
        level: the least that is logged; of noisy libraries WARNING at least, unless it is DEBUG.
        form: lines for people or JSON for programs.
        stream: where to.
    """
    _install(_Json() if form == "json" else _Line(), stream or sys.stderr, level)


def to_parent(level: str, stream: TextIO) -> None:
    """Log in the form that `from_child` reads; for the engine process."""
    _install(_ForParent(), stream, level)


def _install(formatter: logging.Formatter, stream: TextIO, level: str) -> None:
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, _Output) or type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    handler = _Output(stream)
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else max(logging.WARNING, root.level))
    logging.getLogger("aioice").setLevel(max(logging.WARNING, root.level))  # its DEBUG holds TURN credentials


def from_child(line: str, engine: int) -> logging.LogRecord:
    """A line that the engine process `engine` wrote, as a record of ours; what nodes print is INFO."""
    said: dict[str, Any] = {"level": "INFO", "logger": "engine.output", "message": line}
    if line.startswith(_CHILD):
        with contextlib.suppress(ValueError, TypeError):
            said |= json.loads(line[1:])
    level = logging.getLevelNamesMapping().get(str(said.get("level")), logging.INFO)
    record = logging.LogRecord(str(said.get("logger")), level, "", 0, str(said.get("message")), None, None)
    record.engine = engine
    record.session = said.get("session", "")
    record.trace = said.get("trace", "")
    return record
