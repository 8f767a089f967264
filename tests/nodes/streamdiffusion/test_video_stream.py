"""Frames through a whole video model, chunk by chunk: what comes out when, and what every change does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny_video
from video_parts import ONE, SIDES, THREE, model_of, picture, prompt, run

from comfystream.accel.accelerate import Accelerated
from comfystream.accel.eager import EagerBackend
from comfystream.accel.graphed import GraphedRunner
from comfystream.errors import ConfigError, EngineError
from comfystream_nodes.streamdiffusion.core.video import ChunkDenoiser, VideoSteps, motion_noise_scale
from comfystream_nodes.streamdiffusion.text import Embedding
from comfystream_nodes.streamdiffusion.video import autoencoder, causal
from comfystream_nodes.streamdiffusion.video.autoencoder import AutoencoderStream
from comfystream_nodes.streamdiffusion.video.causal import CausalWan, how_of
from comfystream_nodes.streamdiffusion.video.model import VideoModel
from comfystream_nodes.streamdiffusion.video.pipelines import PIPELINES, Pipeline
from comfystream_nodes.streamdiffusion.video.settings import VideoSettings
from comfystream_nodes.streamdiffusion.video.stream import VideoStream

CPU = torch.device("cpu")


def by_hand(model: VideoModel, chunks: list[list[int]], settings: VideoSettings, text: Embedding) -> Tensor:
    """The same from the parts, from a beginning."""
    pipeline, latent = model.pipeline, (SIDES[1] // 8, SIDES[0] // 8)
    made = CausalWan(model.step, pipeline.chunk, pipeline.window, latent, tiny_video.TOKENS)
    made.tell(text.tokens)
    denoiser, vae = ChunkDenoiser(made), AutoencoderStream(model.autoencoder, SIDES[::-1], how_of("none", CPU))
    steps, out = VideoSteps(settings.steps or pipeline.video_steps, settings.noise_scale, settings.seed), []
    for chunk in chunks:
        source = vae.encode(torch.cat([picture(number).movedim(-1, 1) for number in chunk]))
        out.append(vae.decode(denoiser.chunk((1, pipeline.chunk, 16, *latent), steps, source)))
    return torch.cat(out).movedim(1, -1)


@pytest.mark.parametrize("kind", ["wan", "tae"])
@pytest.mark.parametrize("pipeline", [ONE, THREE], ids=lambda one: one.name)
def test_one_in_one_out_a_declared_delay_later(pipeline: Pipeline, kind: str) -> None:
    model, settings = model_of(pipeline, kind), VideoSettings(prompt())
    stream, count = VideoStream(model, settings), 3 * pipeline.frames
    made = run(stream, range(count))
    first = pipeline.first_frames
    assert [one is None for one in made] == [True] * (first - 1) + [False] * (count - first + 1)
    parts = [
        list(range(first)),
        *(list(range(n, n + pipeline.frames)) for n in range(first, count - pipeline.frames + 1, pipeline.frames)),
    ]
    wanted = by_hand(model, parts, settings, settings.prompt)
    for number in range(pipeline.frames - 1 + pipeline.frames, count):
        late = number - stream.delay_frames
        if late < len(wanted):
            torch.testing.assert_close(made[number][0], wanted[late])
    assert (stream.delay_frames, stream.beginnings) == (pipeline.frames - 1, 1)
    assert wanted.std() > 1e-3


def test_pictures_may_be_overwritten_once_they_were_given() -> None:
    """As rings of buffers are."""
    plain, shared = VideoStream(model_of(), VideoSettings(prompt())), VideoStream(model_of(), VideoSettings(prompt()))
    buffer, made = torch.empty(1, SIDES[1], SIDES[0], 3), []
    for number in range(9):
        buffer.copy_(picture(number))
        made.append(shared.process(buffer))
        buffer.zero_()
    assert all(torch.equal(one, other) for one, other in zip(run(plain, range(9)), made, strict=True))


def test_the_output_follows_input_prompt_seed_noise_and_steps_with_the_next_chunk() -> None:
    base = VideoSettings(prompt(), manages_cache=False)
    plain = run(VideoStream(model_of(), base), range(13))
    for change in (
        {"prompt": prompt(2)},
        {"seed": 7},
        {"noise_scale": 0.4},
        {"steps": (750, 500, 250)},
        {"attention_bias": 0.2},
    ):
        stream = VideoStream(model_of(), base)
        before = run(stream, range(7))
        stream.settings = replace(base, **change)
        after = run(stream, range(7, 13))
        assert all(torch.equal(one, other) for one, other in zip(before, plain[:7], strict=True))
        same = [torch.equal(one, other) for one, other in zip(after, plain[7:], strict=True)]
        assert same == [True, False, False, False, False, False], change  # frame 8 completes the chunk of 5 to 8
        assert stream.beginnings == 1


def test_what_no_longer_fits_is_forgotten() -> None:
    """Another prompt at once, other steps, a jump of the noise; the newest frames begin anew."""
    base = VideoSettings(prompt())
    for change, begins in (
        ({"prompt": prompt(2)}, True),
        ({"prompt": prompt(2), "transition_chunks": 3}, False),
        ({"steps": (600,)}, True),
        ({"noise_scale": 0.4}, True),
        ({"noise_scale": 0.65}, False),
        ({"seed": 8}, False),
        ({"manages_cache": False, "prompt": prompt(2)}, False),
    ):
        model = model_of(THREE)
        stream = VideoStream(model, base)
        run(stream, range(15))
        stream.settings = replace(base, **change)
        made = run(stream, range(15, 33))
        assert (stream.beginnings == 2) is begins, change
        if begins:
            now = stream.settings
            wanted = by_hand(model, [list(range(12, 21))], now, now.prompt)  # nine of the twelve that had come
            shown = torch.cat(made[5:14])
            torch.testing.assert_close(shown, wanted)
            assert all(torch.equal(one, made[13]) for one in made[14:17]), "held until the next chunk"


def test_a_prompt_comes_in_over_chunks() -> None:
    told = []
    stream = VideoStream(model_of(), VideoSettings(prompt(1)))
    run(stream, range(5))
    tell = stream._causal.tell
    stream._causal.tell = lambda tokens: (told.append(tokens.clone()), tell(tokens))
    stream.settings = VideoSettings(prompt(2), transition_chunks=4)
    run(stream, range(5, 30))
    one, two = prompt(1).tokens, prompt(2).tokens
    assert len(told) == 4
    for number, tokens in enumerate(told, 1):
        torch.testing.assert_close(tokens, torch.lerp(one, two, number / 4))


@pytest.mark.parametrize("change", [{"resets": 1}, {"size": (32, 32)}])
def test_a_reset_flushes_what_waits(change) -> None:
    settings = VideoSettings(prompt())
    stream = VideoStream(model_of(THREE), settings)
    made = run(stream, range(13))
    stream.settings = replace(settings, **change)
    after = run(stream, range(13, 24))
    assert all(torch.equal(one, made[-1]) for one in after[:8]), "the last result is held, nothing old follows"
    assert after[8].shape[1:3] == ((32, 32) if "size" in change else (32, 48))
    assert not torch.equal(after[8], made[-1])
    assert stream.beginnings == 2
    again = VideoStream(model_of(THREE), stream.settings)
    wanted = run(again, range(13, 24))
    assert all(torch.equal(one, other) for one, other in zip(after[8:], wanted[8:], strict=True))


def test_video_of_a_prompt_alone_and_a_switch_of_modes() -> None:
    stream = VideoStream(model_of(THREE), VideoSettings(prompt()))
    made = [stream.process(None) for _ in range(22)]
    assert all(one.shape == (1, 32, 48, 3) for one in made)
    assert len({one.numpy().tobytes() for one in made}) == 22, "nine of the first chunk, twelve of the next, one more"
    assert stream.denoiser.start == 9
    shown = run(stream, range(9))
    assert stream.beginnings == 2
    assert all(torch.equal(one, made[-1]) for one in shown[:8])
    stream.process(None)
    assert stream.beginnings == 3
    stream.settings = VideoSettings(prompt(2))  # without a picture the video goes on with another prompt
    [stream.process(None) for _ in range(20)]
    assert stream.beginnings == 3


def test_the_table_of_positions_ends() -> None:
    stream = VideoStream(model_of(rope_max_seq_len=16), VideoSettings(prompt()))
    run(stream, range(1 + 4 * 16))
    assert (stream.beginnings, stream.denoiser.start) == (2, 1)


def test_motion_lowers_the_noise() -> None:
    scales = []
    stream = VideoStream(model_of(), VideoSettings(prompt(), noise_scale=0.75, follows_motion=True))
    stream.process(picture(0))
    for chunk in range(3):
        numbers = [0] * 4 if chunk == 1 else range(4 * chunk, 4 * chunk + 4)
        [stream.process(picture(number)) for number in numbers]
        scales.append(stream._scale)
    moved = motion_noise_scale(torch.cat([picture(number) for number in range(4)]).movedim(-1, 1), 0.75)
    assert scales[0] == pytest.approx(moved)
    assert scales[1] == pytest.approx(0.9 * 0.8 + 0.1 * scales[0])
    assert stream.beginnings == 4, "a picture that stands still or begins to move at once is another scene"


def test_krea_runs_its_last_frames_again() -> None:
    krea = replace(PIPELINES["krea_realtime_video"], size=SIDES)
    model = model_of(krea, rope_max_seq_len=8)
    stream, passes = VideoStream(model, VideoSettings(prompt())), []
    stream.process(picture(0))
    step = stream._causal._pass
    stream._causal._pass = lambda latents, time, place: (
        passes.append((time, place, latents.clone())),
        step(latents, time, place),
    )[1]
    made = run(stream, range(1, 45))
    assert stream.beginnings == 1, "positions never run out: they begin anew with every chunk"
    times = [(time, place) for time, place, _ in passes]
    assert times[:2] == [(750.0, 0), (750.0, 0)]
    assert times[2:5] == [(0.0, 0), (750.0, 3), (750.0, 3)]
    assert times[5:8] == times[2:5]
    context = passes[5][2]
    shown = [one for one in made if one is not None]
    shown = shown[:1] + [one for before, one in pairwise(shown) if not torch.equal(one, before)]  # not those held
    vae = AutoencoderStream(model.autoencoder, SIDES[::-1], how_of("none", CPU))
    oldest = shown[9 + 12 - 9]  # nine pictures back from the end of the second chunk
    torch.testing.assert_close(context[:, :1], vae.encode(oldest.movedim(-1, 1)))
    assert len(stream._context._pictures) == 9


def test_a_chunk_that_fails_is_a_new_beginning() -> None:
    stream = VideoStream(model_of(), VideoSettings(prompt()))
    good = run(stream, range(9))
    stream._causal.tell = None
    stream.settings = VideoSettings(prompt(2), manages_cache=False)
    run(stream, range(9, 12))
    with pytest.raises(TypeError):
        stream.process(picture(12))
    del stream._causal.tell
    assert stream.beginnings == 2
    assert not torch.equal(stream.process(picture(13)), good[-1])


def test_a_full_device_is_said_and_the_stream_goes_on(monkeypatch) -> None:
    stream = VideoStream(model_of(), VideoSettings(prompt()))
    run(stream, range(8))

    def full(latents):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(stream.autoencoder, "decode", full)
    with pytest.raises(EngineError, match="video by tiny: out of GPU memory: tried to allocate 20 GiB") as raised:
        stream.process(picture(8))
    assert raised.value.code == "out_of_memory"
    monkeypatch.undo()
    assert all(one is not None for one in run(stream, range(9, 15)))


def test_what_cannot_be_used_says_so_and_changes_nothing() -> None:
    settings = VideoSettings(prompt())
    stream, twin = VideoStream(model_of(), settings), VideoStream(model_of(), settings)
    run(stream, range(6))
    run(twin, range(6))
    for change, said in (
        ({"steps": (250, 750)}, "must fall"),
        ({"size": (500, 512)}, "width is 500"),
        ({"noise_scale": 1.5}, "noise_scale is 1.5"),
        ({"attention_bias": 2.0}, "kv_cache_attention_bias is 2.0"),
        ({"transition_method": "jump"}, "'jump' is unknown"),
        ({"prompt": Embedding(torch.zeros(1, 77, 768))}, r"this prompt is \[1, 77, 768\]"),
    ):
        stream.settings = replace(settings, **change)
        with pytest.raises(ConfigError, match=said):
            stream.process(picture(6))
    stream.settings = settings
    for one, other in zip(run(stream, range(6, 12)), run(twin, range(6, 12)), strict=True):
        assert torch.equal(one, other)


def test_a_recorded_model_gives_the_same(monkeypatch) -> None:
    """Transformer and both halves of the autoencoder are recorded runs; only buffers carry what is remembered."""
    replayed = []

    def capture(run):
        run()
        return lambda: (replayed.append(run), run())

    def recorded(module, spec, how) -> Accelerated:
        runner = GraphedRunner(EagerBackend().wrap(module, spec, "cpu"), capture)
        runner.bind()
        return Accelerated(runner, None)

    settings = VideoSettings(prompt())
    plain = run(VideoStream(model_of(), settings), range(29))
    monkeypatch.setattr(autoencoder, "accelerate", recorded)
    monkeypatch.setattr(causal, "accelerate", recorded)
    stream = VideoStream(model_of().with_parts(acceleration="cuda-graph"), settings)
    fast = run(stream, range(29))
    assert len(replayed) > 20
    for one, other in zip(plain, fast, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    places = {name: buffer.data_ptr() for name, buffer in stream._causal._buffers.items()}
    run(stream, range(29, 41))
    stream.settings = replace(settings, prompt=prompt(2))
    run(stream, range(41, 61))
    assert {name: buffer.data_ptr() for name, buffer in stream._causal._buffers.items()} == places
