"""Nine things that existing implementations get wrong, each as a test that ours gets right."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import pytest
import torch
from fake_backends import only_absent
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.accel.accelerate import How
from comfystream.accel.cache import EngineCache
from comfystream.accel.eager import EagerBackend
from comfystream.accel.key import digest_of_module
from comfystream.errors import EngineError
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.core import Guidance
from comfystream_nodes.streamdiffusion.existing_nodes import ControlNetTRTStreamingSampler
from comfystream_nodes.streamdiffusion.lora import with_lora
from comfystream_nodes.streamdiffusion.sampler_node import StreamDiffusionSampler
from comfystream_nodes.streamdiffusion.settings import StreamSettings
from comfystream_nodes.streamdiffusion.stream import Stream
from comfystream_nodes.streamdiffusion.text import blend_embeddings


def test_1_an_engine_of_another_lora_or_strength_is_another_engine(tmp_path, models) -> None:
    """Engines are found by the weights that they are built of and by what was merged, never by a model's name."""
    model = models["sd15"]
    lora = tiny.write_lora(tmp_path / "style.safetensors")
    weak, strong, again = (with_lora(model, lora, strength) for strength in (0.5, 0.6, 0.5))
    said = [(digest_of_module(one.unet), one.loras) for one in (model, weak, strong, again)]
    assert len(set(said)) == 3
    assert said[1] == said[3]
    assert weak.prompts is not model.prompts  # nothing that was encoded without the LoRA is found with it


def test_2_a_backend_that_does_not_work_raises(models, tmp_path) -> None:
    """Neither at the choice nor at the build is another backend taken in its place."""
    with pytest.raises(EngineError, match=r"the backend tensorrt does not work here.*pip install tensorrt"):
        accelerated(models["sd15"], "tensorrt", known=only_absent())
    with pytest.raises(EngineError, match='no backend "tensorrd".*did you mean "tensorrt"'):
        accelerated(models["sd15"], "tensorrd")

    class Broken(EagerBackend):
        name, plan_name = "broken", "plan.broken"

        def make(self, *_):
            raise EngineError("the engine could not be built", code="build_failed")

    how = How(cache=EngineCache(tmp_path))
    model = accelerated(models["sd15"], "broken", how=how, known={"broken": Broken(), "eager": EagerBackend()})
    with pytest.raises(EngineError, match="could not be built"):
        Stream(model, settings_for(model)).process(picture())


def test_3_another_layout_has_other_buffers_and_the_old_ones_are_not_written(models) -> None:
    """What captured the old buffers replays on memory that nobody else uses, never on freed memory."""
    model = models["sd15"]
    base = settings_for(model, steps=(20, 40), guidance=Guidance.of("none", 1, 1))
    stream = Stream(model, base)
    stream.process(picture())
    old = stream._batch._model_in
    content = old.clone()
    stream.settings = replace(base, steps=(16, 32, 45))
    stream.process(picture(1))
    assert stream._batch._model_in.data_ptr() != old.data_ptr()
    assert torch.equal(old, content)


def test_4_a_tick_reads_nothing_back(models, monkeypatch) -> None:
    """No value goes from the device to Python in a running stream: that would wait for the device."""
    model = models["sdxl"]
    stream = Stream(model, settings_for(model, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7)))
    stream.process(picture())

    def forbidden(self, *args, **kwargs):
        raise AssertionError("a tick waited for the device")

    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    made = stream.process(picture(1))
    monkeypatch.undo()
    assert torch.isfinite(made).all()


