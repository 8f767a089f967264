"""The log: a session on each line, no secret on any, the engine's lines among ours."""

from __future__ import annotations

import contextvars
import errno
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from comfystream import logs

log = logging.getLogger("comfystream.test")


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger as it was."""
    kept = logging.getLogger()
    handlers, level = [*kept.handlers], kept.level
    yield
    kept.handlers[:], kept.level = handlers, level
    kept.setLevel(level)
    logging.captureWarnings(False)


def lines_of(form: Any, level: str = "INFO") -> io.StringIO:
    out = io.StringIO()
    logs.begin(level, form, out)
    return out


def test_each_line_names_the_session_it_is_about() -> None:
    out = lines_of("json")
    log.info("before")
    with logs.about("one"):
        log.info("in %s", "one")
        with logs.about("two"):
            log.warning("in two")
        inherited = contextvars.copy_context()
    inherited.run(log.info, "a task")
    log.info("after")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(one["message"], one.get("session")) for one in told] == [
        ("before", None),
        ("in one", "one"),
        ("in two", "two"),
        ("a task", "one"),
        ("after", None),
    ]
    assert told[2]["level"] == "WARNING"
    assert told[0]["logger"] == "comfystream.test"
    assert told[0]["time"].endswith("Z")


def test_lines_for_people() -> None:
    out = lines_of("text")
    with logs.about("abc"):
        log.info("hello")
    assert out.getvalue().endswith(" INFO [abc] hello\n")


def test_a_json_line_is_one_line_whatever_it_holds() -> None:
    out = lines_of("json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("a\nb \x1e é")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["message"] == "a\nb \x1e é"
    assert "ValueError: two\nlines" in json.loads(line)["trace"]


SECRET = "s3cr3t-Value_x"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}",
        f"authorization=Basic {SECRET}",
        f"GET /api/v1/sessions/x/control?token={SECRET}&v=1",
        f"http://localhost:8889/#token={SECRET}",
        f"{{'urls': ['turn:a'], 'username': 'u', 'credential': '{SECRET}'}}",
        f'{{"credential": "{SECRET}", "username": "u"}}',
        f"IceServerSettings(urls=('turn:a',), username='u', credential='{SECRET}', secret='{SECRET}')",
        f"viewer_token={SECRET}",
        f"password: {SECRET}",
        f"api_key={SECRET}",
        f"rtsp://me:{SECRET}@camera.local/stream",
        f"a bearer {SECRET} was refused",
    ],
)
def test_no_secret_is_written(text: str) -> None:
    for form in ("text", "json"):
        out = lines_of(form)
        log.warning("%s", text)
        try:
            raise RuntimeError(text)
        except RuntimeError:
            log.exception("it failed")
        assert SECRET not in out.getvalue()
        assert "***" in out.getvalue()


@pytest.mark.parametrize(
    "text",
    ["the token is needed", "12 tokens per second", "http://localhost:8889/health", "node 3: secret sauce, 5 ms"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redacted(text) == text


def test_lines_of_the_engine_process_come_back_as_they_were() -> None:
    pipe = io.StringIO()
    logs.to_parent("INFO", pipe)
    with logs.about("one"):
        log.error("it broke", exc_info=ValueError("why"))
    line, rest = pipe.getvalue().split("\n")
    assert not rest
    record = logs.from_child(line, 4711)
    assert (record.levelname, record.name, record.getMessage()) == ("ERROR", "comfystream.test", "it broke")
    out = lines_of("json")
    logging.getLogger(record.name).handle(record)
    told = json.loads(out.getvalue())
    assert (told["session"], told["engine"], told["level"]) == ("one", 4711, "ERROR")
    assert "ValueError: why" in told["trace"]


@pytest.mark.parametrize("line", ["hello 100%", "\x1enot json", "\x1e[1]", "", '\x1e{"level": "NONE", "message": 3}'])
def test_what_nodes_print_is_a_line_too(line: str) -> None:
    record = logs.from_child(line, 1)
    assert record.levelno == logging.INFO
    record.getMessage()


def test_libraries_are_quiet_unless_everything_is_wanted() -> None:
    lines_of("text")
    assert not logging.getLogger("aiortc").isEnabledFor(logging.INFO)
    assert logging.getLogger("aiortc").isEnabledFor(logging.WARNING)
    lines_of("text", "DEBUG")
    assert logging.getLogger("aiortc").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("aioice").isEnabledFor(logging.DEBUG)  # it logs TURN credentials


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_once_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", said)
    logs.begin("INFO", "text", FullDisk())
    for _ in range(3):
        log.info("hello")
    assert said.getvalue().splitlines() == [
        "comfystream: the log cannot be written: No space left on device; it goes on without"
    ]
