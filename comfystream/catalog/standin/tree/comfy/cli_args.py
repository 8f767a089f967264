"""ComfyUI's command line options, at their defaults."""

from __future__ import annotations

from types import SimpleNamespace

__all__ = ["args"]

args = SimpleNamespace(
    base_directory=None,
    cpu=False,
    cuda_device=None,
    default_device=None,
    default_hashing_function="sha256",
    deterministic=False,
    directml=None,
    disable_all_custom_nodes=False,
    disable_metadata=False,
    disable_xformers=True,
    enable_manager=False,
    fast=set(),
    force_channels_last=False,
    force_fp16=False,
    force_fp32=False,
    gpu_only=False,
    highvram=False,
    listen="127.0.0.1",
    lowvram=False,
    multi_user=False,
    normalvram=False,
    novram=False,
    port=8188,
    preview_method="none",
    preview_size=512,
    user_directory=None,
    verbose="INFO",
    whitelist_custom_nodes=[],
)
