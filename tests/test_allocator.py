"""Memory that threads leave behind serves other threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Threads that allocate and end, one after the other: with an arena each, glibc keeps what they had.
SCRIPT = """
import ctypes, sys, threading
from comfystream.allocator import keep_few_arenas
print(keep_few_arenas())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
gates = [threading.Event() for _ in range(12)]
def hold(gate):
    libc.malloc(1000)
    gate.wait()
threads = [threading.Thread(target=hold, args=(gate,)) for gate in gates]
for thread in threads: thread.start()
libc.malloc_stats()
for gate in gates: gate.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas")
@pytest.mark.parametrize(("variable", "is_done"), [({}, True), ({"MALLOC_ARENA_MAX": "64"}, False)])
def test_threads_share_two_arenas(variable: dict[str, str], is_done: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, env={**variable}, timeout=60, check=True
    )
    assert done.stdout.strip() == str(is_done)
    arenas = done.stderr.count("Arena ")
    assert arenas <= 2 if is_done else arenas > 2


# Blocks of a size that Python leaves to malloc; every 50th stays, so that the heap cannot shrink from its end.
HOLES = """
from pathlib import Path
from comfystream.allocator import give_back
def resident(): return int(Path("/proc/self/statm").read_text().split()[1])
held = [bytes(2000) for _ in range(60_000)]
full = resident()
held = held[::50]
before = resident()
print(give_back(), full, before, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library gives back by itself")
def test_what_is_free_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", HOLES], capture_output=True, text=True, timeout=60, check=True)
    was_any, full, before, after = done.stdout.split()
    assert was_any == "True"
    assert int(before) - int(after) > int(full) // 4
