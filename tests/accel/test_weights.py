"""Broken files of weights are told by name and place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder, load_taesd
from comfystream.accel.weights import check_safetensors, read_weights
from comfystream.errors import AssetError

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.save_file({"a": torch.ones(64, 64), "b": torch.zeros(8)}, path, metadata={"format": "pt"})
    return path


def test_whole(file: Path) -> None:
    assert set(check_safetensors(file)) == {"a", "b"}
    assert read_weights(file)["a"].shape == (64, 64)


@pytest.mark.parametrize("kept", [0, 4, 8, 40, 400, 16000])
def test_cut_off(file: Path, kept: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with pytest.raises(AssetError) as caught:
        read_weights(file)
    assert caught.value.code == "broken_weights"
    assert str(file) in str(caught.value)
    assert "cut off" in str(caught.value)


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\n", b"\xff" * 100, b"<html>" * 20])
def test_something_else(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(AssetError, match="not a safetensors file"):
        check_safetensors(file)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="No such file") as caught:
        read_weights(tmp_path / "none.safetensors")
    assert caught.value.hint == "comfystream fetch models"


@pytest.mark.parametrize("kind", [TaesdEncoder, TaesdDecoder])
def test_taesd_in_its_published_names(kind: type[torch.nn.Module], tmp_path: Path) -> None:
    module = kind(8)
    path = tmp_path / "taesd.safetensors"
    safetensors.save_file(module.layers.state_dict(), path)
    loaded = load_taesd(path)
    assert type(loaded) is kind
    value = torch.rand(1, 3, 32, 32) if kind is TaesdEncoder else torch.randn(1, 4, 4, 4)
    torch.testing.assert_close(loaded(value), module(value))


def test_taesd_has_the_layers_of_the_published_weights() -> None:
    names = set(TaesdDecoder().layers.state_dict())
    assert {"1.weight", "3.conv.0.weight", "7.weight", "18.conv.4.bias", "19.bias"} <= names
    assert "7.bias" not in names
    assert len([name for name in names if name.endswith("weight")]) == 35
    assert sum(one.numel() for one in TaesdDecoder().parameters()) == 1_222_531
    assert sum(one.numel() for one in TaesdEncoder().parameters()) == 1_222_532


def test_other_weights_are_no_taesd(file: Path) -> None:
    with pytest.raises(AssetError, match="not the weights of a TAESD"):
        load_taesd(file)
