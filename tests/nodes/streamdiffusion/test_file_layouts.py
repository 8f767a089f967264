"""Files as people have them: what publishers put beside each other, and the words that trainers write."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
import tiny_video
from comfyui_parts import holder, patcher_of
from diffusers import StableDiffusionPipeline
from original_layout import original_autoencoder, original_checkpoint, original_unet
from safetensors.torch import load_file, save_file

from comfystream.errors import AssetError
from comfystream_nodes.streamdiffusion.image_prompt import build
from comfystream_nodes.streamdiffusion.loading.adapter import OF_PEFT
from comfystream_nodes.streamdiffusion.loading.entry import load_model, model_from_comfyui
from comfystream_nodes.streamdiffusion.loading.folder import load_autoencoder, load_folder
from comfystream_nodes.streamdiffusion.loading.infer import Family
from comfystream_nodes.streamdiffusion.loading.parts import from_folder
from comfystream_nodes.streamdiffusion.loading.single_file import load_autoencoder_file
from comfystream_nodes.streamdiffusion.loading.weights import read_weights
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.text import ComfyTower, PromptEncoder
from comfystream_nodes.streamdiffusion.video.lora import with_video_lora
from comfystream_nodes.streamdiffusion.video.model import VideoModel
from comfystream_nodes.streamdiffusion.video.pipelines import PIPELINES
from comfystream_nodes.streamdiffusion.video.transformer import CausalStep


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


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("stored", "layer"),
    [
        (f"{ATTENTION}.processor.to_q_lora.{{}}.weight", f"{ATTENTION}.to_q"),
        (f"unet.{ATTENTION}.processor.to_out_lora.{{}}.weight", f"{ATTENTION}.to_out.0"),
        (f"unet.{ATTENTION}.to_out.0.lora.{{}}.weight", f"{ATTENTION}.to_out.0"),
        (f"text_encoder.{TEXT}.lora_linear_layer.{{}}.weight", TEXT),
    ],
)
def test_loras_in_all_words_of_diffusers(tmp_path, models, stored: str, layer: str) -> None:
    model = models["sd15"]
    is_text = stored.startswith("text_encoder")
    before = (model.prompts.towers[0].module if is_text else model.unet).state_dict()
    name = next(name for name in before if name in (f"{layer}.weight", f"{layer.removeprefix('text_model.')}.weight"))
    up, down = torch.randn(before[name].shape[0], 2), torch.randn(2, before[name].shape[1])
    save_file({stored.format("down"): down, stored.format("up"): up}, tmp_path / "lora.safetensors")
    made = with_lora(model, tmp_path / "lora.safetensors", 0.5)
    after = (made.prompts.towers[0].module if is_text else made.unet).state_dict()
    torch.testing.assert_close(after[name], before[name] + 0.5 * up @ down, atol=1e-5, rtol=0)
    others = set(before) - {name}
    assert all(torch.equal(after[other], before[other]) for other in others)


def test_those_words_are_the_ones_that_diffusers_writes() -> None:
    from diffusers.utils import convert_state_dict_to_diffusers

    given = {f"text_model.encoder.layers.0.self_attn.q_proj.lora_{part}.weight": torch.zeros(1) for part in "AB"}
    assert set(convert_state_dict_to_diffusers(given)) == {
        f"{TEXT}.lora_linear_layer.{part}.weight" for part in ("down", "up")
    }


def test_what_a_lora_holds_beside_its_pairs_is_said(tmp_path, models, caplog) -> None:
    path = tiny.write_lora(tmp_path / "lora.safetensors")
    weights = {**load_file(path), "lora_unet_conv_in.diff": torch.zeros(1)}
    save_file(weights, path)
    with_lora(models["sd15"], path, 1.0)
    assert "LoRA lora.safetensors: 1 tensors are left out, such as lora_unet_conv_in.diff" in caplog.text
    save_file({"lora_unet_conv_in.lora_mid.weight": torch.zeros(1)}, tmp_path / "tucker.safetensors")
    with pytest.raises(AssetError, match=r"of a kind that is not understood \(lora_unet_conv_in.lora_mid"):
        with_lora(models["sd15"], tmp_path / "tucker.safetensors", 1.0)


def test_a_lora_s_text_part_where_comfyui_has_the_text_encoder(tmp_path, models, caplog) -> None:
    name = f"lora_te_{TEXT.replace('.', '_')}"
    path = tiny.write_lora(tmp_path / "lora.safetensors")
    text = {f"{name}.lora_down.weight": torch.zeros(2, 32), f"{name}.lora_up.weight": torch.zeros(32, 2)}
    save_file({**load_file(path), **text}, path)
    model = models["sd15"]
    elsewhere = model.with_parts(prompts=PromptEncoder(model.family, (ComfyTower(None),)))
    assert with_lora(elsewhere, path, 1.0).loras == (("lora.safetensors", 1.0),)
    assert "1 layers of a text encoder are left out" in caplog.text


LAYER, RANK = f"{ATTENTION}.to_q", 4


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ({}, 1.0),
        ({"r": RANK, "lora_alpha": 2}, 0.5),
        ({"r": RANK, "lora_alpha": 2, "use_rslora": True}, 1.0),
        ({"r": 64, "rank_pattern": {"attn2.to_q": RANK}, "lora_alpha": 8, "alpha_pattern": {"attn2.to_q": 1}}, 0.25),
        ({"lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 1, "o_q": 1}}, 2.0),
    ],
)
@pytest.mark.parametrize("place", ["peft", "diffusers", "unet"])
def test_the_alpha_that_a_trainer_says_beside_the_tensors(tmp_path, models, place: str, said, times: float) -> None:
    """PEFT writes it into a file beside; diffusers into the header, for each network or for one alone."""
    model = models["sd15"]
    before = model.unet.state_dict()[f"{LAYER}.weight"]
    up, down = torch.randn(before.shape[0], RANK), torch.randn(RANK, before.shape[1])
    pair = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    if place == "peft":
        save_file({f"base_model.model.{name}": value for name, value in pair.items()}, tmp_path / OF_PEFT)
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **said}))
    elif place == "diffusers":
        StableDiffusionPipeline.save_lora_weights(tmp_path, pair, unet_lora_adapter_metadata=said)
    else:
        header = {"format": "pt", "lora_adapter_metadata": json.dumps(said)}
        save_file(pair, tmp_path / "pytorch_lora_weights.safetensors", metadata=header)
    made = with_lora(model, tmp_path, 1.0)
    delta = up @ down * times
    torch.testing.assert_close(made.unet.state_dict()[f"{LAYER}.weight"], before + delta, atol=1e-5, rtol=0)
    (file,) = tmp_path.glob("*.safetensors")
    assert made.loras == ((file.name, 1.0),)


def test_an_alpha_among_the_tensors_counts_before_that_of_the_header(tmp_path, models) -> None:
    before = models["sd15"].unet.state_dict()[f"{LAYER}.weight"]
    up, down = torch.randn(before.shape[0], RANK), torch.randn(RANK, before.shape[1])
    weights = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    weights[f"unet.{LAYER}.alpha"] = torch.tensor(1.0)
    save_file(weights, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8})})
    made = with_lora(models["sd15"], tmp_path / "a.safetensors", 1.0)
    wanted = before + up @ down * 0.25
    torch.testing.assert_close(made.unet.state_dict()[f"{LAYER}.weight"], wanted, atol=1e-5, rtol=0)


def test_a_text_encoder_s_lora_as_peft_saves_it(tmp_path, models) -> None:
    model = models["sd15"]
    weights = {f"base_model.model.{TEXT}.lora_A.weight": torch.randn(2, 32)}
    weights[f"base_model.model.{TEXT}.lora_B.weight"] = torch.randn(32, 2)
    save_file(weights, tmp_path / OF_PEFT)
    made = with_lora(model, tmp_path, 1.0)
    assert not torch.equal(made.prompts.encode("a cat").tokens, model.prompts.encode("a cat").tokens)


def test_a_folder_of_loras_that_does_not_say_which_is_refused(tmp_path, models) -> None:
    for name in "ab":
        tiny.write_lora(tmp_path / f"{name}.safetensors")
    with pytest.raises(AssetError, match="holds 2 weight files.*name the file that is meant"):
        with_lora(models["sd15"], tmp_path, 1.0)


def test_a_header_that_is_no_json_and_a_dora_of_peft_are_refused(tmp_path, models) -> None:
    path = tiny.write_lora(tmp_path / "a.safetensors")
    save_file(load_file(path), path, {"lora_adapter_metadata": "{"})
    with pytest.raises(AssetError, match=r"a.safetensors: what its header says of the LoRA is no JSON"):
        with_lora(models["sd15"], path, 1.0)
    save_file({**load_file(path), f"{LAYER}.lora_magnitude_vector": torch.zeros(1)}, path)
    with pytest.raises(AssetError, match="of a kind that is not understood"):
        with_lora(models["sd15"], path, 1.0)


@pytest.mark.parametrize(
    ("family", "spread", "wanted"), [("sd21", 0.11, True), ("sd21", 0.05, False), ("sd15", 1, False)]
)
def test_a_file_of_sd_2_that_predicts_velocity_is_known_by_its_weights(tmp_path, family, spread, wanted) -> None:
    weights = original_checkpoint(load_folder(tiny.write_folder(tmp_path / "folder", family, is_tiny_vae=False)))
    attended = [
        name for name in weights if "output_blocks" in name and name.endswith(".1.transformer_blocks.0.norm1.bias")
    ]
    bias = weights[max(attended)]
    bias.copy_(torch.tensor([-1.0, 1.0]).repeat(len(bias) // 2) * spread)
    save_file(weights, tmp_path / "model.safetensors")
    tiny.write_tokenizer(tmp_path / "tokenizer")
    assert load_model(str(tmp_path / "model.safetensors")).predicts_velocity is wanted


@pytest.mark.parametrize("said", [(), ("v_pred",), ("v_pred", "ztsnr")])
def test_empty_tensors_say_how_a_file_is_sampled(tmp_path, said) -> None:
    weights = original_checkpoint(load_folder(tiny.write_folder(tmp_path / "folder", "sdxl", is_tiny_vae=False)))
    save_file({**weights, **{name: torch.empty(0) for name in said}}, tmp_path / "model.safetensors")
    tiny.write_tokenizer(tmp_path / "tokenizer")
    loaded = load_model(str(tmp_path / "model.safetensors"))
    assert (loaded.predicts_velocity, loaded.is_zero_terminal) == ("v_pred" in said, "ztsnr" in said)


def test_a_lora_of_training_is_the_generator_s_not_the_critic_s_too(tmp_path) -> None:
    model = VideoModel("tiny", PIPELINES["longlive"], CausalStep(tiny_video.transformer()), None, None)
    alone = tiny_video.write_lora(tmp_path / "alone.safetensors", prefix="generator_lora.base_model.model.")
    own = load_file(alone)
    critic = {name.replace("generator_lora", "critic_lora"): 3 * value for name, value in own.items()}
    torch.save({"generator_lora": {}, **own, **critic, "step": 3}, tmp_path / "lora.pt")
    first, second = (with_video_lora(model, path, 1.0).transformer for path in (alone, tmp_path / "lora.pt"))
    name = "blocks.1.attn1.to_q.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], model.transformer.state_dict()[name])


def test_an_ip_adapter_for_another_image_encoder_says_so(tmp_path) -> None:
    unet, encoder = tiny.unet("sd15"), tiny.image_encoder()
    weights = read_weights(tiny.write_ip_adapter(tmp_path / "adapter.safetensors", unet))
    encoder.config.projection_dim += 8
    with pytest.raises(AssetError, match="trained with another image encoder: it reads"):
        build(unet, weights, encoder, "adapter.safetensors", torch.device("cpu"), torch.float32)


def test_comfyui_s_taesd(tmp_path) -> None:
    """Its latents are the model's own here; ComfyUI keeps a scale and a shift beside it."""
    made = tiny.taesd()
    weights = {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}
    for name, value in made.state_dict().items():
        side, _, number, rest = name.split(".", 3)
        weights[f"taesd_{side}.{int(number) + (side == 'decoder')}.{rest}"] = value
    patcher = patcher_of(original_unet(tiny.unet("sd15")))
    loaded = model_from_comfyui(patcher, SimpleNamespace(first_stage_model=holder(weights))).autoencoder
    assert loaded.scaling == 1
    assert all(torch.equal(loaded.module.state_dict()[name], value) for name, value in made.state_dict().items())


def test_a_whole_autoencoder_is_whole_whatever_its_name(tmp_path) -> None:
    made = tiny.kl()
    save_file(original_autoencoder(made), tmp_path / "autoencoder.safetensors")
    loaded = load_autoencoder_file(tmp_path / "autoencoder.safetensors", Family.SD15).module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in made.state_dict().items())
    save_file(made.state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(AssetError, match="in diffusers' layout without its config"):
        load_autoencoder_file(tmp_path / "vae.safetensors", Family.SD15)


def test_a_file_with_code_in_it_is_not_said_to_be_damaged_alone(tmp_path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callbacks": SimpleNamespace()}, tmp_path / "old.ckpt")
    with pytest.raises(AssetError, match="old.ckpt cannot be read") as caught:
        read_weights(tmp_path / "old.ckpt")
    assert "use a .safetensors file" in caught.value.hint
