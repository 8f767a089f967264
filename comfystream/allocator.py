"""How the C library hands out memory in processes that run for days."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

__all__ = ["give_back", "keep_few_arenas"]

_M_ARENA_MAX = -8  # of glibc's mallopt(3)
ARENAS = 2


def keep_few_arenas() -> bool:
    """Let all threads share two of glibc's arenas; call it before there are threads.

    By default each thread may get an arena of its own, up to eight per core, and memory that is free in one of them
    serves no other thread. With codecs and engines that come and go on threads of their own, processes grow by a
    megabyte or two a minute for hours without leaking anything: ten minutes of `bench soak` held 491 MB in the engine
    process with the default and 325 MB with two. Who sets MALLOC_ARENA_MAX knows better.

    Returns:
        Whether it was done; elsewhere than on glibc there is nothing to do.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    return False


def give_back() -> bool:
    """Give memory that is free back to the system; takes milliseconds, so call it on a thread now and then.

    Returns:
        Whether there was any; elsewhere than on glibc there is nothing to do.
    """
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # another C library
        return bool(ctypes.CDLL(None).malloc_trim(0))
    return False
