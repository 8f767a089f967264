"""Backends run the networks of a stream: the same pictures as PyTorch as it is, whatever the stream does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from frames import picture, settings_for
from live_graph import Live, graph_of

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.accel.accelerate import How
from comfystream.accel.backend import BuildOptions
from comfystream.accel.cache import EngineCache
from comfystream.accel.registry import backends
from comfystream.errors import ConfigError, EngineError
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt, style_of
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.stream import Stream

MODES = ("none", "full", "self", "initialize")
NONE = Guidance.of("none", 1.0, 1.0)


@pytest.fixture(scope="session")
def engines(tmp_path_factory) -> Path:
    """Engines that the tests of this run share: what has the same weights is built once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def how(engines) -> How:
    return How(cache=EngineCache(engines), options=BuildOptions(exporter="legacy"))


@pytest.fixture(scope="module")
def nets():
    return [ControlModel(f"net{seed}", tiny.controlnet("sd15", seed)) for seed in (5, 6)]


@pytest.fixture(scope="module")
def styled(tmp_path_factory, models):
    folder = tmp_path_factory.mktemp("adapter")
    tiny.write_ip_adapter(folder / "adapter.safetensors", models["sd15"].unet)
    tiny.image_encoder().save_pretrained(folder / "encoder")
    return add_image_prompt(models["sd15"], str(folder / "adapter.safetensors"), str(folder / "encoder"))


def needs(backend: str) -> None:
    can = backends()[backend].probe()
    if not (can.can_run and can.can_build):
        pytest.skip(f"{backend} NOT RUN: {can.reason}")


def same(model, fast, settings, frames: int = 4) -> None:
    one, two = Stream(model, settings), Stream(fast, settings)
    for number in range(frames):
        torch.testing.assert_close(two.process(picture(number)), one.process(picture(number)), atol=2e-3, rtol=1e-3)


# --- the same pictures, by each backend that runs here


@pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=pytest.mark.long)])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_guidance_and_number_of_steps(models, how, family: str, backend: str) -> None:
    """Also defect 5: SDXL hears its pooled text and sizes, by an engine too."""
    needs(backend)
    model = models[family]
    fast = accelerated(model, backend, max_rows=8, how=how)
    for mode in MODES:
        for steps in ((20,), (10, 20, 32, 45)):
            same(model, fast, settings_for(model, steps=steps, guidance=Guidance.of(mode, 1.4, 0.7)))


@pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=pytest.mark.long)])
def test_in_turn_and_several_frames_at_a_time(models, how, backend: str) -> None:
    needs(backend)
    model = models["sd15"]
    fast = accelerated(model, backend, max_rows=8, how=how)
    for mode in MODES:
        same(model, fast, settings_for(model, steps=(20, 40), guidance=Guidance.of(mode, 1.4, 0.7), is_batched=False))
    same(model, fast, settings_for(model, steps=(20, 40), guidance=NONE, frames=2), frames=5)


@pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=pytest.mark.long)])
def test_controls_come_go_and_change_their_strength(models, nets, how, backend: str) -> None:
    """Residuals and strengths are inputs: the same engines, with one net, with two, and with none."""
    needs(backend)
    model = models["sd15"]
    fast = accelerated(model, backend, takes_controls=True, how=how)
    base = settings_for(model, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    one, two = Stream(model, base), Stream(fast, base)
    for controls in ((), (nets[0],), tuple(nets), ()):
        for strength in (0.4, 1.0, 0.0):
            used = tuple(Control(net, strength, "soft_edge") for net in controls)
            one.settings, two.settings = (replace(base, controls=used),) * 2
            two.prepare(picture())  # a net that is new has its engine built beside; here it is waited for
            torch.testing.assert_close(two.process(picture()), one.process(picture()), atol=2e-3, rtol=1e-3)
    control = (Control(nets[0], 1.0, "soft_edge"),)
    full = replace(base, controls=control, guidance=Guidance.of("full", 1.5, 1))
    same(model, fast, replace(full, is_batched=False))
    same(model, fast, full)


def test_two_nets_of_one_name_are_two(models, how) -> None:
    model = models["sd15"]
    twins = [ControlModel("net", tiny.controlnet("sd15", seed)) for seed in (5, 6)]
    fast = accelerated(model, "eager", how=how)
    same(model, fast, settings_for(model, controls=tuple(Control(net, 0.8) for net in twins)))


@pytest.mark.long
def test_controls_of_sdxl(models, how) -> None:
    needs("onnxruntime")
    model, net = models["sdxl"], ControlModel("xl", tiny.controlnet("sdxl"))
    settings = settings_for(model, guidance=Guidance.of("full", 1.5, 0.8), controls=(Control(net, 1.0),))
    same(model, accelerated(model, "onnxruntime", how=how), settings)


@pytest.mark.parametrize("backend", ["eager", pytest.param("onnxruntime", marks=pytest.mark.long)])
def test_the_strength_of_a_style_is_an_input_per_layer(styled, how, backend: str) -> None:
    needs(backend)
    fast = accelerated(styled, backend, how=how)
    base = settings_for(styled, steps=(20, 40), guidance=Guidance.of("full", 1.5, 1.0))
    style = style_of(styled, torch.rand(1, 50, 70, 3), 0.8)
    one, two = Stream(styled, base), Stream(fast, base)
    made = []
    for used in (None, style, replace(style, scale=1.5), replace(style, weight_type="ease in"), None):
        one.settings, two.settings = (replace(base, style=used),) * 2
        made.append(two.process(picture()))
        torch.testing.assert_close(made[-1], one.process(picture()), atol=2e-3, rtol=1e-3)
    assert all((one - two).abs().max() > 1e-3 for one, two in zip(made, made[1:], strict=False))


@pytest.mark.long
def test_a_lora_is_merged_before_the_export_and_in_the_key(models, how, engines, tmp_path) -> None:
    """Defects 1 and 9: an engine is found by what it is made of, not by a name, a file that exists or an address."""
    needs("onnxruntime")
    model = models["sd15"]
    lora = tiny.write_lora(tmp_path / "style.safetensors")
    settings = settings_for(model, steps=(20,), guidance=NONE)

    def units() -> int:
        return sum(entry.label == "unet" for entry in EngineCache(engines).entries())

    before = units()
    made = {}
    for strength in (0.5, 0.6, 0.5):
        own = with_lora(model, lora, strength)
        fast = accelerated(own, "onnxruntime", max_rows=1, how=how)
        used = replace(settings, prompt=own.prompts.encode("a cat"))
        made[strength] = Stream(fast, used).process(picture())
        torch.testing.assert_close(made[strength], Stream(own, used).process(picture()), atol=2e-3, rtol=1e-3)
    assert units() == before + 2
    newest = next(entry for entry in EngineCache(engines).entries() if entry.label == "unet")
    assert newest.meta["key"]["loras"] == [["style.safetensors", "", 0.5]]
    later = with_lora(accelerated(model, "onnxruntime", max_rows=1, how=how), lora, 0.6)
    used = replace(settings, prompt=later.prompts.encode("a cat"))
    assert torch.equal(Stream(later, used).process(picture()), made[0.6])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_by_the_inductor(styled, nets, how) -> None:
    """Its compiler takes a minute per network, so all is in one stream: style, ControlNet, steps that change."""
    needs("inductor")
    fast = accelerated(styled, "inductor", max_rows=3, how=how)
    style = style_of(styled, torch.rand(1, 32, 32, 3), 0.8)
    base = settings_for(styled, guidance=NONE, style=style, controls=(Control(nets[0], 0.7),))
    one, two = Stream(styled, base), Stream(fast, base)
    two.prepare(picture())
    for change in ({"steps": (20,)}, {"steps": (16, 32, 45)}, {"style": None}, {"controls": ()}):
        one.settings = two.settings = replace(base, **change)
        two.prepare(picture())
        torch.testing.assert_close(two.process(picture()), one.process(picture()), atol=5e-3, rtol=1e-3)


# --- through the graph, as the engine runs it


def graph_with(folder: Path, tmp_path: Path, backend: str, nets: int = 0, **sampler) -> dict:
    graph = graph_of(folder, **sampler)
    graph["model"]["inputs"]["acceleration"] = backend

    def node(cls: str, **inputs) -> dict:
        return {"class_type": cls, "inputs": inputs}

    for number in range(nets):
        path = tmp_path / f"net{number}"
        tiny.controlnet("sd15", 5 + number).save_pretrained(path)
        graph[f"net{number}"] = node("StreamDiffusionLoadControlNet", model=["model", 0], controlnet=str(path))
        before = {"controls": [f"use{number - 1}", 0]} if number else {}
        given = {"controlnet": [f"net{number}", 0], "scale": 0.7, "preprocessor": "canny", **before}
        graph[f"use{number}"] = node("StreamDiffusionControl", **given)
    if nets:
        graph["stream"]["inputs"]["controls"] = [f"use{nets - 1}", 0]
    return graph


def with_additions(graph: dict, tmp_path: Path) -> dict:
    """A LoRA, an IP-Adapter and a style picture between loader and sampler."""
    tiny.write_lora(tmp_path / "style.safetensors")
    tiny.write_ip_adapter(tmp_path / "adapter.safetensors", tiny.unet("sd15"))
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")

    def node(cls: str, **inputs) -> dict:
        return {"class_type": cls, "inputs": inputs}

    lora = node("StreamDiffusionLoRA", model=["model", 0], lora=str(tmp_path / "style.safetensors"), strength=0.8)
    adapter = node(
        "StreamDiffusionIPAdapter",
        model=["lora", 0],
        adapter=str(tmp_path / "adapter.safetensors"),
        image_encoder=str(tmp_path / "encoder"),
    )
    style = node("StreamDiffusionStyle", model=["adapter", 0], image=["still", 0], scale=0.9, weight_type="ease in-out")
    still = node("EmptyImage", width=32, height=32, batch_size=1, color=0x8040F0)
    graph |= {"lora": lora, "adapter": adapter, "style": style, "still": still}
    graph["prompt"]["inputs"]["model"] = ["adapter", 0]
    graph["stream"]["inputs"] |= {"model": ["adapter", 0], "style": ["style", 0]}
    return graph


def pictures_of(graph: dict, tmp_path: Path) -> list[np.ndarray]:
    live = Live(graph, tmp_path)
    live.send(3)
    made = live.end()
    assert [event for event in live.events if type(event).__name__ == "NodeFailed"] == []
    return made


KINDS = {
    "one step": {"t_index_list": "20", "cfg_type": "none"},
    "four steps": {"t_index_list": "10,20,32,45", "cfg_type": "self"},
    "full": {"cfg_type": "full"},
    "initialize": {"cfg_type": "initialize"},
    "two nets": {"nets": 2},
    "additions": {"cfg_type": "full"},
    "sdxl": {"cfg_type": "full", "t_index_list": "20"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["auto", pytest.param("onnxruntime", marks=pytest.mark.long)])
def test_a_graph_gives_the_same_pictures(
    tmp_path, model_folders, engines, monkeypatch, kind: str, backend: str
) -> None:
    if backend != "auto":
        needs(backend)
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(engines))
    folder = model_folders["sdxl" if kind == "sdxl" else "sd15"]
    made = []
    for acceleration in ("none", backend):
        graph = graph_with(folder, tmp_path, acceleration, **KINDS[kind])
        made.append(pictures_of(with_additions(graph, tmp_path) if kind == "additions" else graph, tmp_path))
    for plain, fast in zip(*made, strict=True):
        assert np.abs(plain.astype(int) - fast.astype(int)).max() <= 1
    assert made[0][0].std() > 1


def test_auto_says_what_it_chose(tmp_path, model_folders) -> None:
    live = Live(graph_with(model_folders["sd15"], tmp_path, "auto"), tmp_path)
    live.end()
    said = [event for event in live.events if getattr(event, "message", "")]
    assert any(event.node_id == "model" and event.message.startswith("auto chose ") for event in said)


@pytest.mark.long
def test_the_accelerate_node_builds_before_a_frame_comes(tmp_path, model_folders, engines, monkeypatch) -> None:
    needs("onnxruntime")
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "own"))
    graph = graph_of(model_folders["sd15"], t_index_list="20", cfg_type="none")
    live = Live(graph, tmp_path)
    live.send(1)
    inputs = {"model": ["model", 0], "acceleration": "onnxruntime", "max_rows": 1, "width": 64, "height": 64}
    live.graph = json.loads(json.dumps(graph))
    live.graph["fast"] = {"class_type": "StreamDiffusionAccelerate", "inputs": inputs}
    live.edit(stream={"model": ["fast", 0]}, prompt={"model": ["fast", 0]})
    said = [event.message for event in live.events if getattr(event, "message", "")]
    assert any(text.startswith("building engine 1/3 (vae_encoder)") for text in said)
    assert any(text.startswith("building engine 3/3 (vae_decoder)") for text in said)
    said.clear()
    live.send(2)
    first, *rest = live.end()
    assert live.failed == 0
    assert all(np.abs(first.astype(int) - one.astype(int)).max() <= 1 for one in rest)


