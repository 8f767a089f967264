from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

HERE = str(Path(__file__).parent)
if HERE not in sys.path:  # test files are imported by path; what they share is imported by name
    sys.path.append(HERE)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny random model of every family, in diffusers' layout."""
    import tiny

    base = tmp_path_factory.mktemp("models")
    return {family: tiny.write_folder(base / family, family) for family in tiny.FAMILIES}


@pytest.fixture(scope="session")
def models(model_folders):
    """The same, loaded."""
    from comfystream_nodes.streamdiffusion.loading.folder import load_folder

    return {family: load_folder(folder) for family, folder in model_folders.items()}


@pytest.fixture(autouse=True)
def _as_the_engine_calls_nodes():
    """Without gradients; on one thread, because these models are too small to share out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)
