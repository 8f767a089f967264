"""A causal transformer with the memory of one stream: buffers that are made once and never move."""

from __future__ import annotations

import torch
from torch import Tensor

from comfystream.accel.accelerate import How, accelerate
from comfystream.accel.runner import Runner
from comfystream.accel.spec import ModelSpec, TensorSpec
from comfystream.errors import AssetError

from ..core.transfer import brought
from ..core.video import Window
from .rotary import RotaryTable
from .transformer import CausalStep, text_memory

__all__ = ["ACCELERATIONS", "CausalWan", "how_of"]

ACCELERATIONS = {"none": "eager", "cuda-graph": "cuda-graph", "inductor": "inductor"}
PRECISIONS = {"float16": "fp16", "bfloat16": "bf16"}


def how_of(acceleration: str, device: torch.device) -> How:
    """How the parts of a video model are run. Engines are not kept: what they write into is the stream's memory.

    Raises:
        AssetError: it is not offered for video.
    """
    if acceleration not in ACCELERATIONS:
        raise AssetError(
            f"acceleration {acceleration!r} is not available for video; there is: {', '.join(ACCELERATIONS)}",
            code="backend_missing",
            hint="set acceleration to none to run in PyTorch; a slower backend is never taken silently",
        )
    return How(ACCELERATIONS[acceleration], str(device), keeps_engine=False)


def spec_of(name: str, inputs: dict[str, Tensor], output: str, dtype: torch.dtype) -> ModelSpec:
    """A model with fixed shapes, as `accelerate` wants it described."""
    specs = tuple(TensorSpec(key, str(one.dtype)[6:], tuple(one.shape)) for key, one in inputs.items())
    return ModelSpec(name, specs, (output,), PRECISIONS.get(str(dtype)[6:], "fp32"))


