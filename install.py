"""Installs what ComfyStream needs into the Python that runs this, which has to be ComfyUI's. It may run again.

Nothing that is installed is changed: what is there is held at its version, so a ComfyUI that worked goes on working.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def say(words: str) -> None:
    """A line of the log."""
    print(f"[ComfyStream] {words}", flush=True)


def wanted(text: str) -> list[str]:
    """The requirements in a file's text."""
    return [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]


def installed() -> dict[str, str]:
    """Version by normalised name."""
    found = {}
    for one in importlib.metadata.distributions():
        name, version = one.metadata["Name"], one.version
        if name and version:
            found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found


def missing(requirements: list[str], have: dict[str, str]) -> list[str]:
    """Those that are not there at all."""
    names = {line: re.sub(r"[-_.]+", "-", _NAME.match(line)[0]).lower() for line in requirements}  # type: ignore[index]
    return [line for line in requirements if names[line] not in have]


def install(requirements: list[str], have: dict[str, str]) -> int:
    """Run pip; what is there stays at its version."""
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held.txt"
        held.write_text("".join(f"{name}=={version}\n" for name, version in sorted(have.items()) if "+" not in version))
        # nobody has a compiler on Windows: say what is missing, and do not try to build it
        binary = "--only-binary=:all:" if os.name == "nt" else "--prefer-binary"
        options = ["--disable-pip-version-check", binary, "--constraint", str(held)]
        return subprocess.run(
            [sys.executable, "-s", "-m", "pip", "install", *options, *requirements], check=False
        ).returncode


def main() -> int:
    """Returns the exit code."""
    say(f"Python {sys.version.split()[0]} at {sys.executable}")
    if sys.version_info < (3, 11):  # noqa: UP036 - ComfyUI's Python may be older
        say("needs Python 3.11 or newer: nothing was installed")
        return 1
    have = installed()
    lacking = missing(wanted((ROOT / "requirements.txt").read_text("utf-8")), have)
    if not lacking:
        say("everything is there, nothing to do")
        return 0
    say(f"installing {', '.join(lacking)}; what is there is left as it is")
    code = install(lacking, have)
    if code:
        say(f"pip ended with code {code}: what it said stands above; ComfyUI itself is unchanged")
    else:
        say("done; start ComfyUI again")
    return code


if __name__ == "__main__":
    sys.exit(main())
