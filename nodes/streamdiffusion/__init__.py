"""Diffusion on a live picture: StreamDiffusion's stream batch on diffusers' architectures, and the nodes for it.

`core` holds the algorithms and needs torch alone; `loading` reads models. Importing this costs torch, not diffusers.
"""

from __future__ import annotations

from . import accelerate_node, depth_node, existing_nodes, loader_nodes, sampler_node
from .video import nodes as video_nodes

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

_MODULES = (loader_nodes, accelerate_node, sampler_node, depth_node, existing_nodes, video_nodes)
_NODES = {key: named for module in _MODULES for key, named in module.NODES.items()}

NODE_CLASS_MAPPINGS: dict[str, type] = {key: cls for key, (cls, _) in _NODES.items()}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {key: name for key, (_, name) in _NODES.items()}
