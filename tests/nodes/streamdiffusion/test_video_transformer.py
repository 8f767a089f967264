"""The causal transformer against diffusers' own forward over all frames at once, with a mask in place of a memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import tiny_video
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from comfystream.errors import AssetError, ConfigError
from comfystream_nodes.streamdiffusion.core import slot_noise
from comfystream_nodes.streamdiffusion.core.video import ChunkDenoiser, VideoSteps, Window
from comfystream_nodes.streamdiffusion.video.causal import CausalWan
from comfystream_nodes.streamdiffusion.video.rotary import RotaryTable
from comfystream_nodes.streamdiffusion.video.transformer import CausalStep

SIZE = (4, 6)  # of latents: 2 x 3 tokens
GRID = 6


class Masked(WanAttnProcessor):
    """Diffusers' attention, with a mask where it looks at the picture itself."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        mask = self.mask if encoder_hidden_states is None else None
        return super().__call__(attn, hidden_states, encoder_hidden_states, mask, rotary_emb)


def whole(made: Any, latents: Tensor, times: Tensor, text: Tensor, chunk: int, window: Window) -> Tensor:
    """The clean prediction of all frames by one pass of diffusers' model. Only the last chunk may be noisy."""
    frames = latents.shape[1]
    visible = torch.zeros(frames, frames, dtype=torch.bool)
    for frame in range(frames):
        end = frame // chunk * chunk + chunk
        free = window.frames - window.sink
        visible[frame, [one for one in range(end) if one < window.sink or one >= end - free]] = True
    made.set_attn_processor(Masked(visible.repeat_interleave(GRID, 0).repeat_interleave(GRID, 1)[None, None]))
    flow = made(latents.transpose(1, 2), times.repeat_interleave(GRID)[None], text, return_dict=False)[0]
    return latents - times.view(1, -1, 1, 1, 1) / 1000 * flow.transpose(1, 2)


def text_of(seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, tiny_video.TOKENS, tiny_video.TEXT_WIDTH, generator=generator, dtype=torch.float64)


@pytest.fixture
def made() -> Any:
    return tiny_video.transformer().double()


