"""A model by its name: the places where it is looked for, and where a missing one goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comfystream.catalog.standin import Folders, install
from comfystream.model_files import find_model, missing_model, place_of


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Path]:
    install(Folders(base=str(tmp_path)))
    yield tmp_path / "models"
    install(Folders())


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_where_a_name_is_looked_for(models: Path, tmp_path: Path) -> None:
    assert find_model("a.bin", ("loras",)) is None
    assert find_model("", ("loras",)) is None
    last = made(models / "a.bin")
    assert find_model("a.bin", ("loras",)) == last
    second = made(models / "checkpoints" / "a.bin")
    assert find_model("a.bin", ("loras", "checkpoints")) in (second, last)
    first = made(models / "loras" / "a.bin")
    assert find_model("a.bin", ("loras", "checkpoints")) == first
    assert find_model(str(second), ("loras",)) == second
    assert find_model("sub/a.bin", ("loras",)) == first
    unknown = made(models / "depth" / "owner--net" / "config.json").parent
    assert find_model("owner/net", ("depth",)) == unknown


def test_where_a_missing_one_goes(models: Path) -> None:
    assert missing_model("a.bin", ("loras", "checkpoints")) == place_of("loras") == str(models / "loras")
    assert missing_model("depth/net", ("depth",)) == str(models)
    assert missing_model("ipadapter/encoder", ("clip_vision",)) == place_of("clip_vision")
    assert missing_model("vae/encoder", ("clip_vision",)) == str(models)
    assert missing_model("/nowhere/at/all.bin", ("loras",)) == "/nowhere/at"
    made(models / "loras" / "a.bin")
    assert missing_model("a.bin", ("loras",)) is None
