"""Files of every layout, and what is said about those that cannot be used."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
from comfyui_parts import holder, patcher_of
from original_layout import original_autoencoder, original_checkpoint, original_control, original_unet
from safetensors.torch import save_file

from comfystream.errors import AssetError
from comfystream_nodes.streamdiffusion.control import load_control
from comfystream_nodes.streamdiffusion.image_prompt import layer_weights
from comfystream_nodes.streamdiffusion.loading.entry import find, load_model, model_from_comfyui, placed
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.loading.single_file import load_single_file, unet_of
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.stream import Stream


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_single_file_is_the_model_that_it_was_made_of(tmp_path, family: str) -> None:
    folder = load_folder(tiny.write_folder(tmp_path / "folder", family, is_tiny_vae=False))
    path = tmp_path / "model.safetensors"
    save_file(original_checkpoint(folder), path)
    tiny.write_tokenizer(tmp_path / "tokenizer")
    loaded = load_model(str(path))
    assert loaded.family == family
    for name, value in folder.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], value), name
    latent = torch.randn(1, 4, 8, 8)
    assert torch.allclose(loaded.autoencoder.decode(latent), folder.autoencoder.decode(latent), atol=1e-5) or (
        family == "sdxl"  # other scaling in the folder's config
    )
    if family == "sd15":
        same = folder.prompts.encode("a cat").tokens
        assert torch.allclose(loaded.prompts.encode("a cat").tokens, same, atol=1e-5)
    assert Stream(loaded, settings_for(loaded)).process(picture()).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_names_are_those_of_diffusers(family: str) -> None:
    """Against diffusers' own converter, which shares nothing with ours."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = tiny.unet(family)
    original = original_unet(unet)
    theirs = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{name}": value for name, value in original.items()}, dict(unet.config)
    )
    ours = unet_of(original, "file")[0].state_dict()
    assert set(theirs) == set(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_comfyui_s_objects(models) -> None:
    unet, vae = tiny.unet("sd15"), tiny.kl()
    patcher = patcher_of(original_unet(unet))
    clip = SimpleNamespace(
        tokenize=lambda text: text,
        encode_from_tokens=lambda tokens, return_pooled: (torch.full((1, 77, 32), float(len(tokens))), None),
    )
    model = model_from_comfyui(patcher, SimpleNamespace(first_stage_model=holder(original_autoencoder(vae))), clip)
    assert Stream(model, settings_for(model)).process(picture()).shape == (1, 64, 64, 3)
    assert model.prompts.encode("four").tokens[0, 0, 0] == 4
    with pytest.raises(AssetError, match="no diffusion model of ComfyUI"):
        model_from_comfyui((1, 2), None)


@pytest.mark.parametrize("is_zero", [False, True])
@pytest.mark.parametrize("kind", ["eps", "v_prediction"])
def test_how_comfyui_says_that_a_model_is_sampled(kind: str, is_zero: bool) -> None:
    """The model's own way, or that of its node ModelSamplingDiscrete."""
    patcher = patcher_of(original_unet(tiny.unet("sd15")), kind, is_zero)
    model = model_from_comfyui(patcher, SimpleNamespace(first_stage_model=holder(original_autoencoder(tiny.kl()))))
    assert (model.predicts_velocity, model.is_zero_terminal) == (kind == "v_prediction", is_zero)


@pytest.mark.parametrize("more", [{"kind": "x0"}, {"kind": "edm"}, {"kind": "flow"}, {"is_discrete": False}])
def test_other_ways_of_sampling_are_refused(more) -> None:
    patcher = patcher_of(original_unet(tiny.unet("sd15")), **more)
    with pytest.raises(AssetError, match="sampled in a way that is not understood"):
        model_from_comfyui(patcher, SimpleNamespace(first_stage_model=holder(original_autoencoder(tiny.kl()))))


@pytest.mark.parametrize(
    "scheduler",
    [{"prediction_type": "sample"}, {"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "epsilon"}],
)
def test_so_they_are_in_a_folder(tmp_path, scheduler) -> None:
    with pytest.raises(AssetError, match=r"model odd \(.*\) is sampled in a way that is not understood"):
        load_folder(tiny.write_folder(tmp_path / "odd", **scheduler))


def test_a_taesd_file_in_place_of_the_own_vae(tmp_path, model_folders) -> None:
    taesd = tiny.taesd(3)
    weights = taesd.state_dict()
    for side, shift in (("encoder", 0), ("decoder", 1)):
        part = {}
        for name, value in weights.items():
            if name.startswith(side):
                number, tail = name.removeprefix(f"{side}.layers.").split(".", 1)
                part[f"{int(number) + shift}.{tail}"] = value
        save_file(part, tmp_path / f"taesd_{side}.safetensors")
    model = load_model(str(model_folders["sd15"]), str(tmp_path / "taesd_decoder.safetensors"))
    latent = torch.randn(1, 4, 8, 8)
    assert torch.allclose(model.autoencoder.decode(latent), taesd.decode(latent).sample)


def test_a_truncated_file_says_so(tmp_path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AssetError, match=r"cut.*cannot be read \(2000 bytes\).*cut off or damaged") as caught:
        load_model(str(path))
    assert str(caught.value).count("cannot be read") == 1, "said once"
    pickle = tmp_path / "cut.ckpt"
    torch.save({"a": torch.zeros(1000)}, pickle)
    pickle.write_bytes(pickle.read_bytes()[:2000])
    with pytest.raises(AssetError, match=r"cut.ckpt cannot be read"):
        load_model(str(pickle))


def test_a_truncated_part_of_a_folder_says_so(tmp_path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AssetError, match="unet.*cannot be read"):
        load_folder(folder)


def test_a_missing_part_and_missing_tensors_say_so(tmp_path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(AssetError, match="vae has no config.json"):
        load_folder(folder)
    unet = original_unet(tiny.unet("sd15"))
    with pytest.raises(AssetError, match="1 tensors missing"):
        unet_of({name: value for name, value in unet.items() if name != "middle_block.0.in_layers.0.bias"}, "file")


def test_code_in_a_pickle_is_not_run(tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(AssetError, match="cannot be read"):
        load_model(str(tmp_path / "trap.ckpt"))
    assert not (tmp_path / "ran").exists()


def test_a_file_of_another_kind_says_so(tmp_path) -> None:
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "vae.safetensors")
    with pytest.raises(AssetError, match="is no Stable Diffusion checkpoint"):
        load_single_file(tmp_path / "vae.safetensors", [])


def test_a_model_that_is_not_there_names_the_folder(folders) -> None:
    with pytest.raises(AssetError, match=r"model 'acme/nothing' is not there.*loras.*nothing is fetched"):
        find("acme/nothing", "loras")


def test_a_single_file_without_a_tokenizer_says_so(tmp_path) -> None:
    folder = load_folder(tiny.write_folder(tmp_path / "folder", is_tiny_vae=False))
    (tmp_path / "alone").mkdir()
    path = tmp_path / "alone" / "model.safetensors"
    save_file(original_checkpoint(folder), path)
    with pytest.raises(AssetError, match=r"no tokenizer.*name a tokenizer folder"):
        load_single_file(path, []).prompts.encode("a cat")


def test_a_lora_changes_what_it_names_and_nothing_else(tmp_path, models) -> None:
    model = models["sd15"]
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    lora = tiny.write_lora(tmp_path / "style.safetensors")
    changed = with_lora(model, lora, 0.5)
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    from safetensors.torch import load_file

    factors = load_file(lora)
    base = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    delta = factors[f"{base}.lora_up.weight"] @ factors[f"{base}.lora_down.weight"] * 0.5  # alpha 1 of rank 2
    now = changed.unet.state_dict()
    assert torch.allclose(now[layer], before[layer] + 0.5 * delta, atol=1e-6)
    assert all(torch.equal(now[name], before[name]) for name in now if name != layer)
    assert all(torch.equal(model.unet.state_dict()[name], before[name]) for name in before)
    shared = model.unet.conv_in.weight.data_ptr()
    assert changed.unet.conv_in.weight.data_ptr() == shared
    assert not torch.equal(changed.prompts.encode("a cat").tokens, model.prompts.encode("a cat").tokens)
    assert changed.loras == (("style.safetensors", 0.5),)
    twice = with_lora(changed, lora, -0.5)
    assert torch.allclose(twice.unet.state_dict()[layer], before[layer], atol=1e-5)


def test_a_lora_in_the_layouts_of_peft_and_of_the_original_names(tmp_path, models) -> None:
    model = models["sd15"]
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    original = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k"
    for name, names in (
        ("peft", (f"unet.{layer}.lora_A.weight", f"unet.{layer}.lora_B.weight")),
        ("original", (f"{original}.lora_down.weight", f"{original}.lora_up.weight")),
    ):
        save_file(dict(zip(names, (down, up), strict=True)), tmp_path / f"{name}.safetensors")
        made = with_lora(model, tmp_path / f"{name}.safetensors", 1.0).unet.state_dict()[f"{layer}.weight"]
        assert torch.allclose(made, model.unet.state_dict()[f"{layer}.weight"] + up @ down, atol=1e-6)


@pytest.mark.parametrize("change", [{"layer": "down_blocks_7_attentions_0"}, {"width": 48}])
def test_a_lora_for_another_architecture_says_so(tmp_path, models, change) -> None:
    path = tiny.write_lora(tmp_path / "xl.safetensors", **change)
    with pytest.raises(AssetError, match=r"LoRA xl.safetensors is for another architecture than sd15 \(sd15\)"):
        with_lora(models["sd15"], path, 1.0)


def test_what_is_no_lora_says_so(tmp_path, models) -> None:
    save_file({"lora_unet_conv_in.hada_w1_a": torch.zeros(1)}, tmp_path / "loha.safetensors")
    with pytest.raises(AssetError, match="of a kind that is not understood"):
        with_lora(models["sd15"], tmp_path / "loha.safetensors", 1.0)
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(AssetError, match="is no LoRA"):
        with_lora(models["sd15"], tmp_path / "none.safetensors", 1.0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_controlnet_from_a_folder_and_from_a_file(tmp_path, family: str) -> None:
    net = tiny.controlnet(family)
    net.save_pretrained(tmp_path / "folder")
    save_file(original_control(net), tmp_path / "file.safetensors")
    loaded = [load_control(tmp_path / name).module.state_dict() for name in ("folder", "file.safetensors")]
    for weights in loaded:
        assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())


def test_a_controlnet_for_another_architecture_says_so(tmp_path, models) -> None:
    tiny.controlnet("sdxl").save_pretrained(tmp_path / "xl")
    with pytest.raises(AssetError, match="ControlNet xl is for another architecture than this model"):
        load_control(tmp_path / "xl").check(models["sd15"].family, models["sd15"].unet)


def test_weight_types_spread_the_strength() -> None:
    """By the order in which layers run; a UNet lists the middle one last."""
    names = ["down_blocks.0", "down_blocks.1", "up_blocks.0.attentions.1.x", "up_blocks.1", "mid_block"]
    assert layer_weights(names, "linear") == [1, 1, 1, 1, 1]
    assert layer_weights(names, "ease in") == pytest.approx([1, 0.7625, 0.2875, 0.05, 0.525])
    assert layer_weights(names, "ease out") == pytest.approx([0.05, 0.2875, 0.7625, 1, 0.525])
    assert layer_weights(names, "ease in-out") == pytest.approx([0.05, 0.525, 0.525, 0.05, 1])
    assert layer_weights(names, "reverse in-out") == pytest.approx([1, 0.525, 0.525, 1, 0.05])
    assert layer_weights(names, "weak input") == [0.2, 0.2, 1, 1, 1]
    assert layer_weights(names, "weak middle") == [1, 1, 1, 1, 0.2]
    assert layer_weights(names, "weak output") == [1, 1, 0.2, 0.2, 1]
    assert layer_weights(names, "strong middle") == [0.2, 0.2, 0.2, 0.2, 1]
    assert layer_weights(names, "style transfer") == [0, 0, 1, 0, 0]


def test_a_config_that_makes_no_model_says_so(tmp_path) -> None:
    folder = tiny.write_folder(tmp_path / "model")
    (folder / "unet" / "config.json").write_text(
        json.dumps({"block_out_channels": [32], "down_block_types": ["No"] * 3})
    )
    with pytest.raises(AssetError, match="config does not make a UNet2DConditionModel"):
        load_folder(folder)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_nothing_is_said_that_nobody_can_act_on(tmp_path, family: str, caplog: pytest.LogCaptureFixture) -> None:
    """Diffusers warns of what its own files say beside, and of every model that is brought to another precision."""
    folder = tiny.write_folder(tmp_path / "model", family)
    placed(load_folder(folder), torch.device("cpu"), torch.float16)
    assert [record.getMessage() for record in caplog.records] == []
