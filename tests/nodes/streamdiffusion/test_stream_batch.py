"""The batched tick against a plain reference in float64, and changes while frames are on their way."""

from __future__ import annotations

import pytest
import torch
from toy import SHAPE, frames_of, reference, tables, toy_model

from comfystream_nodes.streamdiffusion.core import Guidance, Schedule, StreamBatch, denoise_in_turn, slot_noise
from comfystream_nodes.streamdiffusion.core.batch import Tables

NEAR = 1e-5
TEXT, UNGUIDED = 0.4, -0.7
MODES = ["none", "full", "self", "initialize"]


def model_of(guidance: Guidance, slots: int, frames: int = 1):
    return toy_model(TEXT, UNGUIDED, guidance.unguided_rows(slots, frames))


@pytest.mark.parametrize("adds_noise", [True, False])
@pytest.mark.parametrize("steps", [[45], [32, 45], [0, 16, 32, 45]], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_velocity", [False, True], ids=["noise", "velocity"])
def test_the_batched_tick_equals_the_plain_reference(
    mode: str, steps: list[int], adds_noise: bool, is_velocity: bool
) -> None:
    guidance = Guidance.of(mode, 1.4, 0.7)
    noise = slot_noise(2, len(steps), SHAPE, torch.float64)
    batch = StreamBatch(tables(steps, guidance, adds_noise=adds_noise, is_velocity=is_velocity), noise)
    model, source = model_of(guidance, len(steps)), frames_of(9)
    results = [batch.tick(source[i : i + 1], model)[0].clone() for i in range(9)]
    for number in range(9 - batch.delay_ticks):
        wanted = reference(source[number], steps, noise, guidance, TEXT, UNGUIDED, adds_noise, is_velocity)
        assert (results[number + batch.delay_ticks] - wanted).abs().max() <= NEAR


@pytest.mark.parametrize("mode", MODES)
def test_several_frames_per_slot(mode: str) -> None:
    guidance, steps = Guidance.of(mode, 1.3, 0.9), [20, 35, 45]
    noise = slot_noise(5, 3, SHAPE, torch.float64)
    batch = StreamBatch(tables(steps, guidance, frames=2), noise)
    model, source = model_of(guidance, 3, 2), frames_of(10)
    results = torch.cat([batch.tick(source[i : i + 2], model).clone() for i in range(0, 10, 2)])
    for number in range(6):
        wanted = reference(source[number], steps, noise, guidance, TEXT, UNGUIDED)
        assert (results[number + 4] - wanted).abs().max() <= NEAR


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_velocity", [False, True], ids=["noise", "velocity"])
def test_one_after_the_other_gives_the_same_without_delay(mode: str, frames: int, is_velocity: bool) -> None:
    guidance, steps = Guidance.of(mode, 1.5, 0.8), [16, 32, 45]
    noise, source = slot_noise(7, 3, SHAPE, torch.float64), frames_of(frames)
    doubled = {"full": [0, 1, 2], "initialize": [0]}.get(mode, [])
    models = [toy_model(TEXT, UNGUIDED, frames if slot in doubled else 0) for slot in range(3)]
    made = denoise_in_turn(tables(steps, guidance, frames, is_velocity=is_velocity), noise, source, models)
    for number in range(frames):
        wanted = reference(source[number], steps, noise, guidance, TEXT, UNGUIDED, is_velocity=is_velocity)
        assert (made[number] - wanted).abs().max() <= NEAR


@pytest.mark.parametrize("mode", ["none", "full"])
@pytest.mark.parametrize("is_batched", [True, False])
def test_velocity_holds_where_nothing_of_the_picture_is_left(mode: str, is_batched: bool) -> None:
    """In half precision, at the last timestep of a zero-terminal schedule: the way by the noise divides by 2**-12."""
    guidance, noise, source = Guidance.of(mode, 3.0, 1.0), slot_noise(2, 1, SHAPE), frames_of(1)
    model, made = model_of(guidance, 1), []
    for dtype in (torch.float64, torch.float16):
        values = Schedule(is_zero_terminal=True).tables([0], dtype=dtype)
        told = Tables.make(values, 1, guidance, predicts_velocity=True)
        given = noise.to(dtype), source.to(dtype)
        if is_batched:
            made.append(StreamBatch(told, given[0]).tick(given[1], model).double())
        else:
            made.append(denoise_in_turn(told, *given, [model]).double())
    assert (made[0] - made[1]).abs().max() < 0.02
    assert made[0].abs().max() < 10


def test_guidance_of_one_is_no_guidance() -> None:
    noise, source = slot_noise(1, 2, SHAPE, torch.float64), frames_of(3)
    made = []
    for guidance in (Guidance.of("full", 1.0, 1.0), Guidance.of("none", 3.0, 1.0)):
        assert guidance.rows(2) == 2
        batch = StreamBatch(tables([32, 45], guidance), noise)
        made.append([batch.tick(source[i : i + 1], model_of(guidance, 2)).clone() for i in range(3)])
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_the_first_result_after_filling_is_the_first_frame() -> None:
    guidance, steps = Guidance.of("self", 1.2, 1.0), [16, 32, 45]
    noise, source = slot_noise(1, 3, SHAPE, torch.float64), frames_of(1)
    batch, model = StreamBatch(tables(steps, guidance), noise), model_of(guidance, 3)
    assert not batch.is_warm
    batch.fill(source, model)
    first = batch.tick(source, model)
    assert batch.is_warm
    assert (first[0] - reference(source[0], steps, noise, guidance, TEXT, UNGUIDED)).abs().max() <= NEAR


def ages(batch: StreamBatch, count: int, start: int) -> list[float]:
    """What comes out for frames that are filled with their number, by a model that lets pictures through."""
    out = []
    for number in range(start, start + count):
        frame = torch.full((1, *SHAPE), float(number), dtype=torch.float64)
        values = batch.tables.values

        def exact(x: torch.Tensor, times: torch.Tensor, batch: StreamBatch = batch) -> torch.Tensor:
            return batch._noise  # the very noise that was put on, so that x0 is the picture

        assert len(values.timesteps) == batch.tables.slots
        out.append(round(float(batch.tick(frame, exact).mean()), 3))
    return out


def test_more_steps_keep_every_frame_and_repeat_the_oldest() -> None:
    none = Guidance.of("none", 1, 1)
    batch = StreamBatch(tables([32, 45], none), slot_noise(1, 2, SHAPE, torch.float64))
    assert ages(batch, 4, 10)[1:] == pytest.approx([10, 11, 12], abs=0.01)
    batch.change(tables([16, 24, 32, 45], none), slot_noise(1, 4, SHAPE, torch.float64))
    assert batch.is_warm
    assert ages(batch, 5, 14) == pytest.approx([12, 12, 13, 14, 15], abs=0.01)


def test_fewer_steps_leave_the_oldest_frames_out() -> None:
    none = Guidance.of("none", 1, 1)
    batch = StreamBatch(tables([0, 16, 32, 45], none), slot_noise(1, 4, SHAPE, torch.float64))
    assert ages(batch, 6, 10)[3:] == pytest.approx([10, 11, 12], abs=0.01)
    batch.change(tables([32, 45], none), slot_noise(1, 2, SHAPE, torch.float64))
    assert ages(batch, 3, 16) == pytest.approx([15, 16, 17], abs=0.01)
    batch.change(tables([45], none), slot_noise(1, 1, SHAPE, torch.float64))
    assert ages(batch, 2, 19) == pytest.approx([19, 20], abs=0.01)


def test_other_steps_hold_for_the_frames_on_their_way() -> None:
    """After a change, slot 1 is noised for the new step, not for the old one: equal to the reference per step."""
    none, noise = Guidance.of("none", 1, 1), slot_noise(4, 2, SHAPE, torch.float64)
    source, model = frames_of(3), toy_model(TEXT, UNGUIDED)
    batch = StreamBatch(tables([20, 40], none), noise)
    batch.tick(source[:1], model)
    between = reference(source[0], [20], noise[:1], none, TEXT, UNGUIDED)
    batch.change(tables([25, 30], none))
    wanted = reference(between, [30], noise[1:], none, TEXT, UNGUIDED)
    assert (batch.tick(source[1:2], model)[0] - wanted).abs().max() <= NEAR


def test_another_size_starts_anew() -> None:
    none = Guidance.of("none", 1, 1)
    batch = StreamBatch(tables([32, 45], none), slot_noise(1, 2, SHAPE, torch.float64))
    ages(batch, 3, 0)
    batch.change(noise=slot_noise(1, 2, (4, 8, 8), torch.float64))
    assert not batch.is_warm
    assert batch.tick(torch.zeros(1, 4, 8, 8, dtype=torch.float64), toy_model(TEXT, UNGUIDED)).shape == (1, 4, 8, 8)


def test_noise_that_does_not_fit_is_refused() -> None:
    batch = StreamBatch(tables([32, 45], Guidance()), slot_noise(1, 2, SHAPE, torch.float64))
    with pytest.raises(ValueError, match="noise of 2 slots does not fit 3 steps"):
        batch.change(tables([16, 32, 45], Guidance()))


def test_a_tick_keeps_its_buffers() -> None:
    """Nothing is allocated per frame but what the model makes: a captured graph finds its inputs where they were."""
    guidance = Guidance.of("initialize", 1.4, 0.7)
    batch = StreamBatch(tables([32, 45], guidance), slot_noise(1, 2, SHAPE, torch.float64))
    seen, model, source = set(), model_of(guidance, 2), frames_of(4)

    def denoise(x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        seen.add((x.data_ptr(), times.data_ptr()))
        return model(x, times)

    results = {batch.tick(source[i : i + 1], denoise).data_ptr() for i in range(4)}
    assert (len(seen), len(results)) == (1, 1)
