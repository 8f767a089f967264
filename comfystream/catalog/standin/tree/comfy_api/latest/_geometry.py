"""Values of the 3D sockets and of SVG: containers, nothing more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

__all__ = ["MESH", "SPLAT", "SVG", "VOXEL", "File3D"]


@dataclass(eq=False)
class VOXEL:
    """A grid of cells."""

    data: Any
    voxel_colors: Any = None
    resolution: Any = None


@dataclass(eq=False)
class SPLAT:
    """Gaussians: positions, scales [B, N, 3], rotations [B, N, 4] (wxyz), opacities [B, N, 1], sh [B, N, K, 3]."""

    positions: Any
    scales: Any
    rotations: Any
    opacities: Any
    sh: Any
    counts: Any = None


@dataclass(eq=False)
class MESH:
    """Triangles: vertices [B, N, 3], faces [B, M, 3], and what is painted on them."""

    vertices: Any
    faces: Any
    uvs: Any = None
    vertex_colors: Any = None
    texture: Any = None
    vertex_counts: Any = None
    face_counts: Any = None
    unlit: bool = False
    normals: Any = None
    metallic_roughness: Any = None
    tangents: Any = None
    normal_map: Any = None
    occlusion_in_mr: bool = False
    material: Any = None
    emissive: Any = None


class SVG:
    """Drawings as XML, one stream each."""

    def __init__(self, data: list[BytesIO]) -> None:
        self.data = data

    def combine(self, other: SVG) -> SVG:
        """These and the other's."""
        return SVG([*self.data, *other.data])

    @staticmethod
    def combine_all(svgs: list[SVG]) -> SVG:
        """All of them."""
        return SVG([drawing for svg in svgs for drawing in svg.data])


class File3D:
    """A 3D file on disk (`source` is a path) or in memory."""

    def __init__(self, source: Any, file_format: str = "") -> None:
        self._source = source
        self.format = (file_format or (Path(source).suffix if isinstance(source, str) else "")).lstrip(".").lower()

    @property
    def is_disk_backed(self) -> bool:
        """Whether it lies on disk."""
        return isinstance(self._source, str)

    def get_source(self) -> Any:
        """The path, or the stream at its start."""
        if not self.is_disk_backed:
            self._source.seek(0)
        return self._source

    def get_bytes(self) -> bytes:
        """The content."""
        source = self.get_source()
        return Path(source).read_bytes() if self.is_disk_backed else bytes(source.read())

    def get_data(self) -> BytesIO:
        """The content as a stream of its own."""
        return BytesIO(self.get_bytes())

    def save_to(self, path: str) -> str:
        """Write it there."""
        if self.is_disk_backed:
            shutil.copyfile(self._source, path)
        else:
            Path(path).write_bytes(self.get_bytes())
        return path
