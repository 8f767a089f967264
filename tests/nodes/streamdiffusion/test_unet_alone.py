"""A UNet alone in the place of a model's own: every layout that distilled ones are published in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from frames import picture, settings_for
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
from original_layout import original_unet

from comfystream.errors import AssetError
from comfystream_nodes.streamdiffusion.loader_nodes import NODES
from comfystream_nodes.streamdiffusion.loading.entry import load_model
from comfystream_nodes.streamdiffusion.stream import Stream

LAYOUTS = ("folder", "model's folder", "diffusers' names", "pickled", "original names", "original names with a prefix")


def write(unet, folder: Path, layout: str) -> Path:
    """The UNet in one of the layouts."""
    if "folder" in layout:
        unet.save_pretrained(folder / "unet")
        return folder if layout == "model's folder" else folder / "unet"
    folder.mkdir(exist_ok=True)
    weights = original_unet(unet) if "original" in layout else unet.state_dict()
    if "prefix" in layout:
        weights = {f"model.diffusion_model.{name}": value for name, value in weights.items()}
    path = folder / ("unet.bin" if layout == "pickled" else "unet.safetensors")
    if layout == "pickled":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_it_is_used_and_all_else_is_the_model_s_own(model_folders, models, tmp_path, family: str, layout: str) -> None:
    other = tiny.unet(family, seed=9)
    path = write(other, tmp_path / "distilled", layout)
    own, loaded = models[family], load_model(str(model_folders[family]), unet=str(path))
    assert all(torch.equal(loaded.unet.state_dict()[name], value) for name, value in other.state_dict().items())
    assert loaded.autoencoder.scaling == own.autoencoder.scaling
    assert torch.equal(loaded.prompts.encode("a cat").tokens, own.prompts.encode("a cat").tokens)
    made, wanted = (
        Stream(model, settings_for(model)).process(picture()) for model in (loaded, own.with_parts(unet=other))
    )
    torch.testing.assert_close(made, wanted)
    assert not torch.allclose(made, Stream(own, settings_for(own)).process(picture()), atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_that_was_distilled_with_guidance_is_told_its_scale(model_folders, tmp_path, layout: str) -> None:
    path = write(tiny.unet("sdxl", time_cond_proj_dim=64), tmp_path / "lcm", layout)
    loaded = load_model(str(model_folders["sdxl"]), unet=str(path))
    assert loaded.guidance_width == 64
    assert Stream(loaded, settings_for(loaded)).process(picture()).shape == (1, 64, 64, 3)


def test_one_that_is_told_no_scale_in_a_model_that_is(tmp_path) -> None:
    folder = tiny.write_folder(tmp_path / "lcm")
    tiny.unet("sd15", time_cond_proj_dim=64).save_pretrained(folder / "unet")
    path = write(tiny.unet("sd15", seed=9), tmp_path / "plain", "diffusers' names")
    assert load_model(str(folder), unet=str(path)).guidance_width == 0


@pytest.mark.parametrize(
    ("family", "own", "said", "wanted"),
    [
        ("sdxl", "epsilon", (), False),
        ("sdxl", "epsilon", ("v_pred",), True),
        ("sdxl", "v_prediction", (), True),
        ("sd21", "v_prediction", (), False),  # there the weights tell which, see test_file_layouts
    ],
)
def test_what_it_predicts(tmp_path, family: str, own: str, said, wanted: bool) -> None:
    folder = tiny.write_folder(tmp_path / "model", family, prediction_type=own)
    weights = original_unet(tiny.unet(family))
    save_file({**weights, **{name: torch.empty(0) for name in said}}, tmp_path / "unet.safetensors")
    loaded = load_model(str(folder), unet=str(tmp_path / "unet.safetensors"))
    assert loaded.predicts_velocity is wanted


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_of_another_kind_is_refused(model_folders, tmp_path, layout: str) -> None:
    path = write(tiny.unet("sdxl"), tmp_path / "other", layout)
    with pytest.raises(AssetError, match="does not fit its model|is for sdxl .*model sd15 is sd15") as refused:
        load_model(str(model_folders["sd15"]), unet=str(path))
    assert refused.value.code == "weights_do_not_fit"


def test_what_is_no_unet_is_refused(model_folders, tmp_path) -> None:
    def load(path: Path) -> None:
        load_model(str(model_folders["sd15"]), unet=str(path))

    with pytest.raises(AssetError, match="holds no Stable Diffusion UNet"):
        load(tiny.write_lora(tmp_path / "lora.safetensors"))
    path = write(tiny.unet("sd15"), tmp_path / "cut", "diffusers' names")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AssetError, match="cut off or damaged"):
        load(path)


def test_the_node_takes_one(model_folders, tmp_path) -> None:
    other = tiny.unet("sd15", seed=9)
    path = write(other, tmp_path / "distilled", "diffusers' names")
    load, _ = NODES["StreamDiffusionLoadModel"]
    (model,) = load().load(str(model_folders["sd15"]), device="cpu", unet=str(path))
    assert torch.equal(model.unet.conv_in.weight, other.conv_in.weight)
    assert list(load.INPUT_TYPES()["optional"])[-1] == "unet"  # saved workflows name values of widgets by their place
