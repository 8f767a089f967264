"""A tick as one launch: what is recorded hears of every change that needs no other layout, and of nothing else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from fake_recording import FakeTickGraphs, Recording
from frames import picture, settings_for
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.errors import EngineError
from comfystream_nodes.streamdiffusion.acceleration import accelerated
from comfystream_nodes.streamdiffusion.control import Control, ControlModel
from comfystream_nodes.streamdiffusion.core import Guidance, Schedule, ScheduleKind
from comfystream_nodes.streamdiffusion.loader_nodes import add_image_prompt, style_of
from comfystream_nodes.streamdiffusion.loading.folder import load_folder
from comfystream_nodes.streamdiffusion.settings import Similarity
from comfystream_nodes.streamdiffusion.stream import Stream

NEAR = 1e-5
SAME = {"atol": 2e-5, "rtol": 1e-4}
TEXT, UNGUIDED = 0.4, -0.7
MODES = ["none", "full", "self", "initialize"]
DEADLINE_S = 60


@pytest.fixture
def graphs() -> FakeTickGraphs:
    return FakeTickGraphs()


@pytest.fixture
def fast(models, graphs):
    return accelerated(models["sd15"], "cuda-graph", max_rows=8, known={"cuda-graph": graphs})


def settled(stream: Stream, delay: int) -> torch.Tensor:
    deadline = time.monotonic() + DEADLINE_S
    made = stream.process(picture())
    while stream.delay_frames != delay:
        assert time.monotonic() < deadline
        time.sleep(0.005)
        made = stream.process(picture())
    return made


def same(one: Stream, two: Stream, frames: int = 4) -> None:
    for number in range(frames):
        torch.testing.assert_close(two.process(picture(number)), one.process(picture(number)), **SAME)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_in_every_mode(models, graphs, family: str, mode: str) -> None:
    model = models[family]
    fast = accelerated(model, "cuda-graph", max_rows=8, known={"cuda-graph": graphs})
    settings = settings_for(model, steps=(16, 32, 45), guidance=Guidance.of(mode, 1.4, 0.7))
    one, two = Stream(model, settings), Stream(fast, settings)
    same(one, two, 5)
    assert two.tick_graph == "yes"
    assert len(graphs.recordings) == 1
    assert graphs.recordings[0].replays == 5 + 2, "one launch a tick, two more to fill the slots"


@pytest.mark.parametrize("mode", MODES)
def test_a_model_that_predicts_velocity(tmp_path, graphs, mode: str) -> None:
    model = load_folder(tiny.write_folder(tmp_path / "v", "sd21", prediction_type="v_prediction"))
    assert model.predicts_velocity
    fast = accelerated(model, "cuda-graph", known={"cuda-graph": graphs})
    settings = settings_for(model, steps=(20, 40), guidance=Guidance.of(mode, 1.4, 0.7))
    one, two = Stream(model, settings), Stream(fast, settings)
    same(one, two)
    one.settings = two.settings = replace(settings, steps=(25, 45))
    same(one, two)
    assert len(graphs.recordings) == 1


CHANGES = {
    "prompt": lambda model: {"prompt": model.prompts.encode("a dog")},
    "negative": lambda model: {"negative": model.prompts.encode("sharp")},
    "scale": lambda model: {"guidance": Guidance.of("full", 3.0, 0.7)},
    "steps": lambda model: {"steps": (16, 45)},
    "schedule": lambda model: {"schedule": Schedule(ScheduleKind.TURBO, 50)},
    "seed": lambda model: {"seeds": ((9, 1.0),)},
    "seeds": lambda model: {"seeds": ((9, 1.0), (4, 0.5))},
    "prompt over frames": lambda model: {"prompt": model.prompts.encode("a dog"), "transition_frames": 3},
    "seed over frames": lambda model: {"seeds": ((9, 1.0),), "transition_frames": 3},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_holds_from_the_next_tick_on_without_another_recording(models, fast, graphs, change: str) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("full", 1.4, 0.7))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two, 3)
    unchanged = two.process(picture(7)), one.process(picture(7))
    one.settings = two.settings = replace(base, **CHANGES[change](fast))
    torch.testing.assert_close(*unchanged, **SAME)
    after = two.process(picture(7))
    torch.testing.assert_close(after, one.process(picture(7)), **SAME)
    assert (after - unchanged[0]).abs().max() > 1e-4, "it had no effect"
    same(one, two, 4)
    assert len(graphs.recordings) == 1


@pytest.mark.parametrize("mode", ["self", "initialize"])
def test_delta_and_scale_of_residual_guidance(models, fast, graphs, mode: str) -> None:
    base = settings_for(fast, steps=(16, 32, 45), guidance=Guidance.of(mode, 1.4, 0.7))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two)
    for guidance in (Guidance.of(mode, 1.4, 0.1), Guidance.of(mode, 2.5, 0.1)):
        one.settings = two.settings = replace(base, guidance=guidance)
        same(one, two, 3)
    assert len(graphs.recordings) == 1


def test_controls_are_drawn_steered_and_changed(models, fast, graphs) -> None:
    """Strengths, 0 too, preprocessors and their parameters; feedback looks at what came out last."""
    nets = [ControlModel(f"net{seed}", tiny.controlnet("sd15", seed)) for seed in (5, 6)]
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("full", 1.4, 0.7))
    base = replace(base, controls=tuple(Control(net, 1.0, "soft_edge") for net in nets))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two, 3)
    drawn = torch.rand(1, 64, 64, 3)
    for first, second in (
        (Control(nets[0], 0.3, "soft_edge"), Control(nets[1], 1.0, "sharpen")),
        (Control(nets[0], 0.0), Control(nets[1], 0.8, "feedback")),
        (Control(nets[0], 0.0), Control(nets[1], 0.0)),
        (Control(nets[0], 1.0, picture=drawn), Control(nets[1], 0.5, "lineart")),
    ):
        one.settings = two.settings = replace(base, controls=(first, second))
        same(one, two, 3)
    assert len(graphs.recordings) == 1
    one.settings = two.settings = replace(base, controls=base.controls[:1])
    two.prepare(picture())
    same(one, two, 3)
    assert len(graphs.recordings) == 2, "another set of ControlNets"


def test_a_style_and_its_strength(tmp_path, models, graphs) -> None:
    tiny.write_ip_adapter(tmp_path / "adapter.safetensors", models["sd15"].unet)
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")
    styled = add_image_prompt(models["sd15"], str(tmp_path / "adapter.safetensors"), str(tmp_path / "encoder"))
    fast = accelerated(styled, "cuda-graph", known={"cuda-graph": graphs})
    base = settings_for(styled, steps=(20, 40), guidance=Guidance.of("full", 1.5, 1.0))
    style = style_of(styled, torch.rand(1, 50, 70, 3), 0.8)
    one, two = Stream(styled, base), Stream(fast, base)
    for used in (None, style, replace(style, scale=1.5), replace(style, weight_type="ease in"), None):
        one.settings = two.settings = replace(base, style=used)
        same(one, two, 3)
    assert len(graphs.recordings) == 1


def test_another_number_of_steps_is_recorded_beside_and_kept(models, fast, graphs) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("none", 1, 1))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two, 3)
    own = threading.current_thread().name
    graphs.threads.clear()
    graphs.gate.clear()
    two.settings = one.settings = replace(base, steps=(16, 32, 45))
    assert two.process(picture()).shape == (1, 64, 64, 3)
    assert two.delay_frames == 1
    graphs.gate.set()
    settled(two, 2)
    assert len(graphs.recordings) == 2
    assert own not in graphs.threads
    graphs.threads.clear()
    for steps in ((20, 40), (16, 32, 45), (20, 40)):
        one.settings = two.settings = replace(base, steps=steps)
        for number in range(4):  # until all that is on its way came in with both
            one.process(picture(number)), two.process(picture(number))
        same(one, two, 3)
    assert graphs.threads == []
    assert len(graphs.recordings) == 2


@pytest.mark.parametrize(
    "change",
    [{"size": (96, 64)}, {"guidance": Guidance.of("initialize", 1.4, 0.7)}, {"adds_noise": False}, {"frames": 2}],
    ids=str,
)
def test_what_is_another_layout_is_recorded_anew(models, fast, graphs, change: dict) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two, 3)
    one.settings = two.settings = replace(base, **change)
    two.prepare(picture())
    for number in range(4):
        one.process(picture(number)), two.process(picture(number))
    same(one, two, 3)
    assert len(graphs.recordings) == 2


def test_in_turn_and_back(models, fast, graphs) -> None:
    """Frames that take all steps at once are launched network by network; those on their way are not mixed up."""
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two, 3)
    for is_batched in (False, True, False, True):
        one.settings = two.settings = replace(base, is_batched=is_batched)
        two.prepare(picture())
        same(one, two, 3)
        assert two.tick_graph.startswith("yes" if is_batched else "no: each network")
    assert len(graphs.recordings) == 1


def test_a_still_scene_is_not_launched(fast, graphs) -> None:
    base = settings_for(fast, steps=(20,), guidance=Guidance.of("none", 1, 1), similarity=Similarity(0.98, 3))
    stream = Stream(fast, base)
    made = [stream.process(picture()) for _ in range(4)]
    assert (stream.skipped, graphs.recordings[0].replays) == (3, 1)
    assert all(torch.equal(one, made[0]) for one in made)
    stream.settings = replace(base, prompt=fast.prompts.encode("a dog"))
    assert not torch.equal(stream.process(picture()), made[0])


class Counting(TorchDispatchMode):
    """Names of the operations that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.names.append(func.overloadpacket.__name__)
        return result


