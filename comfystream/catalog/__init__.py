"""Where node classes come from: bundled, folders of packs, a ComfyUI checkout."""

from comfystream.catalog.object_info import object_info
from comfystream.catalog.packs import BrokenPack, LoadedPack, PackSource
from comfystream.catalog.registry import CatalogOptions, NodeCatalog, load_catalog
from comfystream.catalog.spec import Catalog, NodeSpec

__all__ = [
    "BrokenPack",
    "Catalog",
    "CatalogOptions",
    "LoadedPack",
    "NodeCatalog",
    "NodeSpec",
    "PackSource",
    "load_catalog",
    "object_info",
]
