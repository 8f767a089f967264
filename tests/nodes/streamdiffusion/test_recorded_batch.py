"""The stream batch, recorded before any of its numbers are known, against the plain reference in float64."""

from __future__ import annotations

import pytest
import torch
from fake_recording import record
from toy import SHAPE, frames_of, reference, tables, toy_model

from comfystream.errors import EngineError
from comfystream_nodes.streamdiffusion.core import Guidance, StreamBatch, slot_noise
from comfystream_nodes.streamdiffusion.core.batch import Tables

NEAR = 1e-5
TEXT, UNGUIDED = 0.4, -0.7
MODES = ["none", "full", "self", "initialize"]


def test_the_stand_in_does_not_hear_of_the_host() -> None:
    """Else no test here could fail."""
    value, made, factor = torch.ones(2), torch.zeros(2), [2.0]
    replay = record(lambda: made.copy_(value * factor[0]))
    value.fill_(5)
    factor[0] = 3.0
    replay()
    assert made.tolist() == [10.0, 10.0]
    with pytest.raises(EngineError, match="waits for the device"):
        record(lambda: made.fill_(float(value.sum())))


class RecordedBatch:
    """A batch of which `run` is recorded once, before any of its numbers are known."""

    def __init__(
        self, guidance: Guidance, slots: int, frames: int = 1, adds_noise: bool = True, is_velocity: bool = False
    ) -> None:
        like = torch.zeros(slots, *SHAPE, dtype=torch.float64)
        blank = Tables.blank(slots, frames, guidance, like, adds_noise, is_velocity)
        self.batch = StreamBatch(blank, like, is_fixed=True)
        self.latent, self.made = (torch.zeros(frames, *SHAPE, dtype=torch.float64) for _ in range(2))
        model = toy_model(TEXT, UNGUIDED, guidance.unguided_rows(slots, frames))
        self.replay = record(lambda: self.made.copy_(self.batch.run(self.latent, model)))
        self.batch.reset()

    def tick(self, latent: torch.Tensor) -> torch.Tensor:
        self.latent.copy_(latent)
        self.replay()
        self.batch.advance()
        return self.made.clone()


@pytest.mark.parametrize("adds_noise", [True, False])
@pytest.mark.parametrize("steps", [[45], [32, 45], [0, 16, 32, 45]], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_velocity", [False, True], ids=["noise", "velocity"])
def test_a_recorded_batch_equals_the_plain_reference(
    mode: str, steps: list[int], adds_noise: bool, is_velocity: bool
) -> None:
    """Recorded with other numbers than those that it runs with: other steps, scale, delta and noise."""
    guidance = Guidance.of(mode, 1.4, 0.7)
    recorded = RecordedBatch(Guidance.of(mode, 3.0, 0.2), len(steps), 1, adds_noise, is_velocity)
    noise, source = slot_noise(2, len(steps), SHAPE, torch.float64), frames_of(9)
    recorded.batch.change(tables(steps, guidance, 1, adds_noise, is_velocity), noise)
    recorded.batch.reset()
    results = [recorded.tick(source[i : i + 1])[0] for i in range(9)]
    for number in range(9 - recorded.batch.delay_ticks):
        wanted = reference(source[number], steps, noise, guidance, TEXT, UNGUIDED, adds_noise, is_velocity)
        assert (results[number + recorded.batch.delay_ticks] - wanted).abs().max() <= NEAR


@pytest.mark.parametrize("mode", MODES)
def test_several_frames_per_slot(mode: str) -> None:
    guidance, steps = Guidance.of(mode, 1.3, 0.9), [20, 35, 45]
    noise, source = slot_noise(5, 3, SHAPE, torch.float64), frames_of(10)
    recorded = RecordedBatch(guidance, 3, frames=2)
    recorded.batch.change(tables(steps, guidance, frames=2), noise)
    recorded.batch.reset()
    results = torch.cat([recorded.tick(source[i : i + 2]) for i in range(0, 10, 2)])
    for number in range(6):
        wanted = reference(source[number], steps, noise, guidance, TEXT, UNGUIDED)
        assert (results[number + 4] - wanted).abs().max() <= NEAR


def test_a_batch_that_is_recorded_refuses_another_layout() -> None:
    batch = RecordedBatch(Guidance.of("self", 1.4, 0.7), 2).batch
    noise, guidance = slot_noise(1, 3, SHAPE, torch.float64), Guidance.of("self", 1.4, 0.7)
    for wrong, given in (
        (tables([16, 32, 45], guidance), noise),
        (tables([32, 45], Guidance.of("full", 1.4, 0.7)), noise[:2]),
        (tables([32, 45], guidance, adds_noise=False), noise[:2]),
        (tables([32, 45], guidance), torch.zeros(2, 4, 8, 8, dtype=torch.float64)),
    ):
        with pytest.raises(ValueError, match="keeps its layout"):
            batch.change(wrong, given)