def test_beside_the_launch_a_tick_copies_a_picture_in_and_one_out(fast, graphs) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    stream = Stream(fast, base)
    stream.process(picture())
    graphs.recordings[0].operations.clear()
    frame = picture(2)
    stream.settings = replace(base, guidance=Guidance.of("self", 2.0, 0.7))
    stream.process(frame)
    with Counting() as counting:
        stream.process(frame)
    assert counting.names == ["copy_", "clone"]


def test_what_was_given_out_is_never_written_again(fast) -> None:
    stream = Stream(fast, settings_for(fast, steps=(20,), guidance=Guidance.of("none", 1, 1)))
    held = [stream.process(picture(number)) for number in range(6)]
    kept = [one.clone() for one in held]
    for number in range(6):
        stream.process(picture(20 + number))
    assert all(torch.equal(one, two) for one, two in zip(held, kept, strict=True))


def test_two_streams_share_nothing_but_weights(models, fast, graphs) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    other = replace(base, seeds=((5, 1.0),), prompt=fast.prompts.encode("a dog"))
    pairs = [(Stream(models["sd15"], one), Stream(fast, one)) for one in (base, other)]
    for number in range(5):
        for plain, quick in pairs:
            torch.testing.assert_close(quick.process(picture(number)), plain.process(picture(number)), **SAME)
    assert len(graphs.recordings) == 2


