"""Errors as a person in front of a terminal sees them: one line on stderr, and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable

import typer

from comfystream.errors import ComfyStreamError, NodeError

__all__ = [
    "BAD_INPUT",
    "DEFECT",
    "FAILED",
    "INTERRUPTED",
    "Reported",
    "exit_code_of",
    "say_all",
    "say_error",
    "say_note",
]

DEFECT = 1
BAD_INPUT = 2
FAILED = 3
INTERRUPTED = 130

# click's own base classes, wherever this release of typer keeps them
UsageError = typer.BadParameter.__mro__[1]
ClickException = typer.BadParameter.__mro__[2]


class Reported(Exception):
    """Everything has been said already; only the exit code is left.

    Args:
        code: the exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def say_error(message: str) -> None:
    """One line on stderr."""
    print(f"comfystream: error: {_one_line(message)}", file=sys.stderr, flush=True)


def say_note(message: str) -> None:
    """One line on stderr about something that does not stop us."""
    print(f"comfystream: {_one_line(message)}", file=sys.stderr, flush=True)


def _one_line(message: str) -> str:
    return " ".join(message.split())


def exit_code_of(error: BaseException, *, is_debug: bool = False) -> int:
    """Say what happened and give the exit code for it."""
    if is_debug and not isinstance(error, Reported | typer.Exit | SystemExit):
        traceback.print_exception(error)
        _say_trace_of_node(error)
    match error:
        case Reported():
            return error.code
        case KeyboardInterrupt() | typer.Abort():
            say_note("stopped by Ctrl-C; nothing was written")
            return INTERRUPTED
        case typer.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else DEFECT
        case ComfyStreamError():
            say_error(str(error))
            return BAD_INPUT
        case BrokenPipeError():
            sys.stdout = None  # whoever read our output has left; the interpreter must not flush into it
            return 0
    if isinstance(error, UsageError):
        if _usage_message(error):  # no command at all: the help was shown
            say_error(f"{_usage_message(error)} ({_command_of(error)} --help lists what there is)")
        return BAD_INPUT
    say_error(f"{type(error).__name__}: {error} (this is a defect of ComfyStream; --debug shows where)")
    return DEFECT


def _usage_message(error: BaseException) -> str:
    format_message = getattr(error, "format_message", None)
    return str(format_message() if format_message is not None else error).rstrip(".")


def _command_of(error: BaseException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "comfystream"


def _say_trace_of_node(error: BaseException) -> None:
    if isinstance(error, NodeError) and error.trace and error.__cause__ is None:
        print(error.trace, file=sys.stderr)


def say_all(messages: Iterable[str], limit: int = 20) -> None:
    """Each message on a line of its own, at most `limit` of them."""
    every = list(messages)
    for message in every[:limit]:
        say_error(message)
    if len(every) > limit:
        say_error(f"and {len(every) - limit} more")
