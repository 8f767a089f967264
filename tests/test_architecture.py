"""The house stays as docs/architecture.md says: who imports whom, what an import costs, how large things grow."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = {"comfystream": "comfystream", "comfystream_server": "server", "comfystream_nodes": "nodes"}

# Room -> the rooms that it may import. "ground floor" is what lies directly in comfystream/.
MAY_IMPORT = {
    "ground floor": set(),
    "catalog": {"ground floor"},
    "media": {"ground floor"},
    "assets": {"ground floor"},
    "workflow": {"ground floor", "catalog"},
    "trickle": {"ground floor", "media"},
    "accel": {"ground floor", "media"},
    "engine": {"ground floor", "workflow", "media", "catalog", "accel", "assets"},
    "session": {"ground floor", "workflow", "media", "catalog", "assets", "trickle", "engine"},
    "byoc": {"ground floor", "workflow", "media", "catalog", "assets", "trickle", "engine", "session"},
    "server": {
        "ground floor",
        "workflow",
        "media",
        "catalog",
        "assets",
        "accel",
        "trickle",
        "engine",
        "session",
        "byoc",
    },
    "nodes": {"ground floor", "accel"},
}

# Single modules that a room hands out beyond that; each with its reason.
ALSO_ALLOWED: dict[tuple[str, str], str] = {}

# A benchmark of models measures the nodes themselves.
MEASURES_NODES = "comfystream_server.bench.gpu."

# Imports that cost seconds and hundreds of megabytes: left to the modules that use them.
HEAVY = ("torch", "av", "aiortc", "aiohttp", "cv2")
CHEAP_ROOMS = ("ground floor", "workflow", "catalog")
NOT_CHEAP: dict[str, str] = {}

# The stand-ins for ComfyUI's own modules: they are loaded under ComfyUI's names, so its names are theirs.
STAND_INS = REPOSITORY / "comfystream/catalog/standin/tree"

MOST_LINES, MOST_LINES_PER_FUNCTION = 400, 60
LONG: dict[str, str] = {}

# File -> how many broad excepts that do not raise again it may have, and the border that it stands at.
BROAD_EXCEPTS: dict[str, tuple[int, str]] = {
    "comfystream/accel/nvidia_messages.py": (1, "node execution: nothing may pass through C++; raised after"),
    "comfystream/byoc/processor_backend.py": (2, "node execution: an app's code; the stream goes on, told"),
    "comfystream/byoc/routes.py": (1, "request handler: logged once, the caller gets a plain 500"),
    "comfystream/catalog/loader.py": (2, "node execution: a pack's code at import; a broken pack never stops the rest"),
    "comfystream/engine/child_main.py": (1, "request handler: what an order raised goes back to whoever gave it"),
    "comfystream/engine/delivery.py": (1, "task scope: its thread has no caller, so the run ends with what it raised"),
    "comfystream/engine/fingerprint.py": (1, "node execution: a node that cannot tell whether it changed is run"),
    "comfystream/engine/lanes.py": (1, "task scope: a lane thread has no caller, so the run ends with what it raised"),
    "comfystream/session/live_sink_thread.py": (1, "task scope: a defect ends one sink, and whoever asked is told"),
    "comfystream/session/live_orders.py": (1, "task scope: a defect ends one edit, and whoever asked for it is told"),
    "comfystream/session/crew.py": (1, "task scope: the owner of the threads raises it again"),
    "comfystream/session/source_reader.py": (1, "task scope: the thread of a source ends with it, its session is told"),
    "comfystream/workflow/check_node.py": (1, "node execution: what a node's own validation raises is its answer"),
    "server/bench/engine.py": (1, "task scope: the caller of the thread gets it"),
    "server/bench/gpu/run.py": (1, "task scope: one case that fails is told, and must not cost the others"),
    "server/http/errors.py": (1, "request handler: logged once, the caller gets a plain 500"),
    "server/examination.py": (1, "node execution of a kind: a broken library is what doctor is there to tell"),
    "server/cli.py": (1, "process main: every error ends as one line and an exit code"),
}


def _name_of(path: Path) -> str:
    for name, folder in PACKAGES.items():
        if path.is_relative_to(REPOSITORY / folder):
            inner = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            return ".".join((name, *inner)).removesuffix(".__init__")
    raise ValueError(path)


def _sources() -> dict[str, Path]:
    files = (path for folder in PACKAGES.values() for path in sorted((REPOSITORY / folder).rglob("*.py")))
    return {_name_of(path): path for path in files}


SOURCES = _sources()


def _room_of(module: str) -> str:
    package, *inner = module.split(".")
    if package != "comfystream":
        return PACKAGES[package]
    folder = ".".join((package, *inner[:1]))
    if not inner or SOURCES.get(folder, Path()).name != "__init__.py":
        return "ground floor"
    return inner[0]


def _imports(module: str, source: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a module imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join((*base, alias.name))) for alias in node.names)


def _wrong_directions(module: str, source: str, is_package: bool = False) -> list[str]:
    room = _room_of(module)
    wrong = []
    for line, target in _imports(module, source, is_package):
        if target.split(".")[0] not in PACKAGES:
            continue
        other = _room_of(target)
        if other == "nodes" and module.startswith(MEASURES_NODES):
            continue
        if other != room and other not in MAY_IMPORT[room] and (module, target) not in ALSO_ALLOWED:
            wrong.append(f"{module}:{line} ({room}) imports {target} ({other})")
    return wrong


def test_every_room_is_in_the_table() -> None:
    assert {_room_of(module) for module in SOURCES} <= set(MAY_IMPORT)


def test_imports_go_one_way() -> None:
    wrong = [
        problem
        for module, path in SOURCES.items()
        for problem in _wrong_directions(module, path.read_text("utf-8"), path.name == "__init__.py")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("comfystream.frames", "from comfystream.engine.protocol import Engine"),
        ("comfystream.frames", "from comfystream import session"),
        ("comfystream.workflow.read", "def late():\n    import comfystream.engine"),
        ("comfystream.media.source", "from ..engine import protocol"),
        ("comfystream.engine.plan", "from comfystream_nodes.core import mask"),
        ("comfystream_nodes.core.mask", "from comfystream.engine import plan"),
    ],
)
def test_an_import_upward_is_found(module: str, source: str) -> None:
    assert _wrong_directions(module, source)


def test_imports_downward_are_none_of_our_business() -> None:
    assert not _wrong_directions("comfystream.engine.plan", "from comfystream.workflow import model\nimport torch")
    assert not _wrong_directions("comfystream_nodes.core", "from . import mask", is_package=True)


def test_nothing_takes_the_module_names_that_comfyui_owns() -> None:
    taken = [
        f"{module}:{line} imports {target}"
        for module, path in SOURCES.items()
        if not path.is_relative_to(STAND_INS)
        for line, target in _imports(module, path.read_text("utf-8"), path.name == "__init__.py")
        if target.split(".")[0] in ("nodes", "server")
    ]
    assert not taken, "\n".join(taken)


def test_the_repository_root_is_not_importable() -> None:
    """On `sys.path` it would make our folders `nodes` and `server` into the modules of these names."""
    assert str(REPOSITORY) not in sys.path
    assert "" not in sys.path


@pytest.mark.parametrize("room", CHEAP_ROOMS)
def test_importing_is_cheap(room: str, tmp_path: Path) -> None:
    modules = [
        module
        for module, path in SOURCES.items()
        if _room_of(module) == room and module not in NOT_CHEAP and not path.is_relative_to(STAND_INS)
    ]
    script = (
        "import importlib, sys\n"
        f"for module in {['comfystream', *modules]!r}:\n"
        "    importlib.import_module(module)\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    if heavy:\n"
        "        sys.exit(f'{module} imports {heavy}')\n"
    )
    command = [sys.executable, "-P", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def _too_long(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    name = path.relative_to(REPOSITORY).as_posix()
    lines = len(path.read_text("utf-8").splitlines())
    found = [name] if lines > MOST_LINES else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES_PER_FUNCTION:
                found.append(f"{name}:{node.name}")
    return found


def test_nothing_has_grown_into_two() -> None:
    long = {found for path in SOURCES.values() for found in _too_long(path)}
    assert not long - set(LONG), "split these along the idea, or give the reason in LONG"
    assert not set(LONG) - long, "these are no longer long: take them out of LONG"


def _is_broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(item is None or ast.unparse(item) in ("Exception", "BaseException") for item in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(statement, ast.Raise) for statement in handler.body)


def _broad_excepts(source: str) -> list[int]:
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _raises_again(node):
            lines.append(node.lineno)
        suppresses = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress")
        if suppresses and any(map(_is_broad, node.args)):
            lines.append(node.lineno)
    return sorted(lines)


def test_broad_excepts_stand_only_at_borders() -> None:
    found = {
        path.relative_to(REPOSITORY).as_posix(): lines
        for path in SOURCES.values()
        if (lines := _broad_excepts(path.read_text("utf-8")))
    }
    wrong = {name: lines for name, lines in found.items() if len(lines) > BROAD_EXCEPTS.get(name, (0, ""))[0]}
    assert not wrong, "catch what is meant, or give the border in BROAD_EXCEPTS"
    assert not set(BROAD_EXCEPTS) - set(found), "these have none any more: take them out of BROAD_EXCEPTS"


def test_a_broad_except_is_found() -> None:
    assert _broad_excepts("try:\n    f()\nexcept (OSError, Exception):\n    pass") == [3]
    assert _broad_excepts("with contextlib.suppress(Exception):\n    f()") == [1]
    assert _broad_excepts("try:\n    f()\nexcept BaseException:\n    g()\n    raise") == []


def _committed_texts() -> Iterator[tuple[str, str]]:
    if not shutil.which("git") or not (REPOSITORY / ".git").exists():
        pytest.skip("needs git and a git checkout: only git knows which files are ours")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = REPOSITORY / name
        if path.is_file() and b"\0" not in (data := path.read_bytes())[:8000]:
            yield name, data.decode("utf-8", errors="replace")


# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile("/" + "work/|/" + "root/|/opt/" + "wheels|/" + r"home/\w|\b[A-Z]:\\" + "Users")


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in _committed_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert not found, "\n".join(found)


def test_every_top_level_folder_says_what_it_is() -> None:
    folders = {name.split("/")[0] for name, _ in _committed_texts() if "/" in name and not name.startswith(".")}
    silent = [folder for folder in sorted(folders) if not (REPOSITORY / folder / "README.md").is_file()]
    assert not silent
