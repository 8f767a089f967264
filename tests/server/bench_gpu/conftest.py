"""The stand-ins for ComfyUI that accelerated nodes import, and what a bench says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from comfystream.catalog import standin


@pytest.fixture(autouse=True, scope="module")
def _names_of_comfyui() -> Iterator[None]:
    standin.install(standin.Folders())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def said() -> list[str]:
    return []
