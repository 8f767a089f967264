#!/usr/bin/env python3
"""Set up, serve, test, lint: what `make` calls, and what runs alone where there is no make.

    python tools/dev.py serve     set up if needed, then start the live server; open the address that it prints
    python tools/dev.py demo      set up if needed, then run the demo clip through a workflow
    python tools/dev.py test      set up if needed, then all tests (FAST=1: without the slow ones)
    python tools/dev.py lint      ruff and mypy
    python tools/dev.py types     write ui/types/protocol.ts from the server's models
    python tools/dev.py setup     only make the virtual environment
    python tools/dev.py clean     delete what these commands made

Arguments after the command go to what it runs: `python tools/dev.py test -k canny`. Standard library only, and
syntax that an old Python still understands, so that it can say that it is too old.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup.stamp"
LOG = ROOT / "out" / "setup.log"
PROGRAMS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = PROGRAMS / ("python.exe" if os.name == "nt" else "python")
DEMO_WORKFLOW = Path("workflows/edges.json")
DEMO_CLIP = Path("workflows/assets/demo.mp4")
DEMO_RESULT = Path("out/demo.mp4")
MADE = (".venv", "out", "build", "dist", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")


class Failed(Exception):
    """Something a person has to know; the text is all that is shown."""


def say(text: str) -> None:
    """One line for the person, at once."""
    print(text, flush=True)


def run(*command: object) -> None:
    """Run a program in the repository's folder; its failure is ours."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.returncode)


# --- which Python ---------------------------------------------------------------------------------------------------


def use_new_enough_python() -> None:
    """Go on in this Python, or start again in a newer one that is installed beside it.

    Raises:
        Failed: there is none.
    """
    if sys.version_info[:2] >= OLDEST:
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            say(f"Python {platform.python_version()} is too old; going on with {found}")
            raise SystemExit(subprocess.call([found, *sys.argv]))
    raise Failed(
        f"ComfyStream needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is Python {platform.python_version()} "
        f"({sys.executable}).\n"
        "Install a newer one, for example by `sudo apt install python3.12 python3.12-venv`, and name it:\n"
        f"    make {sys.argv[1]} PYTHON=python3.12"
    )


# --- the virtual environment ----------------------------------------------------------------------------------------


def fingerprint() -> str:
    """What the installed environment depends on; another value means: set up again."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    parts += [sys.version.encode(), sys.base_prefix.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def setup() -> None:
    """Make `.venv` and install into it, unless that was done already for the same files and Python."""
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    leave_venv()
    version = platform.python_version()
    say(f"Setting up .venv with Python {version} (only the first time, and when pyproject.toml changes)")
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    make_venv()
    say(f"Installing the packages; PyTorch is large, so this takes some minutes. Details: {LOG.relative_to(ROOT)}")
    install("-e", ".[torch,opencv,diffusion,onnx,server,dev]", "-c", "constraints.txt")
    STAMP.write_text(wanted)
    say("Ready.")


def leave_venv() -> None:
    """Start again in the Python that `.venv` was made from; the one in it would delete itself, and then be missing."""
    if sys.prefix != sys.base_prefix and Path(sys.prefix).resolve() == VENV.resolve():
        raise SystemExit(subprocess.call([sys._base_executable, *sys.argv]))


def make_venv() -> None:
    """A fresh `.venv` with pip in it, also on a Debian or Ubuntu without the python3-venv package."""
    if VENV.exists():
        shutil.rmtree(VENV)
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    command = [sys.executable, "-m", "venv", str(VENV)] + ([] if has_ensurepip else ["--without-pip"])
    if not logged(command):
        raise Failed(f"Python could not make the virtual environment .venv:\n{last_lines(5)}")
    if has_ensurepip:
        return
    say("This Python comes without pip and ensurepip; looking for a pip elsewhere")
    if not (pip_from_this_python() or pip_from_wheel(Path("/usr/share/python-wheels")) or pip_from_apt()):
        raise Failed(
            "There is no pip to install packages with.\n"
            "On Debian and Ubuntu: sudo apt update && sudo apt install python3-venv\n"
            f"Then run the same command again. Details: {LOG.relative_to(ROOT)}"
        )


def pip_from_this_python() -> bool:
    """Put pip into `.venv` by the pip of the Python that runs this script."""
    if importlib.util.find_spec("pip") is None:
        return False
    return logged([sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "pip"])


def pip_from_wheel(folder: Path) -> bool:
    """Put pip into `.venv` from a pip wheel in `folder` (Debian keeps one in python3-pip-whl)."""
    wheels = sorted(folder.glob("pip-*.whl"))
    if not wheels:
        return False
    return logged([str(PYTHON), str(wheels[-1] / "pip"), "install", "--no-index", str(wheels[-1])])


def pip_from_apt() -> bool:
    """Put pip into `.venv` from Debian's own package of it, in a temporary folder.

    Needs no root and installs nothing on the system; apt checks the signature.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return False
    with tempfile.TemporaryDirectory() as name:
        return fetch_by_apt("python3-pip-whl", Path(name)) and pip_from_wheel(Path(name) / "usr/share/python-wheels")