def test_a_reset_forgets_the_frames(fast) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    stream = Stream(fast, base)
    first = [stream.process(picture(number)) for number in range(3)]
    stream.process(picture(9))
    stream.reset()
    again = [stream.process(picture(number)) for number in range(3)]
    assert all(torch.equal(before, after) for before, after in zip(first, again, strict=True))


def test_from_noise_alone(models, fast, graphs) -> None:
    class FromNoise(Stream):
        is_from_noise = True

    settings = settings_for(fast, steps=(0, 16), guidance=Guidance.of("none", 1, 1))
    one, two = FromNoise(models["sd15"], settings), FromNoise(fast, settings)
    same(one, two)
    assert torch.equal(two.process(picture(1)), two.process(picture(2)))
    assert len(graphs.recordings) == 1


def test_a_full_device_is_told_and_the_stream_goes_on(fast, graphs) -> None:
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("none", 1, 1))
    stream = Stream(fast, base)
    stream.process(picture())
    graphs.is_full = True
    stream.settings = replace(base, steps=(16, 32, 45))
    with pytest.raises(EngineError, match="out of GPU memory"):
        settled(stream, 2)
    assert stream.process(picture()).isfinite().all()
    assert stream.delay_frames == 1


def test_a_backend_that_records_and_cannot_is_an_error(fast, graphs) -> None:
    graphs.refuses = "cannot be recorded: it waits"
    stream = Stream(fast, settings_for(fast, steps=(20,)))
    with pytest.raises(EngineError, match="it waits"):
        stream.process(picture())


def test_an_engine_that_cannot_be_recorded_runs_as_before_and_says_so(models, graphs, monkeypatch) -> None:
    """TensorRT may refuse to be recorded; what it did without is no error then."""
    monkeypatch.setattr(FakeTickGraphs, "name", "tensorrt")
    graphs.refuses = "this engine cannot be recorded"
    fast = accelerated(models["sd15"], "tensorrt", known={"tensorrt": graphs})
    base = settings_for(fast, steps=(20, 40), guidance=Guidance.of("self", 1.4, 0.7))
    one, two = Stream(models["sd15"], base), Stream(fast, base)
    same(one, two)
    assert two.tick_graph == "no: this engine cannot be recorded"


@pytest.mark.parametrize("backend", ["eager", "none"])
def test_what_records_nothing_runs_as_it_did(models, backend: str) -> None:
    fast = accelerated(models["sd15"], backend)
    stream = Stream(fast, settings_for(fast, steps=(20, 40)))
    assert stream.process(picture()).isfinite().all()
    assert stream.tick_graph == "no: each network is launched by itself"


def test_the_recording_is_of_operations(fast, graphs) -> None:
    Stream(fast, settings_for(fast, steps=(20,))).process(picture())
    (recording,) = graphs.recordings
    assert isinstance(recording, Recording)
    assert len(recording.operations) > 50
