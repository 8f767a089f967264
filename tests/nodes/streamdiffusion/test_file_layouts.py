"""Files as people have them: what publishers put beside each other, and the words that trainers write."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
from safetensors.torch import save_file

from comfystream.errors import AssetError
from comfystream_nodes.streamdiffusion.loading.folder import load_autoencoder
from comfystream_nodes.streamdiffusion.loading.parts import from_folder


def test_a_folder_of_a_taesd_that_holds_its_halves_in_another_layout_too(tmp_path) -> None:
    """As the published ones do."""
    made = tiny.taesd()
    made.save_pretrained(tmp_path)
    for side in ("encoder", "decoder"):
        save_file({"0.weight": torch.zeros(1)}, tmp_path / f"taesd_{side}.safetensors")
    loaded = load_autoencoder(tmp_path).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in made.state_dict().items())


def test_a_file_where_a_folder_belongs_says_so(tmp_path) -> None:
    """ComfyUI's picture encoders are files."""
    file = tmp_path / "CLIP-ViT-H-14.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(AssetError, match=r"CLIP-ViT-H-14.safetensors has no config.json"):
        from_folder("CLIPVisionModelWithProjection", file, is_transformers=True)
