"""`ui/types/protocol.ts` is what the server's models say, and what the TypeScript compiler accepts."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from comfystream_server.control.notices import data_models

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "ui" / "types" / "protocol.ts"
COMPILER = "typescript@5.9"
USE = """
import type { EventData, Notice, Reply, Request, Stats } from "./protocol";

const patch: Request = { type: "patch", patches: [{ node: "3", input: "value", value: 1 }] };
const again: Request[] = [patch, { type: "undo", base_revision: 2 }, { type: "set_workflow", name: "edges" }];

export function heard(message: Reply | Notice): string {
  if (message.type === "reply") return message.ok ? "" : (message.error?.message ?? "");
  switch (message.event) {
    case "node_failed": return `${message.data.node_id}: ${message.data.message}`;
    case "stats": return shown(message.data);
    case "shutdown": return message.data.seconds.toFixed(0);
    default: return message.event + again.length;
  }
}

function shown(stats: Stats): string {
  const total: number = stats.stages["total"]?.p95 ?? 0;
  const bitrate: number = stats.connection?.bitrate ?? 0;
  return `${stats.fps_out} ${total} ${bitrate} ${stats.gpu[0]?.name ?? ""}`;
}

export const texts: { [E in keyof EventData]?: (data: EventData[E]) => string } = { text: data => data.text };
"""
WRONG = """
import type { Request } from "./protocol";
export const wrong: Request = { type: "patch" };
"""


@pytest.fixture(scope="module")
def make_types() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_types", REPOSITORY / "tools" / "make_types.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_file_is_up_to_date(make_types: ModuleType) -> None:
    assert FILE.read_text("utf-8") == make_types.types(), "run `make types` and commit ui/types/protocol.ts"


def test_every_event_has_its_type(make_types: ModuleType) -> None:
    text = make_types.types()
    table = text[text.index("export interface EventData") :]
    assert set(re.findall(r"^  (\w+): ", table, re.MULTILINE)) == set(data_models())
    for name in ("Request", "Reply", "Notice", "SessionInfo", "Stats", "ErrorBody", "HealthAnswer"):
        assert re.search(rf"export (interface|type) {name}\b", text), name


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript compiler; fetched once."""
    given = os.environ.get("TSC") or shutil.which("tsc")
    if given:
        return Path(given)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("the types are NOT compiled: that needs tsc, or npm to fetch it (apt install npm)")
    folder = tmp_path_factory.mktemp("typescript")
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), COMPILER]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)
    if done.returncode:
        pytest.skip(f"the types are NOT compiled: npm could not fetch {COMPILER}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules" / ".bin" / "tsc"


def compiled(compiler: Path, folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(FILE, folder / "protocol.ts")
    (folder / "use.ts").write_text(text)
    flags = ["--strict", "--noEmit", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "es2022"]
    command = [str(compiler), *flags, "--moduleResolution", "bundler", "use.ts", "protocol.ts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_it_compiles_and_tells_messages_apart(compiler: Path, tmp_path: Path) -> None:
    done = compiled(compiler, tmp_path, USE)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_compiler_refuses_a_wrong_message(compiler: Path, tmp_path: Path) -> None:
    done = compiled(compiler, tmp_path, WRONG)
    assert done.returncode != 0
    assert "patches" in done.stdout