def test_5_sdxl_hears_its_pooled_text_and_its_size(models) -> None:
    """Existing engines give it zeros for both."""
    model, heard = models["sdxl"], []
    forward = type(model.unet).forward

    def listening(self, *args, **kwargs):
        heard.append({name: value.clone() for name, value in kwargs["added_cond_kwargs"].items()})
        return forward(self, *args, **kwargs)

    settings = settings_for(model, steps=(20,), guidance=Guidance.of("full", 2.0, 1.0), size=(96, 64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.unet), "forward", listening)
        Stream(model, settings).process(picture())
    assert torch.equal(heard[0]["text_embeds"], torch.cat([settings.negative.pooled, settings.prompt.pooled]))
    assert settings.prompt.pooled.abs().sum() > 0
    assert heard[0]["time_ids"].tolist() == [[64, 96, 0, 0, 64, 96]] * 2


@pytest.mark.parametrize("mode", ["none", "full", "self", "initialize"])
def test_6_a_blended_prompt_has_the_rows_of_its_mode_and_the_pooled_text_follows(models, mode: str) -> None:
    model, heard = models["sdxl"], []
    forward = type(model.unet).forward

    def listening(self, x, times, **kwargs):
        heard.append(
            (len(x), kwargs["encoder_hidden_states"].clone(), kwargs["added_cond_kwargs"]["text_embeds"].clone())
        )
        return forward(self, x, times, **kwargs)

    guidance = Guidance.of(mode, 1.5, 0.7)
    base = settings_for(model, steps=(20, 40), guidance=guidance)
    stream = Stream(model, base)
    stream.process(picture())
    mixed = blend_embeddings([model.prompts.encode("a cat"), model.prompts.encode("a dog")], [1, 1], "slerp")
    stream.settings = replace(base, prompt=mixed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.unet), "forward", listening)
        stream.process(picture(1))
    rows, tokens, pooled = heard[0]
    front = {"full": 2, "initialize": 1}.get(mode, 0)
    assert rows == len(tokens) == len(pooled) == 2 + front == guidance.rows(2)
    for row in range(front, rows):
        assert torch.equal(tokens[row], mixed.tokens[0])
        assert torch.equal(pooled[row], mixed.pooled[0])
    for row in range(front):
        assert torch.equal(pooled[row], base.negative.pooled[0])


def test_7_settings_go_by_name(models) -> None:
    """Nothing shifts when an argument is added: streams take a model and one value, and all its fields have names."""
    assert list(inspect.signature(Stream).parameters) == ["model", "settings"]
    assert [field.name for field in fields(StreamSettings)][0] == "prompt"
    changed = replace(settings_for(models["sd15"]), has_normalised_seeds=False)
    assert (changed.has_normalised_seeds, changed.adds_noise, changed.is_batched) == (False, True, True)


def test_8_a_frame_stays_a_tensor_and_blending_is_an_input(models, monkeypatch) -> None:
    """No way over numpy or PIL; second seed and transitions are inputs of the node."""
    from PIL import Image

    def forbidden(*args, **kwargs):
        raise AssertionError("a frame left its device")

    node, model = StreamDiffusionSampler(), models["sd15"]
    monkeypatch.setattr(Image, "fromarray", forbidden)
    monkeypatch.setattr(torch.Tensor, "numpy", forbidden)
    made = node.sample(model, picture(), model.prompts.encode("a cat"), second_seed=5, second_seed_weight=0.5)[0]
    monkeypatch.undo()
    assert (made.device, made.dtype, made.shape) == (model.device, torch.float32, (1, 64, 64, 3))
    optional = StreamDiffusionSampler.INPUT_TYPES()["optional"]
    assert {"second_seed_weight", "seed_interpolation_method", "transition_frames"} <= set(optional)


def test_9_being_warm_belongs_to_the_stream_not_to_an_address(models) -> None:
    """Two streams of one model, one after the other at what may be the same address: each fills its own slots."""
    model = models["sd15"]
    settings = settings_for(model, steps=(16, 32, 45), guidance=Guidance.of("none", 1, 1))
    first = [Stream(model, settings).process(picture(3)) for _ in range(3)]
    assert all(torch.equal(one, first[0]) for one in first)
    assert ControlNetTRTStreamingSampler().__copy__()._handover.stream is None
