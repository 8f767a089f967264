"""`comfystream fetch`: lists, models and node packs, from a mirror and from repositories made here."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from comfystream.assets.lists import load_models, load_packs
from comfystream_server.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "ws").mkdir()
    return tmp_path / "ws"


def listed(tmp_path: Path, **document: object) -> str:
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def fetch(*arguments: object) -> int:
    return main(["fetch", *map(str, arguments)])


def git(*arguments: object) -> str:
    done = subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, **files: str) -> str:
    """A commit with these files (`a_txt` is a.txt)."""
    if not folder.exists():
        git("init", "-q", "-b", "main", folder)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    git("-C", folder, "add", "-A")
    git("-C", folder, *identity, "commit", "-q", "-m", "a change")
    return git("-C", folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["models.yaml", "models-ipadapter.yaml", "models-streamdiffusion.yaml"])
def test_the_lists_of_models_can_be_read(name: str) -> None:
    for entry in load_models(REPOSITORY / "configs" / name).values():
        assert entry.url.startswith("https://")


@pytest.mark.parametrize("name", ["nodes.yaml", "nodes-streamdiffusion.yaml"])
def test_the_packs_of_the_lists_are_pinned(name: str) -> None:
    packs = load_packs(REPOSITORY / "configs" / name)
    assert all(len(pack.commit) == 40 for pack in packs.values())
    assert len({pack.folder for pack in packs.values()}) == len(packs)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"url": "file:///etc/passwd", "path": "a"}, "models.a.url: Value error, must begin with http"),
        ({"url": "https://example.org/a", "path": "../../a"}, "is not inside"),
        ({"url": "https://example.org/a", "path": "/etc/cron.d/a"}, "is not inside"),
        ({"url": "https://example.org/a", "pth": "a"}, "models.a.path: Field required"),
        ({"url": "https://example.org/a", "path": "a", "sha256": "abc"}, "models.a.sha256"),
    ],
)
def test_a_bad_entry_is_one_line(
    entry: dict[str, str], words: str, tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch("models", "--config", listed(tmp_path, models={"a": entry}), "--workspace", workspace) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_models_come_once_and_are_watched(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.bin").write_bytes(b"one")
    (mirror / "b.json").write_bytes(b"{}")
    entry = {
        "url": "https://example.org/a.bin",
        "path": "vae/a.bin",
        "extra_files": [{"url": "https://example.org/b.json", "path": "custom_nodes/pack/b.json"}],
    }
    other = {"url": "https://example.org/missing.bin", "path": "x.bin"}
    config = listed(tmp_path, models={"a": entry, "other": other})
    common = ("--config", config, "--workspace", workspace, "--mirror", mirror)
    assert fetch("models", *common, "--only", "a") == 0
    assert (workspace / "models/vae/a.bin").read_bytes() == b"one"
    assert (workspace / "custom_nodes/pack/b.json").exists()
    assert "2 fetched" in capsys.readouterr().out
    assert fetch("models", *common) == 3  # the other one is not there, and does not keep this one from being checked
    out, err = capsys.readouterr()
    assert "2 present, 0 fetched, 1 failed" in out
    assert "other: " in err
    (workspace / "models/vae/a.bin").write_bytes(b"changed")
    assert fetch("models", *common, "--dry-run") == 0
    assert "SHA-256" in capsys.readouterr().out
    assert fetch("models", *common, "--only", "a") == 0
    assert (workspace / "models/vae/a.bin").read_bytes() == b"one"


def test_a_typo_in_an_id_is_helped(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch("models", "--only", "sd-trubo", "--workspace", workspace) == 2
    assert 'did you mean "sd-turbo"?' in capsys.readouterr().err


def test_packs_are_cloned_at_their_commit_and_kept(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = tmp_path / "origin" / "Pack-One"
    first = commit(origin, a_py="1")
    second = commit(origin, a_py="2")
    config = listed(tmp_path, nodes={"one": {"url": origin.as_uri(), "commit": first}})
    assert fetch("nodes", "--config", config, "--workspace", workspace) == 0
    pack = workspace / "custom_nodes/Pack-One"
    assert (pack / "a.py").read_text() == "1"
    (pack / "model.onnx").write_text("made by the pack")
    config = listed(tmp_path, nodes={"one": {"url": origin.as_uri(), "branch": "main"}})
    assert fetch("nodes", "--config", config, "--workspace", workspace) == 0
    assert (pack / "a.py").read_text() == "1", "a branch is not followed unless asked"
    pinned = tmp_path / "pinned.yaml"
    assert fetch("nodes", "--config", config, "--workspace", workspace, "--update", "--pin", pinned) == 0
    assert (pack / "a.py").read_text() == "2"
    assert (pack / "model.onnx").read_text() == "made by the pack"
    assert load_packs(pinned)["one"].commit == second
    lock = json.loads((workspace / "comfystream.lock.json").read_text())
    assert lock["packs"]["Pack-One"]["commit"] == second
    (pack / "a.py").write_text("mine")
    commit(origin, a_py="3")
    capsys.readouterr()
    assert fetch("nodes", "--config", config, "--workspace", workspace, "--update") == 0
    assert "changed by hand" in capsys.readouterr().out
    assert (pack / "a.py").read_text() == "mine"


def test_requirements_that_do_not_fit_stop_it_before_anything_changes(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = tmp_path / "Pack-Two"
    commit(origin, requirements_txt="numpy==1.0\n")
    config = listed(tmp_path, nodes={"two": {"url": origin.as_uri()}})
    assert fetch("nodes", "--config", config, "--workspace", workspace) == 2
    error = capsys.readouterr().err
    assert "pip cannot install what the packs ask for" in error
    assert f"numpy=={importlib.metadata.version('numpy')}" in error
    assert list((workspace / "custom_nodes").iterdir()) == []


def test_requirements_that_are_met_install_nothing(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = tmp_path / "Pack-Three"
    commit(origin, requirements_txt="numpy\n")
    config = listed(tmp_path, nodes={"three": {"url": origin.as_uri(), "dependencies": ["pillow"]}})
    assert fetch("nodes", "--config", config, "--workspace", workspace, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "nothing was changed" in out
    assert "would install" not in out
    assert list((workspace / "custom_nodes").iterdir()) == []


def wheel(folder: Path, name: str) -> None:
    """A package with nothing in it, version 1.0."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_with_a_mirror_packs_and_their_packages_come_from_there_alone(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    clone = mirror / "forge.example.org" / "somebody" / "Pack-Four"
    clone.parent.mkdir(parents=True)
    pinned = commit(clone, a_py="1", requirements_txt="numpy\ncomfystream-tiny-of-a-test\n")
    entry = {"url": "https://forge.example.org/somebody/Pack-Four.git", "commit": pinned}
    config = listed(tmp_path, nodes={"four": entry, "five": {"url": "https://forge.example.org/somebody/Pack-Five"}})
    common = ("--config", config, "--workspace", workspace, "--mirror", mirror, "--dry-run")
    assert fetch("nodes", *common, "--only", "four") == 2
    assert "No matching distribution found for comfystream-tiny-of-a-test" in capsys.readouterr().err
    wheel(mirror / "wheels", "comfystream_tiny_of_a_test")
    assert fetch("nodes", *common, "--only", "four") == 0
    assert "would install: comfystream_tiny_of_a_test 1.0" in capsys.readouterr().out.replace("-", "_")
    assert fetch("nodes", *common) == 2
    assert "has no clone of it" in capsys.readouterr().err
    assert list((workspace / "custom_nodes").iterdir()) == []


def test_a_pack_of_a_mirror_is_put_in_place(tmp_path: Path, workspace: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    pinned = commit(mirror / "Pack-Six", a_py="1")
    entry = {"url": "https://forge.example.org/somebody/Pack-Six", "commit": pinned}
    config = listed(tmp_path, nodes={"six": entry})
    assert fetch("nodes", "--config", config, "--workspace", workspace, "--mirror", mirror) == 0
    assert (workspace / "custom_nodes/Pack-Six/a.py").read_text() == "1"
    lock = json.loads((workspace / "comfystream.lock.json").read_text())
    assert lock["packs"]["Pack-Six"] == {"url": entry["url"], "commit": pinned}


@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/x", "--upload-pack=touch", "/etc"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path, workspace: Path) -> None:
    assert fetch("nodes", "--config", listed(tmp_path, nodes={"a": {"url": url}}), "--workspace", workspace) == 2


def test_a_repository_that_is_not_there_is_named(
    tmp_path: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = listed(tmp_path, nodes={"a": {"url": (tmp_path / "nothing").as_uri()}})
    assert fetch("nodes", "--config", config, "--workspace", workspace) == 2
    assert "a: file://" in capsys.readouterr().err
    assert list((workspace / "custom_nodes").iterdir()) == []
