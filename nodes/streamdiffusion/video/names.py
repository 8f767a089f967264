"""The names of tensors in Wan's own files and in diffusers and transformers: the same models, other words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

__all__ = ["autoencoder_pairs", "generator_of", "text_pairs", "transformer_pairs"]

Pair = tuple[str, str]

_ATTENTION = (("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("o.", "to_out.0."), ("norm_", "norm_"))
_OUTER = (
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("head.modulation", "scale_shift_table"),
    ("head.head.", "proj_out."),
)
_RESIDUAL = (
    ("residual.0.", "norm1."),
    ("residual.2.", "conv1."),
    ("residual.3.", "norm2."),
    ("residual.6.", "conv2."),
    ("shortcut.", "conv_shortcut."),
)
_GENERATORS = ("generator_ema.", "generator.")
_WRAPPERS = ("model.diffusion_model.", "diffusion_model.", "model.", "module.", "_fsdp_wrapped_module.")


def generator_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The transformer of a training checkpoint: averaged weights where there are some, without what wrapped it."""
    for prefix in _GENERATORS:
        chosen = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        if chosen:
            break
    else:
        chosen = dict(weights)
    return {_unwrapped(name): value for name, value in chosen.items()}


def _unwrapped(name: str) -> str:
    name = name.replace("_fsdp_wrapped_module.", "").replace("_checkpoint_wrapped_module.", "")
    while prefix := next((one for one in _WRAPPERS if name.startswith(one)), None):
        name = name[len(prefix) :]
    return name


def transformer_pairs(blocks: int) -> list[Pair]:
    """A transformer: (Wan's, diffusers') prefixes."""
    pairs = list(_OUTER)
    for number in range(blocks):
        block = f"blocks.{number}."
        for theirs, ours in (("self_attn.", "attn1."), ("cross_attn.", "attn2.")):
            pairs += ((f"{block}{theirs}{one}", f"{block}{ours}{other}") for one, other in _ATTENTION)
        pairs += ((f"{block}norm3.", f"{block}norm2."), (f"{block}modulation", f"{block}scale_shift_table"))
        pairs += ((f"{block}ffn.0.", f"{block}ffn.net.0.proj."), (f"{block}ffn.2.", f"{block}ffn.net.2."))
    return pairs


def autoencoder_pairs(levels: int, blocks: int) -> list[Pair]:
    """An autoencoder.

    Args:
        levels: how many resolutions.
        blocks: residual ones per resolution of the encoder; the decoder has one more.
    """
    pairs: list[Pair] = [("conv1.", "quant_conv."), ("conv2.", "post_quant_conv.")]
    for half in ("encoder.", "decoder."):
        pairs += ((f"{half}conv1.", f"{half}conv_in."), (f"{half}head.0.", f"{half}norm_out."))
        pairs += ((f"{half}head.2.", f"{half}conv_out."), (f"{half}middle.1.", f"{half}mid_block.attentions.0."))
        for place, number in ((0, 0), (2, 1)):
            pairs += _residual(f"{half}middle.{place}.", f"{half}mid_block.resnets.{number}.")
    for place in range(levels * (blocks + 1) - 1):
        pairs += _residual(f"encoder.downsamples.{place}.", f"encoder.down_blocks.{place}.")
        pairs.append((f"encoder.downsamples.{place}.", f"encoder.down_blocks.{place}."))
    for level in range(levels):
        first = level * (blocks + 2)
        for number in range(blocks + 1):
            theirs, ours = f"decoder.upsamples.{first + number}.", f"decoder.up_blocks.{level}.resnets.{number}."
            pairs += _residual(theirs, ours)
        pairs.append((f"decoder.upsamples.{first + blocks + 1}.", f"decoder.up_blocks.{level}.upsamplers.0."))
    return pairs


def _residual(theirs: str, ours: str) -> Iterator[Pair]:
    return ((theirs + one, ours + other) for one, other in _RESIDUAL)


def text_pairs(blocks: int) -> list[Pair]:
    """UMT5's encoder: (Wan's, transformers') prefixes."""
    pairs: list[Pair] = [("token_embedding.", "shared."), ("norm.", "encoder.final_layer_norm.")]
    for number in range(blocks):
        theirs, ours = f"blocks.{number}.", f"encoder.block.{number}.layer."
        pairs += ((f"{theirs}attn.{one}.", f"{ours}0.SelfAttention.{one}.") for one in "qkvo")
        pairs += (
            (f"{theirs}pos_embedding.embedding.", f"{ours}0.SelfAttention.relative_attention_bias."),
            (f"{theirs}norm1.", f"{ours}0.layer_norm."),
            (f"{theirs}norm2.", f"{ours}1.layer_norm."),
            (f"{theirs}ffn.gate.0.", f"{ours}1.DenseReluDense.wi_0."),
            (f"{theirs}ffn.fc1.", f"{ours}1.DenseReluDense.wi_1."),
            (f"{theirs}ffn.fc2.", f"{ours}1.DenseReluDense.wo."),
        )
    return pairs