def fetch_by_apt(package: str, folder: Path) -> bool:
    """Unpack a Debian package into `folder`, with apt's lists and cache in there too."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    own = ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
    if os.name == "posix" and os.geteuid() == 0:
        own += ["-o", "APT::Sandbox::User=root"]  # else root's private folder is closed to apt's own user
    if not logged(["apt-get", *own, "update"]) or not logged(["apt-get", *own, "download", package], folder):
        return False
    return all(logged(["dpkg-deb", "-x", str(deb), str(folder)]) for deb in folder.glob("*.deb"))


def install(*what: str) -> None:
    """Let pip install into `.venv`; the log gets all of its output, the person what is being fetched."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off", *what]
    as_text = {"text": True, "encoding": "utf-8", "errors": "replace"}
    pip = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **as_text)
    with pip, LOG.open("a", encoding="utf-8") as log:
        for line in pip.stdout or ():
            log.write(line)
            log.flush()
            shown = news(line)
            if shown:
                say("  " + shown)
    if pip.returncode:
        raise Failed(
            f"pip could not install the packages:\n{last_lines(8)}\n"
            f"All of it is in {LOG.relative_to(ROOT)}. If the network was away, run the same command again."
        )


def news(line: str) -> str:
    """What of a line of pip's output is worth a person's time; empty for nothing."""
    fetched = re.match(r"\s*Downloading (?:\S*/)?([A-Za-z0-9_.]+)-(\d[\w.]*)\S* \(([\d.]+ [MG]B)\)", line)
    if fetched:
        return "fetching {} {} ({})".format(*fetched.groups())
    if line.startswith("Installing collected packages:"):
        return f"unpacking {line.count(',') + 1} packages"
    return ""


def logged(command: list[str], folder: Path = ROOT) -> bool:
    """Run a program with its output in the log only. Whether it succeeded."""
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        return subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT).returncode == 0


def last_lines(count: int) -> str:
    """The end of the log, without pip's warnings."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join("    " + line for line in [x for x in lines if x and not x.startswith("WARNING")][-count:])


# --- commands -------------------------------------------------------------------------------------------------------


def serve(arguments: list[str]) -> None:
    """Start the live server, until Ctrl-C."""
    setup()
    say("Starting; the first start takes some seconds. Ctrl-C ends it.")
    run(PROGRAMS / "comfystream", "serve", *arguments)


def demo(arguments: list[str]) -> None:
    """Run the demo clip through a workflow and say where the result is."""
    setup()
    command = [PROGRAMS / "comfystream", "run", DEMO_WORKFLOW, "-i", DEMO_CLIP, "-o", DEMO_RESULT, "--overwrite"]
    (ROOT / DEMO_RESULT).parent.mkdir(exist_ok=True)
    say(f"Running the demo clip through {DEMO_WORKFLOW.as_posix()}")
    run(*command, *arguments)
    say(f"\nThe result:  {ROOT / DEMO_RESULT}   (open it with any video player)")
    say(f"It was made from {DEMO_CLIP.as_posix()}. Now another workflow, on a video of yours:")
    program = (PROGRAMS / "comfystream").relative_to(ROOT)
    say(f"    {program} run workflows/cartoon.json -i VIDEO.mp4 -o out/yours.mp4")


def test(arguments: list[str]) -> None:
    """All tests but the long ones and the image's, on two processes at most; without the slow ones if FAST=1.

    `make test ARGS="-m long"` runs the long ones. The image takes minutes and root; `-m image` builds and tests it.
    """
    setup()
    command = [PYTHON, "-P", "-m", "pytest"]  # -P: the repository root stays off sys.path (ComfyUI's names)
    if not any(argument.startswith("-n") for argument in arguments):
        command += ["-n", str(min(2, os.cpu_count() or 1))]
    if "-m" not in arguments:
        left_out = ["slow"] if os.environ.get("FAST") == "1" else []
        command += ["-m", " and ".join(f"not {group}" for group in [*left_out, "long", "image"])]
    run(*command, *arguments)


def lint(arguments: list[str]) -> None:
    """Ruff on everything and mypy on the library and the server; both, also when the first finds something."""
    setup()
    found = [
        subprocess.call([str(PYTHON), "-P", "-m", *command], cwd=ROOT)
        for command in (["ruff", "check", ".", *arguments], ["mypy", "comfystream", "server"])
    ]
    if any(found):
        raise SystemExit(1)


def types(arguments: list[str]) -> None:
    """Write the TypeScript types of the control protocol and the API."""
    setup()
    run(PYTHON, "-P", Path("tools/make_types.py"), *arguments)


def clean(arguments: list[str]) -> None:
    """Delete the virtual environment, results and caches."""
    caches = [path for path in ROOT.rglob("__pycache__") if ".venv" not in path.parts]
    for path in [ROOT / name for name in MADE] + caches + list(ROOT.glob("*.egg-info")):
        if path.is_dir():
            shutil.rmtree(path)
            say(f"deleted {path.relative_to(ROOT)}")


COMMANDS = {
    "serve": serve,
    "demo": demo,
    "test": test,
    "lint": lint,
    "types": types,
    "setup": lambda arguments: setup(),
    "clean": clean,
}


def main() -> None:
    """Run the command that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] in ("help", "-h", "--help"):
        say((__doc__ or "").strip())
        return
    name, arguments = sys.argv[1], sys.argv[2:]
    if name not in COMMANDS:
        raise Failed(f"there is no command {name!r}; there are: {', '.join(COMMANDS)}")
    use_new_enough_python()
    COMMANDS[name](arguments)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"\n{failed}")
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
