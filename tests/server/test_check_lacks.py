"""`comfystream check` on a ComfyUI: what is missing, which pack brings it, where files go. In a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stub_comfyui import write_comfyui

from comfystream.workflow.missing import Missing, MissingClass, MissingFile, Origin
from comfystream_server.needed import Needed


def check(workflow: Path, comfyui: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "check", str(workflow), "--comfyui", str(comfyui), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    graph: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dream.safetensors"}},
        "2": {"class_type": "HEDPreprocessor", "inputs": {"model": ["1", 0]}},
        "3": {"class_type": "NobodyKnowsIt", "inputs": {}},
    }
    file = tmp_path / "needs.json"
    file.write_text(json.dumps(graph))
    return file


def test_all_that_is_missing_is_listed(workflow: Path, tmp_path: Path) -> None:
    comfyui = write_comfyui(tmp_path / "ComfyUI")
    done = check(workflow, comfyui)
    assert done.returncode == 2, done.stderr
    assert "HEDPreprocessor (node 2): comes with ComfyUI ControlNet Auxiliary: comfystream fetch nodes" in done.stdout
    assert "NobodyKnowsIt (node 3): no known pack has it" in done.stdout
    assert f"goes into {comfyui / 'models' / 'checkpoints'}" in done.stdout
    lacks = json.loads(check(workflow, comfyui, "--json").stdout)["lacks"]
    assert [one["class"] for one in lacks["classes"]] == ["HEDPreprocessor", "NobodyKnowsIt"]
    assert [(one["file"], one["kind"]) for one in lacks["files"]] == [("dream.safetensors", "checkpoints")]


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        (Origin("comfy-core", "", "0.40.0"), "is ComfyUI's own, as of version 0.40.0"),
        (Origin("rgthree-comfy"), "comfystream fetch nodes --only rgthree-comfy"),
        (Origin("", "Fannovel16/comfyui_controlnet_aux"), "comfystream fetch nodes --only comfyui_controlnet_aux"),
        (Origin("some-pack", "me/some-pack"), "comes with some-pack (https://github.com/me/some-pack)"),
        (Origin("some-pack"), "in ComfyUI's registry"),
    ],
)
def test_where_a_class_is_from(origin: Origin, words: str) -> None:
    assert words in Needed().pack(MissingClass("X", ("1",), origin))


def test_where_a_file_can_be_had(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "models:\n  dream:\n    url: https://a.example/d\n    path: checkpoints/dream.safetensors\n"
    )
    needed = Needed(tmp_path)
    files = (
        MissingFile("dream.safetensors", "node 1", "ckpt_name", "checkpoints", "/m"),
        MissingFile("other.bin", "node 2", "name", url="https://b.example/other.bin"),
    )
    dream, other = needed.lines(Missing(files=files))
    assert dream.endswith("goes into /m; comfystream fetch models --only dream")
    assert other.endswith("its node class does not say where it goes; from https://b.example/other.bin")
