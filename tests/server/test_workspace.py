"""What fetches models and what loads them mean the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfystream.catalog.comfyui import ComfyUIOptions
from comfystream.errors import ConfigError
from comfystream_server.commands.fetch import workspace_of
from comfystream_server.workspace import find_workspace, own_packs

NAMES = ("COMFYSTREAM_WORKSPACE", "COMFY_UI_WORKSPACE", "COMFYUI_PATH", "COMFYUI_BASE_DIRECTORY", "COMFYSTREAM_HOME")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A folder for each name; none is set."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).mkdir()
    checkout = tmp_path / "COMFYUI_PATH"
    (checkout / "comfy").mkdir()
    for name in ("nodes.py", "execution.py"):
        (checkout / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    return {name: tmp_path / name for name in NAMES}


def test_who_is_asked_first(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / ".comfystream"
    assert find_workspace() == own
    for name in ("COMFYSTREAM_HOME", "COMFYUI_PATH", "COMFYUI_BASE_DIRECTORY", "COMFY_UI_WORKSPACE"):
        monkeypatch.setenv(name, str(places[name]))
        assert find_workspace() == places[name]
    monkeypatch.setenv("COMFYSTREAM_WORKSPACE", str(places["COMFYSTREAM_WORKSPACE"]))
    assert find_workspace() == places["COMFYSTREAM_WORKSPACE"]
    assert find_workspace(tmp_path, "none") == tmp_path
    monkeypatch.delenv("COMFYSTREAM_WORKSPACE")
    monkeypatch.delenv("COMFY_UI_WORKSPACE")
    assert find_workspace(comfyui="none") == places["COMFYSTREAM_HOME"]


def test_its_own_folder_is_made_and_no_other(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert workspace_of(None) == tmp_path / ".comfystream"
    assert (tmp_path / ".comfystream").is_dir()
    with pytest.raises(ConfigError, match=r"workspace .*nowhere: there is no such folder"):
        workspace_of(tmp_path / "nowhere")
    monkeypatch.setenv("COMFYSTREAM_WORKSPACE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"workspace .*nowhere: there is no such folder"):
        find_workspace()
    monkeypatch.setenv("COMFYSTREAM_WORKSPACE", "")
    monkeypatch.setenv("COMFYSTREAM_HOME", str(places["COMFYUI_PATH"] / "nodes.py" / "below"))
    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        workspace_of(None)


def test_its_packs_are_loaded_once(places: dict[str, Path]) -> None:
    workspace, checkout = places["COMFYSTREAM_WORKSPACE"], places["COMFYUI_PATH"]
    assert own_packs(workspace, None) == []
    for folder in (workspace, checkout):
        (folder / "custom_nodes").mkdir()
    options = ComfyUIOptions(str(checkout))
    assert own_packs(workspace, None) == own_packs(workspace, options) == [workspace / "custom_nodes"]
    assert own_packs(checkout, options) == []
    assert own_packs(workspace, ComfyUIOptions(str(checkout), base=str(workspace))) == []
