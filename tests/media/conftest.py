from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `import clips`, with pytest's importlib mode

import clips


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of 128x96 at 30 fps with stereo AAC: a flash and a beep on each second."""
    return clips.make_clip(tmp_path_factory.mktemp("clips") / "talk.mp4", count=90, audio="aac")