@pytest.mark.parametrize(("frames", "sink"), [(12, 0), (6, 0), (6, 3), (4, 1)])
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_with_a_memory_are_one_masked_pass_over_everything(made, chunk: int, frames: int, sink: int) -> None:
    window, text = Window(frames, sink), text_of()
    model = CausalWan(CausalStep(made), chunk, window, SIZE, tiny_video.TOKENS)
    model.tell(text)
    stream, shape, clean = ChunkDenoiser(model), (1, chunk, 16, *SIZE), []
    for number in range(15 // chunk if chunk > 1 else 9):
        noise = slot_noise(5 + number * chunk, 1, shape)[0].double()
        latents = torch.cat([*clean, noise], 1)
        times = torch.zeros(latents.shape[1])
        times[-chunk:] = 1000
        wanted = whole(made, latents, times, text, chunk, window)[:, -chunk:]
        clean.append(stream.chunk(shape, VideoSteps((1000,), 1.0, 5)).clone())
        assert (clean[-1] - wanted).abs().max() < 1e-5
    assert clean[0].std() > 0.1
    assert (clean[-1] - clean[-2]).abs().max() > 1e-2


def test_the_window_the_sink_and_the_index_matter(made) -> None:
    """The measure of the test above can tell them apart."""
    results = []
    for window in (Window(12), Window(4), Window(4, 2)):
        model = CausalWan(CausalStep(made), 1, window, SIZE, tiny_video.TOKENS)
        model.tell(text_of())
        stream = ChunkDenoiser(model)
        results.append([stream.chunk((1, 1, 16, *SIZE), VideoSteps((1000,), 1.0, 5)).clone() for _ in range(7)])
    assert (results[0][3] - results[1][3]).abs().max() < 1e-9  # nothing was dropped yet
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (results[one][6] - results[other][6]).abs().max() > 1e-4


def test_several_steps_and_a_source(made) -> None:
    """Noisy passes leave nothing behind: what is remembered is the clean pass alone."""
    text, window = text_of(), Window(4, 1)
    source = torch.randn(6, 1, 1, 16, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = CausalWan(CausalStep(made), 1, window, SIZE, tiny_video.TOKENS)
    model.tell(text)
    stream, clean, steps = ChunkDenoiser(model), [], VideoSteps((750, 250), 0.6, 7)
    for number in range(6):
        noises = slot_noise(7 + number, 2, (1, 1, 16, *SIZE)).double()
        latents = 0.6 * noises[0] + 0.4 * source[number]
        for time in (500.0, 250.0):
            times = torch.tensor([0.0] * number + [time])
            made_now = whole(made, torch.cat([*clean, latents], 1), times, text, 1, window)[:, -1:]
            latents = 0.75 * made_now + 0.25 * noises[1]
        clean.append(stream.chunk((1, 1, 16, *SIZE), steps, source[number]).clone())
        assert (clean[-1] - made_now).abs().max() < 1e-5


def test_another_prompt_changes_the_next_chunk_and_keeps_the_memory(made) -> None:
    model = CausalWan(CausalStep(made), 1, Window(4), SIZE, tiny_video.TOKENS)
    stream, shape, steps = ChunkDenoiser(model), (1, 1, 16, *SIZE), VideoSteps((1000,), 1.0, 5)
    model.tell(text_of(3))
    first = stream.chunk(shape, steps).clone()
    model.tell(text_of(4))
    second = stream.chunk(shape, steps).clone()
    fresh = CausalWan(CausalStep(made), 1, Window(4), SIZE, tiny_video.TOKENS)
    fresh.tell(text_of(4))
    alone = ChunkDenoiser(fresh)
    assert (alone.chunk(shape, steps) - first).abs().max() > 1e-3
    assert (alone.chunk(shape, steps) - second).abs().max() > 1e-4


def test_forgetting_is_a_new_beginning(made) -> None:
    model = CausalWan(CausalStep(made), 1, Window(3, 1), SIZE, tiny_video.TOKENS)
    model.tell(text_of())
    stream, shape, steps = ChunkDenoiser(model), (1, 1, 16, *SIZE), VideoSteps((1000, 500), 1.0, 5)
    first = [stream.chunk(shape, steps).clone() for _ in range(5)]
    stream.reset()
    assert all(torch.equal(stream.chunk(shape, steps), one) for one in first)


def test_recalled_frames_are_all_that_is_seen(made) -> None:
    """As Krea's model does it: before a chunk the last frames are run again, at the first positions."""
    text, window = text_of(), Window(6)
    model = CausalWan(CausalStep(made), 3, window, SIZE, tiny_video.TOKENS)
    model.tell(text)
    context = torch.randn(1, 3, 16, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(1, 3, 16, *SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for start in (3, 30, 900):  # beyond the table of positions, too
        model.recall(context, start)
        found = model(noise, 1000.0, start)
        times = torch.tensor([0.0] * 3 + [1000.0] * 3)
        wanted = whole(made, torch.cat([context, noise], 1), times, text, 3, window)[:, 3:]
        assert (found - wanted).abs().max() < 1e-5
    with pytest.raises(ValueError, match="4 frames beside a chunk of 3 in a window of 6"):
        model.recall(torch.cat([context, context[:, :1]], 1), 3)


def test_the_bias_weighs_remembered_frames(made) -> None:
    """With a weight of nearly nothing, a chunk sees itself and the sink alone; 1 changes nothing."""
    shape, steps = (1, 1, 16, *SIZE), VideoSteps((1000,), 1.0, 5)

    def last(bias: float, window: Window, count: int = 6) -> Tensor:
        model = CausalWan(CausalStep(made), 1, window, SIZE, tiny_video.TOKENS)
        model.tell(text_of())
        stream = ChunkDenoiser(model)
        for number in range(count):
            model.trust(bias if number == count - 1 else 1.0)
            found = stream.chunk(shape, steps)
        return found.clone()

    whole_weight, less, none = (last(bias, Window(4)) for bias in (1.0, 0.3, 1e-30))
    assert (whole_weight - less).abs().max() > 1e-4
    model = CausalWan(CausalStep(made), 1, Window(4), SIZE, tiny_video.TOKENS)
    model.tell(text_of())
    alone = model(slot_noise(5 + 5, 1, shape)[0].double(), 1000.0, 0)
    assert (none - alone).abs().max() < 1e-4  # one frame is one frame, wherever it stands
    assert (last(1e-30, Window(4, 1)) - alone).abs().max() > 1e-4  # the sink keeps its weight


def test_rotations_are_those_of_diffusers() -> None:
    made = tiny_video.transformer()
    cosine, sine = made.rope(torch.zeros(1, 16, 5, *SIZE))
    table = RotaryTable(12, 64, 2, 3, 2, torch.device("cpu"), torch.float32)
    ours = table.of_chunk(3)
    torch.testing.assert_close(ours[0], cosine[0, 3 * GRID :, 0, 0::2])
    torch.testing.assert_close(ours[1], sine[0, 3 * GRID :, 0, 1::2])


def test_what_cannot_be_is_said(made) -> None:
    with pytest.raises(ConfigError, match="a window of 3 frames cannot keep the first 1 beside a chunk of 3"):
        CausalWan(CausalStep(made), 3, Window(3, 1), SIZE, tiny_video.TOKENS)
    with pytest.raises(AssetError, match="acceleration 'tensorrt' is not available for video") as raised:
        CausalWan(CausalStep(made), 1, Window(3), SIZE, tiny_video.TOKENS, "tensorrt")
    assert raised.value.code == "backend_missing"


@pytest.mark.slow
@pytest.mark.long
def test_compiled_it_gives_the_same_and_is_compiled_once() -> None:
    """By the Inductor, whose code writes into the memory that the next pass reads."""
    step = CausalStep(tiny_video.transformer(num_layers=1))
    shape, steps, results, compilations = (1, 1, 16, *SIZE), VideoSteps((1000, 500), 1.0, 5), [], []
    for acceleration in ("none", "inductor", "inductor"):
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        model = CausalWan(step, 1, Window(3, 1), SIZE, tiny_video.TOKENS, acceleration)
        model.tell(text_of().float())
        model.prepare()
        stream = ChunkDenoiser(model)
        results.append(torch.cat([stream.chunk(shape, steps).clone() for _ in range(7)]))
        compilations.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)
    assert compilations == [0, 1, 0]
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], atol=1e-5, rtol=1e-4)