class CausalWan:
    """`core.video.CausalModel` for one stream of one picture size. Used by one thread.

    Args:
        step: the transformer; shared by all streams of a model, so that it is compiled once.
        chunk: latent frames per chunk.
        window: what a chunk looks at.
        size: (height, width) of latents.
        tokens: of a prompt.
        acceleration: one of `ACCELERATIONS`. While the window fills, passes run without it: they are of other shapes.
    """

    def __init__(
        self,
        step: CausalStep,
        chunk: int,
        window: Window,
        size: tuple[int, int],
        tokens: int,
        acceleration: str = "none",
    ) -> None:
        self._window, self._chunk = window.checked(chunk), chunk
        self._step, self._transformer = step, step.transformer
        weight = self._transformer.proj_out.weight
        self._device, self._dtype = weight.device, weight.dtype
        config = self._transformer.config
        _, high, wide = config.patch_size
        grid = size[0] // high, size[1] // wide
        wide_type = torch.promote_types(self._dtype, torch.float32)
        length = config.rope_max_seq_len
        self._table = RotaryTable(config.attention_head_dim, length, *grid, chunk, self._device, wide_type)
        self._buffers = self._make_buffers(size, grid, tokens, wide_type)
        self._how = how_of(acceleration, self._device)
        self._runner: Runner | None = None
        self._written, self._offset, self._bias = 0, 0, 1.0

    @property
    def most_frames(self) -> int:
        """Latent frames that have a position."""
        return self._table.length

    def _make_buffers(
        self, size: tuple[int, int], grid: tuple[int, int], text: int, wide: torch.dtype
    ) -> dict[str, Tensor]:
        config, frames, tokens = self._transformer.config, self._chunk, grid[0] * grid[1]
        heads, width, blocks = config.num_attention_heads, config.attention_head_dim, config.num_layers
        memory = (blocks, self._window.frames, tokens, heads, width)

        def zeros(*shape: int, dtype: torch.dtype = self._dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._device)

        return {
            "latents": zeros(1, frames, config.in_channels, *size),
            "timestep": zeros(frames, dtype=torch.float32),
            "cosine": zeros(frames * tokens, width // 2, dtype=wide),
            "sine": zeros(frames * tokens, width // 2, dtype=wide),
            "slots": torch.arange(frames, device=self._device),
            "keys": zeros(*memory),
            "values": zeros(*memory),
            "text_keys": zeros(blocks, heads, text, width),
            "text_values": zeros(blocks, heads, text, width),
        }

    def tell(self, tokens: Tensor) -> None:
        """Use another prompt from the next pass on; what is remembered of earlier chunks stays.

        Args:
            tokens: [1, tokens, width].
        """
        keys, values = text_memory(self._transformer, tokens.to(self._device, self._dtype))
        self._buffers["text_keys"].copy_(keys)
        self._buffers["text_values"].copy_(values)

    def trust(self, bias: float) -> None:
        """How much weight remembered frames have, the sink aside: 1 as trained, less lets errors fade.

        Args:
            bias: above 0, to 1. Turning it on or off makes another runner.
        """
        if (bias == 1.0) != ("bias" not in self._buffers):
            self._runner = None
            if bias == 1.0:
                del self._buffers["bias"]
            else:
                frames = self._window.frames
                self._buffers["bias"] = torch.zeros(frames, dtype=torch.float32, device=self._device)
        self._bias = bias

    def prepare(self) -> None:
        """Have it compiled or recorded now; nothing to do where torch runs it as it is."""
        if self._how.backend != "eager":
            self._ready_runner()

    @property
    def place(self) -> str:
        """What it is run by once the window is full, for people."""
        return self._runner.place if self._runner is not None else "video transformer (eager)"

    def forget(self) -> None:
        """Forget all chunks; the prompt stays."""
        self._written = self._offset = 0

    def recall(self, context: Tensor, start: int) -> None:
        """Forget all chunks and look at these clean ones anew, at the first positions, before a chunk is made.

        Args:
            context: [1, frames, channels, height, width]; together with a chunk, no more than the window.
            start: index of the chunk's first frame.
        """
        self.forget()
        count = context.shape[1]
        if count + self._chunk > self._window.frames:
            raise ValueError(f"{count} frames beside a chunk of {self._chunk} in a window of {self._window.frames}")
        self._pass(context, 0.0, 0)
        self._offset = start - count

    def __call__(self, latents: Tensor, timestep: float, start: int) -> Tensor:
        """See `CausalModel`."""
        latents = brought(latents, self._device, self._dtype)
        flow = self._pass(latents, timestep, start - self._offset)
        return latents - timestep / 1000 * flow

    def _pass(self, latents: Tensor, timestep: float, place: int) -> Tensor:
        """The flow. Its buffer is written again by the next pass."""
        frames = latents.shape[1]
        self._written = max(self._written, place + frames)
        seen = self._window.seen(self._written)
        slots = self._window.slots(place, frames)
        cosine, sine = self._table.of_chunk(place, frames)
        given = {
            "latents": latents,
            "timestep": torch.full((frames,), timestep),
            "cosine": cosine,
            "sine": sine,
            "slots": torch.tensor(slots),
        }
        if "bias" in self._buffers:
            self._buffers["bias"].copy_(self._biases(slots), non_blocking=True)
        if frames == self._chunk and seen == self._window.frames:
            runner = self._ready_runner()
            for name, value in given.items():
                runner.put(name, value)
            runner.enqueue()
            return runner.outputs["flow"]
        kept = {name: self._buffers[name] for name in self._buffers if name not in given}
        moved = {name: brought(value, self._device) for name, value in given.items()}
        return self._step(**moved, **kept, seen=seen)

    def _biases(self, slots: list[int]) -> Tensor:
        """Of each slot: remembered frames beyond the sink count less than the chunk itself."""
        own = {*slots, *range(self._window.sink)}
        weights = [1.0 if slot in own else self._bias for slot in range(self._window.frames)]
        return torch.tensor(weights).log()

    def _ready_runner(self) -> Runner:
        """The runner for a full window. Its inputs take the place of the buffers, with what was in them."""
        if self._runner is None:
            before = self._buffers
            spec = spec_of("video transformer", before, "flow", self._dtype)
            self._runner = accelerate(self._step, spec, self._how).runner
            for name, value in before.items():
                self._runner.inputs[name].copy_(value)
            self._buffers = self._runner.inputs
        return self._runner