def test_too_many_rows_name_the_node_and_the_stream_goes_on(tmp_path, model_folders) -> None:
    graph = graph_of(model_folders["sd15"], t_index_list="20,40", cfg_type="none")
    graph["fast"] = {
        "class_type": "StreamDiffusionAccelerate",
        "inputs": {"model": ["model", 0], "acceleration": "eager", "max_rows": 2},
    }
    graph["stream"]["inputs"]["model"] = ["fast", 0]
    live = Live(graph, tmp_path)
    live.send(2)
    live.edit(stream={"t_index_list": "16,32,45"})
    live.send(2)
    live.end()
    failed = next(event for event in live.events if type(event).__name__ == "NodeFailed")
    assert failed.node_id == "stream"
    assert "need 3 rows, but the model is accelerated (eager) for up to 2" in failed.message
    assert "raise max_rows" in failed.hint
    assert any(type(event).__name__ == "RolledBack" for event in live.events)
    assert live.failed == 1


# --- refusals that need no graph


def test_a_range_that_is_none_says_so(models) -> None:
    for wrong, said in (
        ({"max_rows": 2, "min_rows": 3}, "3 to 2 rows"),
        ({"sizes": (500, 400)}, "sizes from 500 to 400"),
        ({"precision": "fp8"}, "precision 'fp8' is unknown"),
    ):
        with pytest.raises(ConfigError, match=said):
            accelerated(models["sd15"], "eager", **wrong)


def test_a_size_outside_of_the_range_says_so(models, how) -> None:
    fast = accelerated(models["sd15"], "eager", sizes=(64, 128), how=how)
    stream = Stream(fast, settings_for(fast))
    for side in (64, 128, 64):
        assert stream.process(picture(0, side)).shape == (1, side, side, 3)
    with pytest.raises(EngineError, match="192"):
        stream.process(picture(0, 192))
    assert stream.process(picture(1)).shape == (1, 64, 64, 3)
