"""What the container's arguments come to, and what it says when they cannot be followed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = REPOSITORY / "docker"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


entrypoint = _load("entrypoint")
STUB = """#!{python}
import json, os, signal, sys, time
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[1:], os.environ.get("ORCH_SECRET")]) + "\\n")
if sys.argv[1] == "fetch":
    sys.exit(int(os.environ.get("FETCH_STATUS", "0")))
if os.environ.get("DIES") == sys.argv[1]:
    time.sleep(0.5)
    sys.exit(7)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(60)
"""


@pytest.fixture
def stage(tmp_path: Path) -> dict[str, str]:
    """An environment with a `comfystream` that writes down how it was called."""
    stub = tmp_path / "bin" / "comfystream"
    stub.parent.mkdir()
    stub.write_text(STUB.format(python=sys.executable, log=str(tmp_path / "calls")))
    stub.chmod(0o755)
    return {
        "PATH": f"{stub.parent}:{os.environ['PATH']}",
        "COMFYSTREAM_RUN_FOLDER": str(tmp_path / "run"),
        "COMFYSTREAM_WORKSPACE": str(tmp_path),
        "COMFYUI_PATH": str(tmp_path / "ComfyUI"),
        "ORCH_SECRET": "hush",
    }


def calls(tmp_path: Path) -> list[tuple[list[str], str | None]]:
    path = tmp_path / "calls"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def start(stage: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DOCKER / "entrypoint.py"), *arguments], env=stage, stderr=subprocess.PIPE, text=True
    )


def wait_for(tmp_path: Path, count: int) -> list[tuple[list[str], str | None]]:
    end = time.monotonic() + 20
    while len(calls(tmp_path)) < count and time.monotonic() < end:
        time.sleep(0.05)
    return calls(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--serve", "--download-models", "--byoc", "--nodes", "mine.yaml"],
        ["--nodes=mine.yaml", "--serve", "--byoc", "--download-models"],
    ],
)
def test_options_stand_in_any_order(arguments: list[str]) -> None:
    wanted = entrypoint.parse(arguments)
    assert wanted.services == ["serve", "byoc"]
    assert entrypoint.preparations(wanted) == [
        ["comfystream", "fetch", "nodes", "--config", "mine.yaml"],
        ["comfystream", "fetch", "models", "--config", "models.yaml"],
    ]


def test_nothing_asked_for_is_the_worker() -> None:
    assert entrypoint.parse([]).services == ["byoc"]
    assert entrypoint.parse(["--download-models"]).services == []


def test_the_first_generation_s_names_still_work() -> None:
    assert entrypoint.parse(["--server", "--api", "--ui"]).services == ["comfyui", "serve"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--byok"], "there is no option --byok"), (["--nodes"], "--nodes needs a value"), (["--", "x"], "name one")],
)
def test_a_wrong_option_is_one_line(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert entrypoint.main(arguments) == entrypoint.USAGE
    error = capfd.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_preparation_comes_first_and_arguments_are_handed_on(stage: dict[str, str], tmp_path: Path) -> None:
    child = start(stage, "--byoc", "--nodes", "nodes.yaml", "--", "--width", "640")
    got = wait_for(tmp_path, 2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
    assert [words[0][:2] for words in got] == [["fetch", "nodes"], ["byoc", "--host"]]
    assert got[1][0][-2:] == ["--width", "640"]
    assert (tmp_path / "run/health").read_text() == "http://127.0.0.1:8000/health"


def test_nothing_is_started_when_preparing_fails(stage: dict[str, str], tmp_path: Path) -> None:
    child = start(stage | {"FETCH_STATUS": "3"}, "--byoc", "--download-models")
    _, error = child.communicate(timeout=20)
    assert child.returncode == entrypoint.USAGE
    assert "ended with status 3; nothing was started" in error
    assert len(calls(tmp_path)) == 1


def test_only_the_worker_gets_the_orchestrator_s_secret(stage: dict[str, str], tmp_path: Path) -> None:
    child = start(stage, "--byoc", "--serve", "--download-models")
    got = wait_for(tmp_path, 3)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0
    assert {words[0]: secret for words, secret in got} == {"fetch": None, "byoc": "hush", "serve": None}


def test_when_one_service_ends_all_end_with_its_status(stage: dict[str, str], tmp_path: Path) -> None:
    child = start(stage | {"DIES": "serve"}, "--byoc", "--serve")
    _, error = child.communicate(timeout=30)
    assert child.returncode == 7
    assert "serve has ended with status 7" in error


def test_comfyui_that_is_not_in_the_image_is_said_so(stage: dict[str, str]) -> None:
    child = start(stage, "--comfyui")
    _, error = child.communicate(timeout=20)
    assert child.returncode == entrypoint.USAGE
    assert "--build-arg COMFYUI_REF" in error


def test_another_command_is_run_in_its_place(stage: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, str(DOCKER / "entrypoint.py"), "echo", "--byoc"], env=stage, capture_output=True, text=True
    )
    assert done.stdout == "--byoc\n"


def test_models_are_kept_in_the_first_generation_s_volume(tmp_path: Path) -> None:
    storage, workspace = tmp_path / "storage", tmp_path / "workspace"
    with pytest.raises(entrypoint.Refused, match="needs a volume"):
        entrypoint.use_volume(storage, workspace)
    for path in (storage, workspace / "models", workspace / "output"):
        path.mkdir(parents=True)
    (workspace / "output/kept.txt").write_text("mine")
    entrypoint.use_volume(storage, workspace)
    assert (workspace / "models").resolve() == storage / "ComfyUI--models"
    assert (workspace / "output/kept.txt").read_text() == "mine"


def test_health_is_what_every_service_says(tmp_path: Path) -> None:
    said = {"/well": (200, b"OK"), "/ill": (503, b"no"), "/worker": (200, b'{"status": "ERROR"}')}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = said[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    try:
        for paths, status, words in (
            (["/well"], 0, "well"),
            (["/well", "/ill"], 1, "status 503"),
            (["/worker"], 1, "ERROR"),
        ):
            (tmp_path / "health").write_text("\n".join(at + path for path in paths))
            done = subprocess.run(
                [sys.executable, str(DOCKER / "healthcheck.py")],
                env={"COMFYSTREAM_RUN_FOLDER": str(tmp_path)},
                capture_output=True,
                text=True,
            )
            assert (done.returncode, words in done.stdout) == (status, True), done.stdout
    finally:
        server.shutdown()
        server.server_close()


def test_the_image_s_packages_are_those_of_pyproject() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    done = subprocess.run(
        [sys.executable, str(DOCKER / "requirements.py"), str(REPOSITORY / "pyproject.toml"), "torch,server"],
        capture_output=True,
        text=True,
        check=True,
    )
    extras = project["optional-dependencies"]
    assert done.stdout.splitlines() == [*project["dependencies"], *extras["torch"], *extras["server"]]
