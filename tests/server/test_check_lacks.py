"""`comfystream check` on a ComfyUI: what is missing, which pack brings it, where files go. In a process of its own."""

from __future__ import annotations

import json
import os
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


WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def check_bundled(workflow: Path, home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "check", str(workflow), *flags]
    environ = {**os.environ, "COMFYSTREAM_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)


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


def test_files_of_further_lists_and_folders(tmp_path: Path) -> None:
    (tmp_path / "models-more.yaml").write_text(
        "models:\n"
        "  words:\n    url: https://a.example/v\n    path: tokenizers/clip/vocab.json\n"
        "    extra_files: [{url: https://a.example/m, path: ipadapter/encoder/model.bin}]\n"
    )
    needed = Needed(tmp_path)
    for name in ("tokenizers/clip", "clip", "ipadapter/encoder", "vocab.json"):
        said = needed.source(MissingFile(name, "node 1", "tokenizer"))
        assert said == "comfystream fetch models --config models-more.yaml --only words"
    assert needed.source(MissingFile("encode", "node 1", "tokenizer")) == ""


@pytest.mark.long
def test_what_our_own_workflows_lack_and_then_do_not(tmp_path: Path) -> None:
    """Text inputs name models, too; every file of a bundled workflow is in one of the lists."""
    for name in ("sdxl_style", "depth_control", "video_to_video"):
        workflow = WORKFLOWS / f"{name}.json"
        done = check_bundled(workflow, tmp_path, "--json")
        said = json.loads(done.stdout)
        assert (done.returncode, said["runs"]) == (2, False)
        files = said["lacks"]["files"]
        assert len(files) >= 4
        assert [one["file"] for one in files if not one["source"].startswith("comfystream fetch models")] == []
    said = check_bundled(workflow, tmp_path).stdout
    assert f"it cannot run yet: it lacks {len(files)} files" in said
    for one in files:
        place = Path(one["folder"], one["file"])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    done = check_bundled(workflow, tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("it can run\n")
