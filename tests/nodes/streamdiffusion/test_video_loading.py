"""Video models from folders and files of every layout, and what is said about those that do not fit."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny
import tiny_video
from safetensors.torch import save_file

from comfystream.errors import AssetError, ConfigError
from comfystream_nodes.streamdiffusion.video import loading
from comfystream_nodes.streamdiffusion.video.loading import (
    load_autoencoder,
    load_text,
    load_transformer,
    load_video_model,
    placed,
    video_dtype_of,
)
from comfystream_nodes.streamdiffusion.video.lora import with_video_lora
from comfystream_nodes.streamdiffusion.video.names import autoencoder_pairs, text_pairs, transformer_pairs
from comfystream_nodes.streamdiffusion.video.pipelines import PIPELINES, pipeline_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_video.write_folder(tmp_path_factory.mktemp("video") / "wan")


@pytest.fixture
def model(folder):
    parts = (folder, folder, "wan", folder / "text_encoder", folder / "tokenizer")
    return load_video_model(pipeline_of("streamdiffusionv2"), *parts)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_a_folder_of_diffusers(folder, model) -> None:
    assert same(model.transformer, tiny_video.transformer())
    assert (model.name, model.autoencoder.kind, model.text.tokens) == ("wan", "wan", 512)
    moved = placed(model, CPU, video_dtype_of("float16", CPU))
    assert {one.dtype for one in moved.transformer.parameters()} == {torch.float16}
    assert moved.text.module.dtype == torch.bfloat16
    assert moved.text.encode("a cat").tokens.dtype == torch.float16


@pytest.mark.parametrize("prefix", ["", "model.", "generator.model.", "generator_ema.model._fsdp_wrapped_module."])
def test_a_checkpoint_of_causal_training(tmp_path, prefix: str) -> None:
    made = tiny_video.transformer()
    weights = tiny_video.original(made.state_dict(), transformer_pairs(2))
    assert {"blocks.0.self_attn.q.weight", "blocks.1.modulation", "head.modulation", "blocks.0.norm3.weight"} <= set(
        weights
    )
    saved = {f"{prefix}{name}": value for name, value in weights.items()}
    if prefix.startswith("generator_ema"):
        saved |= {f"generator.model.{name}": value + 1 for name, value in weights.items()}
        saved["critic.model.head.head.bias"] = torch.zeros(1)
    torch.save(saved, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2, "model_type": "t2v"}))
    found = load_transformer(tmp_path / "model.pt")
    assert same(found, made)
    assert (found.config.num_attention_heads, found.config.attention_head_dim, found.config.ffn_dim) == (2, 12, 48)


def test_the_names_are_those_of_the_published_files() -> None:
    """Diffusers' own conversions, which know these files, find the same."""
    from diffusers.loaders import single_file_utils as known

    transformer, vae = tiny_video.transformer().state_dict(), tiny_video.wan_vae().state_dict()
    for own, pairs, convert in (
        (transformer, transformer_pairs(2), known.convert_wan_transformer_to_diffusers),
        (vae, autoencoder_pairs(4, 2), known.convert_wan_vae_to_diffusers),
    ):
        theirs = tiny_video.original(own, pairs)
        assert set(theirs) != set(own)
        assert all(torch.equal(value, own[name]) for name, value in convert(dict(theirs)).items())
        assert set(convert(dict(theirs))) == set(own)


def test_nested_checkpoints_and_single_safetensors(tmp_path) -> None:
    made = tiny_video.transformer(num_attention_heads=1, attention_head_dim=128, num_layers=1)
    weights = tiny_video.original(made.state_dict(), transformer_pairs(1))
    torch.save({"generator": {f"model.{name}": value for name, value in weights.items()}}, tmp_path / "nested.pt")
    save_file({f"model.diffusion_model.{name}": value for name, value in weights.items()}, tmp_path / "one.safetensors")
    for name in ("nested.pt", "one.safetensors"):
        assert same(load_transformer(tmp_path / name), made)  # heads are of 128 where nothing else is said


