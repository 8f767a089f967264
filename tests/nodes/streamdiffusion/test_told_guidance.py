"""UNets that were distilled with guidance, as LCM's own are: they are told its scale, which is no second row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fake_recording import FakeTickGraphs
from frames import picture, settings_for
from safetensors.torch import save_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import original_layout
import tiny
from diffusers import LatentConsistencyModelPipeline

from comfystream.accel.accelerate import How
from comfystream.accel.backend import BuildOptions
from comfystream.accel.cache import EngineCache
from comfystream.accel.registry import backends
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.core import slot_noise
from comfystream_nodes.streamdiffusion.core.guidance import embedded_scale
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.loading.single_file import load_single_file
from comfystream_nodes.streamdiffusion.sampler_node import StreamDiffusionSampler
from comfystream_nodes.streamdiffusion.stream import Stream

MODES = ("none", "full", "self", "initialize")
WIDTH = 256


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """SD 1.5 and SDXL, whose UNets take the scale."""
    made = {}
    for family in ("sd15", "sdxl"):
        folder = tiny.write_folder(tmp_path_factory.mktemp("told") / family, family)
        tiny.unet(family, time_cond_proj_dim=WIDTH).save_pretrained(folder / "unet")
        made[family] = load_folder(folder)
    return made


def by_diffusers(scale: float, width: int = WIDTH) -> torch.Tensor:
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), width)


@pytest.mark.parametrize("width", [32, 255, 256])
def test_the_scale_is_embedded_as_the_models_were_trained(width: int) -> None:
    for scale in (1.0, 1.1, 7.5, 8.5, 14.0):
        torch.testing.assert_close(embedded_scale(scale, width), by_diffusers(scale, width), atol=2e-4, rtol=0)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_picture_is_that_of_a_plain_loop_that_tells_the_scale(told, family: str) -> None:
    model, image = told[family], picture()
    settings = settings_for(model, steps=(20,), guidance=model.guidance("self", 8.5, 1.0))
    z = model.autoencoder.module.encode(image.movedim(-1, 1) * 2 - 1).latents
    values = settings.schedule.tables((20,))
    x = values.alpha * z + values.sigma * slot_noise(2, 1, tuple(z.shape[1:]))
    added = None
    if family == "sdxl":
        size = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
        added = {"text_embeds": settings.prompt.pooled, "time_ids": size}
    given = {"timestep_cond": by_diffusers(8.5), "added_cond_kwargs": added}
    e = model.unet(x, values.timesteps, settings.prompt.tokens, **given).sample
    x0 = values.c_out * (x - values.sigma * e) / values.alpha + values.c_skip * x
    wanted = (model.autoencoder.module.decode(x0).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(Stream(model, settings).process(image), wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_no_kind_of_guidance_costs_a_row(told, models, mode: str) -> None:
    model = told["sd15"]
    stream = Stream(model, settings_for(model, steps=(20, 40), guidance=model.guidance(mode, 8.5, 0.7)))
    assert stream.settings.row_counts() == (2,)
    none = Stream(model, settings_for(model, steps=(20, 40), guidance=model.guidance("none", 8.5, 1.0)))
    for number in range(3):
        assert torch.equal(stream.process(picture(number)), none.process(picture(number)))
    other = models["sd15"].guidance(mode, 8.5, 0.7)
    assert (other.mode, other.rows(2)) == (mode, {"none": 2, "full": 4, "self": 2, "initialize": 3}[mode])


@pytest.mark.parametrize("backend", [None, "eager", "recorded"])
def test_another_scale_holds_from_the_next_frame_on(told, backend: str | None) -> None:
    model = told["sd15"]
    graphs = FakeTickGraphs()
    known = {"cuda-graph": graphs}
    used = model if backend is None else accelerated(model, "eager")
    if backend == "recorded":
        used = accelerated(model, "cuda-graph", known=known)
    base = settings_for(model, steps=(20,), guidance=model.guidance("self", 3.0, 1.0))
    stream = Stream(used, base)
    weak = stream.process(picture())
    assert torch.equal(stream.process(picture()), weak)
    recorded = len(graphs.recordings)
    for scale in (8.5, 1.0, 3.0):
        stream.settings = replace(base, guidance=model.guidance("self", scale, 1.0))
        made, wanted = stream.process(picture()), Stream(model, stream.settings).process(picture())
        torch.testing.assert_close(made, wanted, atol=2e-5, rtol=1e-4)
        assert ((made - weak).abs().max() > 1e-3) == (scale != 3.0)
    assert len(graphs.recordings) == recorded


def test_the_node_tells_it(told) -> None:
    model, node = told["sd15"], StreamDiffusionSampler()
    prompt = model.prompts.encode("a cat")
    given = {"t_index_list": "20", "num_inference_steps": 50, "cfg_type": "self", "delta": 1.0, "seed": 2}
    for scale in (8.5, 4.0):
        (made,) = node.sample(model, picture(), prompt, guidance_scale=scale, **given)
        settings = settings_for(model, steps=(20,), guidance=model.guidance("none", scale, 1.0))
        torch.testing.assert_close(made, Stream(model, replace(settings, prompt=prompt)).process(picture()))


@pytest.mark.parametrize("prefix", ["time_embed", "time_embedding"])
def test_a_single_file_says_it_by_its_weights(told, tmp_path, prefix: str) -> None:
    """Files that were converted from diffusers' layout have kept its name for what the original has not."""
    model = told["sd15"]
    weights = {f"model.diffusion_model.{name}": v for name, v in original_layout.original_unet(model.unet).items()}
    kept = weights.pop("model.diffusion_model.time_embed.cond_proj.weight")
    weights[f"model.diffusion_model.{prefix}.cond_proj.weight"] = kept
    save_file(weights, tmp_path / "lcm.safetensors")
    save_file(model.autoencoder.module.state_dict(), tmp_path / "taesd.safetensors")
    loaded = load_single_file(tmp_path / "lcm.safetensors", [], tmp_path / "taesd.safetensors")
    assert loaded.guidance_width == WIDTH
    assert torch.equal(loaded.unet.time_embedding.cond_proj.weight, model.unet.time_embedding.cond_proj.weight)


@pytest.mark.long
def test_an_engine_takes_it_as_an_input(told, tmp_path) -> None:
    can = backends()["onnxruntime"].probe()
    if not (can.can_run and can.can_build):
        pytest.skip(f"onnxruntime NOT RUN: {can.reason}")
    model = told["sdxl"]
    how = How(cache=EngineCache(tmp_path), options=BuildOptions(exporter="legacy"))
    fast = accelerated(model, "onnxruntime", how=how)
    base = settings_for(model, steps=(20, 40), guidance=model.guidance("self", 8.5, 1.0))
    one, two = Stream(model, base), Stream(fast, base)
    for scale in (8.5, 3.0):
        one.settings = two.settings = replace(base, guidance=model.guidance("self", scale, 1.0))
        torch.testing.assert_close(two.process(picture()), one.process(picture()), atol=2e-3, rtol=1e-3)
