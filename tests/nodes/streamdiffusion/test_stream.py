"""Whole streams on tiny random models that are loaded from disk by the code that loads real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from frames import picture, settings_for

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.core import Guidance, Schedule, ScheduleKind, slot_noise
from comfystream_nodes.streamdiffusion.core.schedule import alphas_cumprod
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.preprocess import pictures_of
from comfystream_nodes.streamdiffusion.settings import Similarity
from comfystream_nodes.streamdiffusion.stream import Stream

NONE = Guidance.of("none", 1.0, 1.0)
MODES = ["none", "full", "self", "initialize"]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_family_in_every_mode(models, family: str, mode: str) -> None:
    model = models[family]
    assert model.family == family
    stream = Stream(model, settings_for(model, guidance=Guidance.of(mode, 1.4, 0.7)))
    out = [stream.process(picture(i)) for i in range(3)]
    assert all(one.shape == (1, 64, 64, 3) and torch.isfinite(one).all() for one in out)
    assert not torch.equal(out[1], out[2])


def by_hand(model, settings, image: torch.Tensor) -> torch.Tensor:
    """One frame through encoder, every step and decoder, written down plainly; no guidance."""
    z = model.autoencoder.module.encode(image.movedim(-1, 1) * 2 - 1).latents
    noise, kept = slot_noise(2, len(settings.steps), tuple(z.shape[1:])), alphas_cumprod()
    added = None
    if model.family == "sdxl":
        size = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
        added = {"text_embeds": settings.prompt.pooled, "time_ids": size}
    for slot, index in enumerate(settings.steps):
        t = settings.schedule.timesteps()[index]
        alpha, sigma = kept[t].sqrt(), (1 - kept[t]).sqrt()
        x = alpha * z + sigma * noise[slot]
        e = model.unet(x, torch.tensor([t]), settings.prompt.tokens, added_cond_kwargs=added).sample
        if model.predicts_velocity:
            e = alpha * e + sigma * x
        z = (x - sigma * e) / alpha
    return (model.autoencoder.module.decode(z).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("steps", [(0,), (16, 32, 45)])
def test_the_picture_is_that_of_a_plain_loop(models, family: str, steps: tuple[int, ...]) -> None:
    model = models[family]
    settings = settings_for(model, steps=steps, guidance=NONE, schedule=Schedule(ScheduleKind.TURBO, 50))
    stream = Stream(model, settings)
    made = [stream.process(picture(i)) for i in range(4)]
    for number in range(4 - stream.delay_frames):
        wanted = by_hand(model, settings, picture(number))
        assert (made[number + stream.delay_frames] - wanted).abs().max() < 2e-4


def test_a_model_that_predicts_velocity(tmp_path) -> None:
    model = load_folder(tiny.write_folder(tmp_path / "v", "sd21", prediction_type="v_prediction"))
    assert model.predicts_velocity
    settings = settings_for(model, steps=(20,), guidance=NONE)
    assert (Stream(model, settings).process(picture()) - by_hand(model, settings, picture())).abs().max() < 2e-4


def test_a_model_whose_noise_levels_end_with_noise_alone(tmp_path) -> None:
    told = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    model = load_folder(tiny.write_folder(tmp_path / "zero", "sdxl", **told))
    assert model.is_zero_terminal
    settings = settings_for(model, steps=(0,), guidance=NONE, schedule=model.schedule_of(50))
    values = settings.schedule.tables((0,))
    x = values.sigma * slot_noise(2, 1, (4, 8, 8))  # 2**-12 of the picture is left, which does not show
    added = {"text_embeds": settings.prompt.pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}
    v = model.unet(x, values.timesteps, settings.prompt.tokens, added_cond_kwargs=added).sample
    wanted = (model.autoencoder.module.decode(-v).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    assert (Stream(model, settings).process(picture()) - wanted).abs().max() < 5e-3
    with pytest.raises(ConfigError, match="begins with noise alone, where self guidance says nothing"):
        Stream(model, replace(settings, guidance=Guidance.of("self", 1.2, 1.0)))
    later = replace(settings, steps=(1,), guidance=Guidance.of("self", 1.2, 1.0))
    assert torch.isfinite(Stream(model, later).process(picture())).all()


def test_trailing_spacing_is_turbo(tmp_path) -> None:
    assert load_folder(tiny.write_folder(tmp_path / "t", timestep_spacing="trailing")).schedule is ScheduleKind.TURBO


def test_without_the_batch_there_is_no_delay(models) -> None:
    model = models["sd15"]
    for mode in MODES:
        settings = settings_for(model, steps=(20, 40), guidance=Guidance.of(mode, 1.4, 0.7))
        batched, plain = Stream(model, settings), Stream(model, replace(settings, is_batched=False))
        assert (batched.delay_frames, plain.delay_frames) == (1, 0)
        made = [batched.process(picture(i)) for i in range(3)]
        for number in range(2):
            assert (made[number + 1] - plain.process(picture(number))).abs().max() < 1e-3


def test_a_prompt_holds_from_the_next_frame_on(models) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE)
    stream = Stream(model, base)
    before = stream.process(picture())
    assert torch.equal(stream.process(picture()), before)
    stream.settings = replace(base, prompt=model.prompts.encode("a dog"))
    after = stream.process(picture())
    other = Stream(model, stream.settings).process(picture())
    assert (after - other).abs().max() < 1e-5
    assert (after - before).abs().max() > 1e-3


def test_a_prompt_comes_in_over_some_frames(models) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE)
    stream = Stream(model, base)
    first = stream.process(picture())
    stream.settings = replace(base, prompt=model.prompts.encode("a dog"), transition_frames=4)
    way = [stream.process(picture()) for _ in range(5)]
    end = Stream(model, stream.settings).process(picture())
    distance = [float((one - end).abs().mean()) for one in (first, *way)]
    assert distance[:5] == sorted(distance[:5], reverse=True)
    assert distance[4] == pytest.approx(0, abs=1e-5)
    assert distance[1] > 0


def test_a_seed_comes_in_over_some_frames(models) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE)
    stream = Stream(model, base)
    stream.process(picture())
    stream.settings = replace(base, seeds=((9, 1.0),), transition_frames=3)
    way = [stream.process(picture()) for _ in range(4)]
    end = Stream(model, stream.settings).process(picture())
    assert (way[0] - end).abs().max() > 1e-3
    assert (way[2] - end).abs().max() < 1e-5


def test_steps_mode_and_size_change_while_it_runs(models) -> None:
    model = models["sdxl"]
    base = settings_for(model)
    stream = Stream(model, base)
    for change in (
        {"steps": (16, 32, 45)},
        {"guidance": Guidance.of("full", 2.0, 1.0)},
        {"guidance": Guidance.of("initialize", 1.5, 0.5), "steps": (45,)},
        {"size": (96, 64)},
        {"is_batched": False},
        {"steps": (20, 30), "is_batched": True, "frames": 2},
    ):
        stream.settings = replace(base, **change)
        made = stream.process(picture(1))
        assert torch.isfinite(made).all()
        width, height = change.get("size", (64, 64))
        assert made.shape == (1, height, width, 3)


def test_bad_settings_leave_the_stream_as_it_is(models) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20, 40), guidance=NONE)
    stream, twin = Stream(model, base), Stream(model, base)
    stream.process(picture(0))
    twin.process(picture(0))
    stream.settings = replace(base, steps=(20, 70))
    with pytest.raises(ConfigError, match="t_index_list holds 70, which is out of range"):
        stream.process(picture(1))
    stream.settings = base
    assert torch.equal(stream.process(picture(1)), twin.process(picture(1)))


def test_frames_in_groups_come_out_in_order(models) -> None:
    model = models["sd15"]
    settings = settings_for(model, steps=(40,), guidance=NONE, frames=2)
    single = Stream(model, replace(settings, frames=1))
    stream = Stream(model, settings)
    assert stream.delay_frames == 1
    made = [stream.process(picture(i)) for i in range(7)]
    wanted = [single.process(picture(i)) for i in range(7)]
    for number in range(5):
        assert (made[number + 2] - wanted[number + 1]).abs().max() < 1e-4
    both = torch.cat([picture(0), picture(1)])
    assert (Stream(model, settings).process(both) - torch.cat(wanted[:2])).abs().max() < 1e-4


def test_a_still_scene_is_not_computed_but_a_new_prompt_is(models) -> None:
    model = models["sd15"]
    base = settings_for(model, steps=(20,), guidance=NONE, similarity=Similarity(0.98, 3))
    stream = Stream(model, base)
    made = [stream.process(picture()) for _ in range(4)]
    assert stream.skipped == 3
    assert all(torch.equal(one, made[0]) for one in made)
    stream.settings = replace(base, prompt=model.prompts.encode("a dog"))
    assert not torch.equal(stream.process(picture()), made[0])
    assert stream.skipped == 3


def test_a_size_that_the_model_cannot_take_is_rounded(models) -> None:
    stream = Stream(models["sd15"], settings_for(models["sd15"]))
    assert stream.process(torch.rand(1, 61, 75, 3)).shape == (1, 64, 72, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_pictures_are_scaled_in_any_precision_and_kept_apart_from_what_came(dtype: torch.dtype) -> None:
    came = torch.full((1, 3, 48, 48), 0.25).movedim(1, -1)  # as nodes give it that work with channels first
    same, smaller = (pictures_of(came, size, torch.device("cpu"), dtype) for size in ((48, 48), (24, 16)))
    came.fill_(1)
    assert (same.shape, smaller.shape) == ((1, 3, 48, 48), (1, 3, 16, 24))
    assert same.dtype == smaller.dtype == dtype
    torch.testing.assert_close(same.float(), torch.full_like(same, 0.25).float())
    torch.testing.assert_close(smaller.float(), torch.full_like(smaller, 0.25).float(), atol=1e-3, rtol=0)
