"""Chunks with remembered keys and values against one pass over everything, on a tiny random causal transformer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.core import slot_noise
from comfystream_nodes.streamdiffusion.core.video import (
    ChunkDenoiser,
    ChunkRing,
    KeyValueWindow,
    VideoSteps,
    motion_noise_scale,
)

CHANNELS, SIDE, HEADS, WIDTH, BLOCKS = 4, 3, 2, 16, 2
TOKENS = SIDE * SIDE


class TinyCausal(nn.Module):
    """Blocks of attention and a mixer over tokens of latents, with a position per frame."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.enter, self.leave = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, CHANNELS)
        self.place, self.time = nn.Embedding(64, WIDTH), nn.Linear(1, WIDTH)
        self.looks = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(BLOCKS))
        self.mixes = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(BLOCKS))
        self.double()

    def tokens(self, latents: Tensor, times: Tensor, start: int) -> Tensor:
        frames = latents.shape[1]
        x = self.enter(latents.double().permute(0, 1, 3, 4, 2).flatten(2, 3))
        place = self.place(torch.arange(start, start + frames))[None, :, None]
        return (x + place + self.time(times.double().view(1, -1, 1, 1) / 1000)).flatten(1, 2)

    def out(self, x: Tensor, frames: int) -> Tensor:
        return self.leave(x).view(1, frames, SIDE, SIDE, CHANNELS).permute(0, 1, 4, 2, 3)

    def forward(self, latents: Tensor, timestep: float, windows, start: int, keeps: bool) -> Tensor:
        frames = latents.shape[1]
        x = self.tokens(latents, torch.full((frames,), timestep), start)
        for look, mix, window in zip(self.looks, self.mixes, windows, strict=True):
            query, key, value = look(x).view(1, -1, 3, HEADS, WIDTH // HEADS).unbind(2)
            keys, values = window.seen(key, value)
            if keeps:
                window.keep(key, value, frames)
            x = x + scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, keys, values))).transpose(
                1, 2
            ).flatten(2)
            x = x + mix(x)
        return self.out(x, frames)

    def whole(self, latents: Tensor, times: Tensor, chunk: int, window: int, sink: int) -> Tensor:
        """One pass over all frames, with a mask in place of windows. Only the last chunk may be noisy."""
        frames = latents.shape[1]
        x = self.tokens(latents, times, 0)
        visible = torch.zeros(frames, frames, dtype=torch.bool)
        for frame in range(frames):
            first = frame // chunk * chunk
            kept = list(range(first))
            kept = kept[:sink] + kept[sink:][-(window - sink) :] if len(kept) > window else kept
            visible[frame, kept + list(range(first, first + chunk))] = True
        mask = visible.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)
        for look, mix in zip(self.looks, self.mixes, strict=True):
            query, key, value = (
                part.transpose(1, 2) for part in look(x).view(1, -1, 3, HEADS, WIDTH // HEADS).unbind(2)
            )
            x = x + scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
            x = x + mix(x)
        return self.out(x, frames)


@pytest.mark.parametrize(("window", "sink"), [(100, 0), (4, 0), (4, 2), (3, 1)])
@pytest.mark.parametrize("chunk", [1, 2])
def test_chunks_are_one_pass_over_everything(chunk: int, window: int, sink: int) -> None:
    model, steps = TinyCausal(), VideoSteps((1000,), 1.0, 5)
    stream = ChunkDenoiser(model, BLOCKS, window, sink)
    shape = (1, chunk, CHANNELS, SIDE, SIDE)
    made = []
    for number in range(5):
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(5 + number * chunk))
        clean = torch.cat([*made, noise.double()], 1)
        times = torch.zeros(clean.shape[1])
        times[-chunk:] = 1000
        wanted = model.whole(clean, times, chunk, window, sink)[:, -chunk:]
        made.append(stream.chunk(shape, steps))
        assert (made[-1] - wanted).abs().max() < 1e-9


def test_steps_between_are_noised_again_and_the_source_shines_through() -> None:
    passes = []

    def model(latents, timestep, windows, start, keeps):
        passes.append((latents.clone(), timestep, start, keeps))
        return torch.full_like(latents, 3.0)

    shape, source = (1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), 10.0)
    stream = ChunkDenoiser(model, 1, 4)
    stream.chunk(shape, VideoSteps((750, 250), 0.6, 7), source)
    assert [one[1:] for one in passes] == [(500.0, 0, False), (250.0, 0, False), (0.0, 0, True)]
    noise = slot_noise(7, 2, shape)
    assert torch.allclose(passes[0][0], 0.6 * noise[0] + 0.4 * source)
    assert torch.allclose(passes[1][0], 0.75 * 3 + 0.25 * noise[1])
    assert torch.equal(passes[2][0], torch.full(shape, 3.0))
    stream.chunk(shape, VideoSteps((750,), 0.6, 7, most_frames=2), source)
    assert stream.start == 2
    stream.chunk(shape, VideoSteps((750,), 0.6, 7, most_frames=2), source)
    assert (passes[-1][2], stream.start) == (0, 1)  # the table of positions is at its end: begun anew


def test_a_window_keeps_the_first_and_the_last() -> None:
    window = KeyValueWindow(4, 1)
    for number in range(7):
        part = torch.full((1, 2, 1, 1), float(number))
        window.keep(part, part, 1)
    nothing = torch.zeros(1, 0, 1, 1)
    assert window.seen(nothing, nothing)[0].flatten().tolist() == [0, 0, 4, 4, 5, 5, 6, 6]
    with pytest.raises(ConfigError, match="a window of 2 frames cannot keep the first 2"):
        KeyValueWindow(2, 2)


def test_bad_steps_say_so() -> None:
    for steps, said in (
        (VideoSteps(()), "must fall"),
        (VideoSteps((250, 750)), "must fall"),
        (VideoSteps((9,), 2.0), "2.0"),
    ):
        with pytest.raises(ConfigError, match=said):
            steps.checked()


def test_motion_lowers_the_noise() -> None:
    still, wild = torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 8)
    wild[1::2] = 1.0
    assert motion_noise_scale(still, 0.7) == pytest.approx(0.9 * 0.8 + 0.07)
    assert motion_noise_scale(wild, 0.7) == pytest.approx(0.9 * 0.6 + 0.07)


def test_a_ring_gives_every_frame_after_its_delay() -> None:
    ring, out = ChunkRing(4), []
    for number in range(12):
        chunk = ring.push(torch.tensor(number))
        out.append(ring.pop())
        if chunk is not None:
            ring.put(chunk)
    assert out[:4] == [None] * 4
    assert [int(frame) for frame in out[4:]] == list(range(8))
    ring.reset()
    assert int(ring.pop()) == 7  # the last one is held, nothing old follows
