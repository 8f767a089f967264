"""A Wan transformer as a causal one: diffusers' modules and weights, time per frame, remembered keys and values.

Keys are kept *after* their rotation by the frame's own index in the stream. A score depends only on the difference of
two positions, so dropping a frame between the sink and the latest ones changes no other entry, the order of the entries
does not matter, and a ring in buffers that never move will do: nothing is rotated again and nothing is shifted. The
price is that the index must stay below the length of the position table; the stream begins anew before that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from .rotary import rotated

__all__ = ["CausalStep", "text_memory"]


def _wide(x: Tensor) -> Tensor:
    """Norms, gates and modulation are computed in float32 at least, as the model was trained."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _normed(x: Tensor, norm: Any) -> Tensor:
    """A layer norm in the precision of its input; diffusers' own goes by float32 even from float64."""
    if not isinstance(norm, nn.LayerNorm):
        return x
    weight, bias = (None if part is None else part.to(x.dtype) for part in (norm.weight, norm.bias))
    return layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def text_memory(transformer: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What the cross-attention of all blocks sees of a prompt; computed once per prompt.

    Args:
        transformer: diffusers' WanTransformer3DModel.
        tokens: [1, tokens, text width].

    Returns:
        Keys and values, [blocks, heads, tokens, head width] each.
    """
    told = transformer.condition_embedder.text_embedder(tokens)
    pairs = []
    for block in transformer.blocks:
        attention = block.attn2
        parts = attention.norm_k(attention.to_k(told)), attention.to_v(told)
        pairs.append([part[0].unflatten(-1, (attention.heads, -1)).transpose(0, 1) for part in parts])
    keys, values = zip(*pairs, strict=True)
    return torch.stack(keys), torch.stack(values)


class CausalStep(nn.Module):
    """One pass over a chunk: predicts the flow and writes the chunk's keys and values into its slots.

    All that changes is an input, and all shapes are fixed, so that a CUDA graph or a compiler can take it.

    Args:
        transformer: diffusers' WanTransformer3DModel; its weights are shared.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        cosine: Tensor,
        sine: Tensor,
        slots: Tensor,
        keys: Tensor,
        values: Tensor,
        text_keys: Tensor,
        text_values: Tensor,
        bias: Tensor | None = None,
        seen: int | None = None,
    ) -> Tensor:
        """The pass.

        Args:
            latents: [1, frames, channels, height, width].
            timestep: [frames], 0 (clean) to 1000.
            cosine, sine: rotations, [frames * tokens, head width / 2].
            slots: [frames], int64: where in the window the chunk's frames are kept.
            keys, values: [blocks, window, tokens, heads, head width]; the chunk's slots are overwritten.
            text_keys, text_values: of `text_memory`.
            bias: [window], added to the scores of a slot's tokens; -inf hides it.
            seen: so many slots from the first on hold something; None where all do.

        Returns:
            The flow, in the shape of the latents.
        """
        frames, made = latents.shape[1], self.transformer
        x = made.patch_embedding(latents.transpose(1, 2))
        grid = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2).contiguous()
        time, modulation = self._times(timestep)
        mask = None if bias is None else bias[:seen].repeat_interleave(grid.numel()).to(x.dtype)[None, None, None]
        for number, block in enumerate(made.blocks):
            memory = keys[number], values[number]
            shift, scale, gate, shift2, scale2, gate2 = self._modulation(block.scale_shift_table, modulation)
            look = self._modulated(x, block.norm1, shift, scale, frames)
            looked = self._look_back(block.attn1, look, cosine, sine, slots, memory, mask, seen)
            x = self._gated(x, looked, gate, frames)
            told = _normed(_wide(x), block.norm2).to(x.dtype)
            x = x + self._read(block.attn2, told, text_keys[number], text_values[number])
            mixed = block.ffn(self._modulated(x, block.norm3, shift2, scale2, frames))
            x = self._gated(x, mixed, gate2, frames)
        return self._leave(x, time, frames, grid)

    def _times(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The time's embedding [frames, width], and what blocks make of it, [frames, 6, width]."""
        embedder = self.transformer.condition_embedder
        dtype = embedder.time_proj.weight.dtype
        time = embedder.time_embedder(embedder.timesteps_proj(timestep).to(dtype))
        return time, embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1))

    @staticmethod
    def _modulation(table: Tensor, time: Tensor) -> tuple[Tensor, ...]:
        """Shifts, scales and gates, [frames, 1, width] each."""
        return (_wide(table) + _wide(time)).unsqueeze(2).unbind(1)

    @staticmethod
    def _modulated(x: Tensor, norm: Any, shift: Tensor, scale: Tensor, frames: int) -> Tensor:
        parts = _normed(_wide(x), norm).unflatten(1, (frames, -1))
        return (parts * (1 + scale) + shift).flatten(1, 2).to(x.dtype)

    @staticmethod
    def _gated(x: Tensor, change: Tensor, gate: Tensor, frames: int) -> Tensor:
        return (_wide(x) + (_wide(change).unflatten(1, (frames, -1)) * gate).flatten(1, 2)).to(x.dtype)

    @staticmethod
    def _look_back(
        attention: Any,
        x: Tensor,
        cosine: Tensor,
        sine: Tensor,
        slots: Tensor,
        memory: tuple[Tensor, Tensor],
        mask: Tensor | None,
        seen: int | None,
    ) -> Tensor:
        """Self-attention over what is remembered, the chunk itself included."""
        heads = attention.heads
        query = rotated(attention.norm_q(attention.to_q(x)).unflatten(-1, (heads, -1)), cosine, sine)
        key = rotated(attention.norm_k(attention.to_k(x)).unflatten(-1, (heads, -1)), cosine, sine)
        value = attention.to_v(x).unflatten(-1, (heads, -1))
        frames = slots.shape[0]
        for kept, new in zip(memory, (key, value), strict=True):
            kept.index_copy_(0, slots, new[0].unflatten(0, (frames, -1)))
        keys, values = (kept[:seen].flatten(0, 1).transpose(0, 1)[None] for kept in memory)
        found = scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=mask)
        return attention.to_out[0](found.transpose(1, 2).flatten(2))

    @staticmethod
    def _read(attention: Any, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Cross-attention to the prompt."""
        query = attention.norm_q(attention.to_q(x)).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        found = scaled_dot_product_attention(query, keys[None], values[None])
        return attention.to_out[0](found.transpose(1, 2).flatten(2))

    def _leave(self, x: Tensor, time: Tensor, frames: int, grid: torch.Size) -> Tensor:
        """Tokens to latents."""
        made = self.transformer
        shift, scale = (_wide(made.scale_shift_table) + _wide(time)[:, None]).unsqueeze(2).unbind(1)
        x = made.proj_out(self._modulated(x, made.norm_out, shift, scale, frames))
        _, high, wide = made.config.patch_size
        parts = x.unflatten(1, (frames, *grid)).unflatten(-1, (high, wide, -1))  # [1, f, h, w, high, wide, channels]
        return parts.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
