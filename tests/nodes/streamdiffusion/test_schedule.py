"""Scheduler tables against known numbers and against diffusers."""

from __future__ import annotations

import pytest
import torch

from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.core import Schedule, ScheduleKind, check_steps, parse_steps

GOLDEN = [  # index, timestep, alpha, sigma, c_skip, c_out
    (0, 999, 0.0683, 0.9977, 2.5e-9, 1.000000),
    (16, 679, 0.3098, 0.9508, 5.4e-9, 1.000000),
    (20, 599, 0.4022, 0.9156, 7.0e-9, 1.000000),
    (32, 359, 0.7011, 0.7131, 1.9e-8, 1.000000),
    (35, 299, 0.7695, 0.6386, 2.8e-8, 1.000000),
    (45, 99, 0.9463, 0.3233, 2.6e-7, 1.000000),
    (49, 19, 0.9911, 0.1333, 6.9e-6, 0.999997),
]


@pytest.mark.parametrize(("index", "time", "alpha", "sigma", "skip", "out"), GOLDEN)
def test_golden_table(index: int, time: int, alpha: float, sigma: float, skip: float, out: float) -> None:
    table = Schedule().tables([index], dtype=torch.float64)
    assert table.timesteps.tolist() == [time]
    assert table.alpha.item() == pytest.approx(alpha, abs=5e-5)
    assert table.sigma.item() == pytest.approx(sigma, abs=5e-5)
    assert table.c_skip.item() == pytest.approx(skip, rel=0.03)
    assert table.c_out.item() == pytest.approx(out, abs=5e-7)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 25, 50])
def test_lcm_has_the_timesteps_of_diffusers(count: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    theirs.set_timesteps(count)
    assert Schedule(ScheduleKind.LCM, count).timesteps() == theirs.timesteps.tolist()
    skip, out = theirs.get_scalings_for_boundary_condition_discrete(theirs.timesteps.double())
    ours = Schedule(ScheduleKind.LCM, count).tables(range(count), dtype=torch.float64)
    assert torch.allclose(ours.c_skip.flatten(), skip, rtol=1e-9)
    assert torch.allclose(ours.c_out.flatten(), out, rtol=1e-9)
    kept = theirs.alphas_cumprod[theirs.timesteps].double()
    assert torch.allclose(ours.alpha.flatten(), kept.sqrt(), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_turbo_has_the_timesteps_of_diffusers(count: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    theirs.set_timesteps(count)
    schedule = Schedule(ScheduleKind.TURBO, count)
    assert schedule.timesteps() == [round(float(t)) for t in theirs.timesteps]
    table = schedule.tables([0])
    assert (table.c_skip.item(), table.c_out.item()) == (0, 1)


def test_a_zero_terminal_schedule_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.LCMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    )
    ours = Schedule(is_zero_terminal=True).tables(range(50), dtype=torch.float64)
    kept = theirs.alphas_cumprod[ours.timesteps].double()
    torch.testing.assert_close(ours.alpha.flatten()[1:], kept.sqrt()[1:], rtol=1e-4, atol=1e-6)
    assert (kept[0].item(), ours.alpha[0].item()) == (0, 2.0**-12), "nearly nothing, so that nothing divides by zero"
    assert ours.sigma[0].item() == pytest.approx(1, abs=1e-6)


def test_more_steps_than_the_model_was_distilled_on_are_spaced_as_finely() -> None:
    assert Schedule(count=100).timesteps()[:3] == [999, 989, 979]


def test_all_tables_are_repeated_for_the_frames_of_a_slot() -> None:
    table = Schedule().tables([32, 45], frames=3)
    for name in ("timesteps", "alpha", "sigma", "c_skip", "c_out"):
        values = getattr(table, name).flatten().tolist()
        assert values == [values[0]] * 3 + [values[3]] * 3
        assert values[0] != values[3] or name == "c_out"


@pytest.mark.parametrize(("steps", "count"), [([32], 25), ([0, 16], 4), ([50], 50)])
def test_an_index_out_of_range_says_so(steps: list[int], count: int) -> None:
    with pytest.raises(ConfigError, match=rf"t_index_list holds {steps[-1]}, which is out of range.*is {count}"):
        Schedule(count=count).tables(steps)


def test_indices_must_rise_and_be_there() -> None:
    for steps, said in (([45, 32], "does not rise"), ([32, 32], "does not rise"), ([], "is empty"), ([-1], "-1")):
        with pytest.raises(ConfigError, match=said):
            check_steps(steps, 50)


@pytest.mark.parametrize(
    ("text", "steps"), [("20,35,45", (20, 35, 45)), ("[32, 45]", (32, 45)), ([0], (0,)), ("0", (0,))]
)
def test_indices_are_read(text: str, steps: tuple[int, ...]) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["", "a,b", "[1, ", "-3", "[]", "1.5", "{}"])
def test_indices_that_are_none_say_so(text: str) -> None:
    with pytest.raises(ConfigError, match="t_index_list"):
        parse_steps(text)
