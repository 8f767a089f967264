"""The command in this process (fast) and as a real process, with clips and workflows to run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clip_file import write_clip

from comfystream.catalog.standin import Folders
from comfystream.engine.child import ChildEngine
from comfystream.engine.protocol import EngineOptions

TESTING_PACK = Path(__file__).parent.parent / "engine" / "testing_pack"
PACK = Path(__file__).with_name("trouble_packs")
LIVE = {"class_type": "LoadTensor", "inputs": {}}


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("comfystream: error: ")]


@pytest.fixture
def log_as_it_was() -> Iterator[None]:
    """A command sets the log up for its process: here it would go on writing to an output that is captured no more."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def comfystream(capsys: pytest.CaptureFixture[str], log_as_it_was: None) -> Callable[..., Ended]:
    """Runs the command in this process."""
    from comfystream_server.cli import main

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command as a process of its own."""

    def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        code = "from comfystream_server.cli import main; raise SystemExit(main())"
        command = [sys.executable, "-P", "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, **options)

    return run


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a workflow: node ids to (class, inputs)."""

    def write(nodes: Mapping[str, tuple[str, Mapping[str, Any]]], name: str = "graph.json") -> Path:
        graph = {id: {"class_type": kind, "inputs": dict(inputs)} for id, (kind, inputs) in nodes.items()}
        (tmp_path / name).write_text(json.dumps(graph))
        return tmp_path / name

    return write


@pytest.fixture
def chain(save: Callable[..., Path]) -> Callable[..., Path]:
    """A workflow from LoadTensor to SaveTensor with nodes between: (class, further inputs)."""

    def write(*between: tuple[str, Mapping[str, Any]], name: str = "graph.json") -> Path:
        nodes: dict[str, tuple[str, Mapping[str, Any]]] = {"1": ("LoadTensor", {})}
        for number, (kind, inputs) in enumerate(between, 2):
            nodes[str(number)] = (kind, {"image": [str(number - 1), 0], **inputs})
        nodes["9"] = ("SaveTensor", {"images": [str(len(between) + 1), 0]})
        return save(nodes, name)

    return write


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second, 64x48, 25 fps: each picture is brighter than the one before; sound with a click at half a second."""
    file = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(file)
    return file


@dataclass(frozen=True)
class Watched:
    """What a player sees and hears."""

    times: list[float]
    luma: list[float]
    size: tuple[int, int]
    samples: np.ndarray | None

    @property
    def click_s(self) -> float:
        assert self.samples is not None
        return float(np.argmax(np.abs(self.samples[0]) > 0.3)) / 48_000


@pytest.fixture
def watch() -> Callable[[Path], Watched]:
    """Plays a file to its end."""

    def play(file: Path) -> Watched:
        pictures, sounds = [], []
        with av.open(str(file)) as container:
            for frame in container.decode():
                (pictures if isinstance(frame, av.VideoFrame) else sounds).append(frame)
        heard = [sound for sound in sounds if sound.time >= 0]
        return Watched(
            [float(p.time) for p in pictures],
            [float(p.to_ndarray(format="gray").mean()) for p in pictures],
            (pictures[0].width, pictures[0].height) if pictures else (0, 0),
            np.concatenate([s.to_ndarray() for s in heard], axis=1) if heard else None,
        )

    return play


@pytest.fixture
def trouble() -> Path:
    """A folder of packs with nodes that fail or are slow."""
    return PACK


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildEngine]:
    """An engine process with the testing nodes, for all live tests here."""
    base = tmp_path_factory.mktemp("home")
    (base / "input").mkdir()
    engine = ChildEngine(EngineOptions(packs=(str(TESTING_PACK),), threads=1, folders=Folders(base=str(base))))
    yield engine
    engine.close()
