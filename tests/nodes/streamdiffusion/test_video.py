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
    VideoSteps,
    Window,
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
        self.window, self.written = Window(100), 0
        self.kept = torch.zeros(BLOCKS, 2, 100, TOKENS, HEADS, WIDTH // HEADS, dtype=torch.float64)

    def forget(self) -> None:
        self.written = 0

    def tokens(self, latents: Tensor, times: Tensor, start: int) -> Tensor:
        frames = latents.shape[1]
        x = self.enter(latents.double().permute(0, 1, 3, 4, 2).flatten(2, 3))
        place = self.place(torch.arange(start, start + frames))[None, :, None]
        return (x + place + self.time(times.double().view(1, -1, 1, 1) / 1000)).flatten(1, 2)

    def out(self, x: Tensor, frames: int) -> Tensor:
        return self.leave(x).view(1, frames, SIDE, SIDE, CHANNELS).permute(0, 1, 4, 2, 3)

    def forward(self, latents: Tensor, timestep: float, start: int) -> Tensor:
        frames = latents.shape[1]
        x = self.tokens(latents, torch.full((frames,), timestep), start)
        self.written = max(self.written, start + frames)
        for look, mix, kept in zip(self.looks, self.mixes, self.kept, strict=True):
            query, key, value = look(x).view(1, -1, 3, HEADS, WIDTH // HEADS).unbind(2)
            for memory, new in zip(kept, (key, value), strict=True):
                memory[self.window.slots(start, frames)] = new.unflatten(1, (frames, -1))[0]
            keys, values = kept[:, : self.window.seen(self.written)].flatten(1, 2)[:, None]
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
            end = frame // chunk * chunk + chunk
            visible[frame, [one for one in range(end) if one < sink or one >= end - (window - sink)]] = True
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
    model.window = Window(window, sink).checked(chunk)
    stream = ChunkDenoiser(model)
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

    class Recorder:
        def __call__(self, latents, timestep, start):
            passes.append((latents.clone(), timestep, start))
            return torch.full_like(latents, 3.0)

        def forget(self) -> None:
            passes.append("forgotten")

    shape, source = (1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), 10.0)
    stream = ChunkDenoiser(Recorder())
    stream.chunk(shape, VideoSteps((750, 250), 0.6, 7), source)
    assert [one[1:] for one in passes] == [(500.0, 0), (250.0, 0), (0.0, 0)]
    noise = slot_noise(7, 2, shape)
    assert torch.allclose(passes[0][0], 0.6 * noise[0] + 0.4 * source)
    assert torch.allclose(passes[1][0], 0.75 * 3 + 0.25 * noise[1])
    assert torch.equal(passes[2][0], torch.full(shape, 3.0))
    stream.chunk(shape, VideoSteps((750,), 0.6, 7, most_frames=2), source)
    assert stream.start == 2
    passes.clear()
    stream.chunk(shape, VideoSteps((750,), 0.6, 7, most_frames=2), source)
    assert (passes[0], passes[-1][2], stream.start) == ("forgotten", 0, 1)  # the table of positions is at its end
    passes.clear()
    ChunkDenoiser(Recorder(), writes_clean=False).chunk(shape, VideoSteps((750, 250), 0.6, 7), source)
    assert [one[1] for one in passes] == [500.0, 250.0]


def test_a_window_keeps_the_first_and_the_last() -> None:
    window, slots = Window(4, 1), [-1] * 4
    for frame in range(7):
        (slot,) = window.slots(frame, 1)
        slots[slot] = frame
    assert sorted(slots) == [0, 4, 5, 6]
    assert window.slots(5, 2) == [2, 3]
    assert [window.seen(end) for end in (1, 4, 9)] == [1, 4, 4]
    with pytest.raises(ConfigError, match="a window of 2 frames cannot keep the first 2 beside a chunk of 1"):
        Window(2, 2).checked(1)


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


@pytest.mark.parametrize(("size", "first"), [(4, 1), (12, 9), (4, 4)])
def test_a_ring_gives_every_frame_after_its_delay(size: int, first: int) -> None:
    ring, out = ChunkRing(size, first), []
    for number in range(3 * size):
        chunk = ring.push(torch.tensor(number))
        if chunk is not None:
            ring.put(chunk)
        out.append(ring.pop())
    assert out[: first - 1] == [None] * (first - 1)
    late = [number - int(frame) for number, frame in enumerate(out) if frame is not None]
    assert (max(late), late[-1]) == (ring.delay_frames, ring.delay_frames)
    shown = [int(frame) for frame in out if frame is not None]
    assert sorted(set(shown)) == list(range(max(shown) + 1)), "every frame, in order"
    assert shown == sorted(shown)
    ring.reset()
    assert int(ring.pop()) == shown[-1]  # the last one is held, nothing old follows
    assert ring.is_empty
    assert [ring.push(torch.tensor(0)) is not None for _ in range(first)] == [False] * (first - 1) + [True]