def test_wan_s_own_autoencoder_file_and_a_narrower_one(tmp_path) -> None:
    for base in (4, 8):
        vae = tiny_video.wan_vae(base=base)
        weights = tiny_video.original(vae.state_dict(), autoencoder_pairs(4, 2))
        wanted = {"encoder.downsamples.2.resample.1.weight", "decoder.upsamples.4.shortcut.weight", "conv1.weight"}
        wanted |= {"encoder.downsamples.5.time_conv.weight", "decoder.middle.1.to_qkv.bias", "encoder.head.2.weight"}
        assert wanted <= set(weights)
        torch.save(weights, tmp_path / "Wan2.1_VAE.pth")
        found = load_autoencoder(tmp_path / "Wan2.1_VAE.pth", "wan")
        latent = torch.randn(1, 16, 4, 4)
        torch.testing.assert_close(
            found.decoder.run(latent, [None] * found.decoder.places, True),
            load_autoencoder(_saved(vae, tmp_path / str(base)), "wan").decoder.run(
                latent, [None] * found.decoder.places, True
            ),
        )


def _saved(vae, path):
    vae.save_pretrained(path)
    return path


def test_text_of_a_folder_and_of_wan_s_file(folder, tmp_path) -> None:
    text = load_text(folder / "text_encoder", folder / "tokenizer")
    made = tiny_video.text_encoder()
    weights = {name: value for name, value in made.state_dict().items() if "embed_tokens" not in name}
    torch.save(tiny_video.original(weights, text_pairs(2)), tmp_path / "umt5.pth")
    (tmp_path / "config.json").write_text(json.dumps(made.config.to_dict()))
    other = load_text(tmp_path / "umt5.pth", folder / "tokenizer")
    one, two = text.encode("a cat"), text.encode("a dog")
    assert one.tokens.shape == (1, 512, tiny_video.TEXT_WIDTH)
    assert torch.equal(one.tokens, other.encode("a cat").tokens)
    assert (one.tokens[:, :3] - two.tokens[:, :3]).abs().max() > 1e-3
    assert not one.tokens[:, 3:].any(), "what is beyond the text is nothing"
    assert text.encode("a cat") is one, "encoded once"
    assert torch.equal(text.encode(" a&nbsp; cat\n").tokens, one.tokens)
    for _ in range(40):
        text.encode("a " * (_ + 2))
    assert text.encode("a cat") is not one, "the oldest are dropped"


@pytest.mark.parametrize(
    "prefix", ["diffusion_model.", "base_model.model.", "generator_lora.base_model.model.", "transformer."]
)
def test_a_lora_is_merged_whoever_named_it(model, tmp_path, prefix: str) -> None:
    name = "blocks.1.attn1.to_q" if prefix == "transformer." else "blocks.1.self_attn.q"
    changed = with_video_lora(model, tiny_video.write_lora(tmp_path / "style.safetensors", name, prefix=prefix), 0.5)
    torch.manual_seed(11)
    down, up = torch.randn(2, 24), torch.randn(24, 2)
    layer = "blocks.1.attn1.to_q.weight"
    before = model.transformer.get_parameter(layer)
    torch.testing.assert_close(changed.transformer.get_parameter(layer), before + 0.5 * up @ down)
    other = "blocks.0.attn1.to_q.weight"
    assert changed.transformer.get_parameter(other).data_ptr() == model.transformer.get_parameter(other).data_ptr()
    assert changed.loras == (("style.safetensors", 0.5),)
    assert model.loras == ()


def test_files_that_do_not_fit_say_why(folder, model, tmp_path) -> None:
    whole = (folder / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    sd = tmp_path / "sd"
    tiny.unet("sd15").save_pretrained(sd)
    part = {name: value for name, value in tiny_video.transformer().state_dict().items() if "ffn" not in name}
    save_file(part, tmp_path / "part.safetensors")
    for path, said in (
        (cut, "cut.safetensors cannot be read"),
        (sd, "sd is no Wan transformer"),
        (tmp_path / "part.safetensors", "blocks.0.ffn.net.0.proj.weight is missing"),
    ):
        with pytest.raises(AssetError, match=said):
            load_transformer(path)
    with pytest.raises(AssetError, match="tae.pth is no autoencoder of Wan's"):
        load_autoencoder(folder / "tae.pth", "wan")
    with pytest.raises(AssetError, match="is no tiny video autoencoder"):
        load_autoencoder(folder / "vae", "tae")
    with pytest.raises(AssetError, match="vae_type 'light' is unknown"):
        load_autoencoder(folder / "vae", "light")
    with pytest.raises(AssetError, match="is no tokenizer's folder"):
        load_text(None, folder / "vae")
    with pytest.raises(AssetError, match="has no text encoder"):
        load_text(None, folder / "tokenizer").encode("a cat")
    with pytest.raises(AssetError, match="has no tokenizer"):
        load_text(folder / "text_encoder", None).encode("a cat")
    for name, width in (("blocks.7.self_attn.q", 24), ("blocks.1.self_attn.q", 8)):
        foreign = tiny_video.write_lora(tmp_path / "big.safetensors", name, width)
        with pytest.raises(AssetError, match="LoRA big.safetensors is for another architecture than wan"):
            with_video_lora(model, foreign, 1.0)


def test_pipelines() -> None:
    assert {name: made.delay_frames() for name, made in PIPELINES.items()} == {
        "streamdiffusionv2": 3,
        "longlive": 11,
        "reward_forcing": 11,
        "krea_realtime_video": 11,
    }
    shifted = [int(5000 * t / (1 + 4 * t)) for t in (1, 0.75, 0.5, 0.25)]  # as their configurations say
    for name in ("longlive", "reward_forcing", "krea_realtime_video"):
        assert list(PIPELINES[name].text_steps) == shifted
    for made in PIPELINES.values():
        made.window.checked(made.chunk)
        assert made.context + made.chunk <= made.window.frames
        assert all(side % 16 == 0 for side in made.size)
    with pytest.raises(ConfigError, match="pipeline 'memflow' is unknown"):
        pipeline_of("memflow")


@pytest.mark.parametrize(("heads", "layers", "ffn", "millions"), [(12, 30, 8960, 1419), (40, 40, 13824, 14288)])
def test_transformers_of_the_published_sizes(monkeypatch, tmp_path, heads, layers, ffn, millions) -> None:
    """By their shapes alone: Wan 2.1's 1.3B and 14B, which all pipelines are trained from."""
    with torch.device("meta"):
        made = tiny_video.WanTransformer3DModel(num_attention_heads=heads, num_layers=layers, ffn_dim=ffn)
    weights = tiny_video.original(made.state_dict(), transformer_pairs(layers))
    monkeypatch.setattr(loading, "read_weights", lambda path: {f"model.{name}": one for name, one in weights.items()})
    (tmp_path / "model.pt").touch()
    found = load_transformer(tmp_path / "model.pt")
    assert sum(one.numel() for one in found.parameters()) / 1e6 == pytest.approx(millions, abs=1)
    assert (found.config.num_attention_heads, found.config.attention_head_dim) == (heads, 128)


def test_the_text_encoder_of_the_published_size(monkeypatch, tmp_path) -> None:
    """In Wan's folders the config beside it is the transformer's."""
    with torch.device("meta"):
        made = tiny_video.UMT5EncoderModel(tiny_video.UMT5Config(**loading._XXL))
    weights = {name: value for name, value in made.state_dict().items() if "embed_tokens" not in name}
    theirs = tiny_video.original(weights, text_pairs(24))
    assert {"blocks.23.pos_embedding.embedding.weight", "blocks.0.ffn.gate.0.weight", "norm.weight"} <= set(theirs)
    (tmp_path / "models_t5.pth").touch()
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanModel", "dim": 1536, "num_heads": 12}))
    for given in (theirs, {**weights, "spiece_model": torch.zeros(3)}):
        monkeypatch.setattr(loading, "read_weights", lambda path, given=given: given)
        found = load_text(tmp_path / "models_t5.pth", None).module
        assert sum(one.numel() for one in found.parameters()) / 1e9 == pytest.approx(5.68, abs=0.02)
