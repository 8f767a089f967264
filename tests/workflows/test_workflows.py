"""Every workflow in `workflows/` is described, checks without a problem, and makes of both clips what it made before.

The golden pictures are small copies of results that a person has looked at. After a wanted change:
`UPDATE_GOLDEN=1 make test ARGS="-k golden"`, then look at what changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from PIL import Image

from comfystream.engine.local import LocalEngine
from comfystream.engine.protocol import FailPolicy, RunnerOptions
from comfystream.frames import AudioFrame, Frame, TextCue, VideoFrame
from comfystream.workflow.bind import bind, modalities
from comfystream.workflow.read import read_workflow

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CLIPS = {"demo": 66, "portrait": 30}  # name -> number of the frame that is looked at
RATE = 48_000
DEADLINE_S = 60
WIDTH = 96
MOST_DIFFERENCE = 0.5  # mean over all pixels, of 255: another processor rounds differently


def path_of(name: str) -> Path:
    return next(path for path in FOLDER.glob(f"{name}.*") if path.suffix != ".yaml")


def sidecar(name: str) -> dict:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))


# What needs models is checked here and not run; tests/nodes/streamdiffusion runs the nodes on tiny ones.
WITH_MODELS = [name for name in NAMES if sidecar(name)["models"]]
PICTURES = [name for name in NAMES if "video" in sidecar(name)["modality"]["gives"] and name not in WITH_MODELS]
LISTS = ("models.yaml", "models-acceleration.yaml", "models-ipadapter.yaml", "models-streamdiffusion.yaml")


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def clips() -> dict[str, av.VideoFrame]:
    """One picture of each clip."""
    pictures = {}
    for name, wanted in CLIPS.items():
        with av.open(str(FOLDER / f"assets/{name}.mp4")) as clip:
            pictures[name] = next(frame for number, frame in enumerate(clip.decode(video=0)) if number == wanted)
    return pictures


def run(engine: LocalEngine, name: str, *inputs: Frame, size: tuple[int, int] = (64, 64)) -> list[Frame]:
    """What a workflow makes of some input; one tick of the clock if it takes none."""
    outputs: list[Frame] = []
    options = RunnerOptions(live=False, on_error=FailPolicy.STOP, clock_ticks=1)
    runner = engine.open(options, outputs.append, lambda event: None)
    revision = runner.prepare(read_workflow(path_of(name), engine.host.catalog), size).result(DEADLINE_S)
    runner.activate(revision)
    for frame in inputs:
        if ("video" if isinstance(frame, VideoFrame) else "audio") in revision.takes:
            runner.submit(frame)
    assert runner.finish(DEADLINE_S)
    assert runner.stats().failed == 0
    runner.close()
    return outputs


def tone(number: int, frequency: float = 440.0) -> AudioFrame:
    count = RATE // 2
    times = (np.arange(count) + number * count) / RATE
    samples = 0.5 * np.sin(2 * np.pi * frequency * times).astype(np.float32)
    return AudioFrame(number, number * count, Fraction(1, RATE), samples[None], RATE)


def test_there_are_enough_of_them_in_every_form() -> None:
    assert len(NAMES) >= 14
    files = {path.stem for path in FOLDER.iterdir() if path.suffix in (".json", ".png")}
    assert files == set(NAMES), "each workflow has a sidecar, and each sidecar a workflow"
    subgraphs = [path for path in FOLDER.glob("*.json") if '"subgraphs"' in path.read_text("utf-8")]
    assert len(subgraphs) >= 2
    assert list(FOLDER.glob("*.png"))


@pytest.mark.parametrize("name", NAMES)
def test_the_sidecar_tells_what_it_is(name: str, engine: LocalEngine) -> None:
    about = sidecar(name)
    assert set(about) - {"presets"} == {"title", "description", "modality", "models", "expected"}
    assert all(isinstance(about[key], str) and about[key] for key in ("title", "description", "expected"))
    configs = [yaml.safe_load((FOLDER.parent / "configs" / file).read_text("utf-8"))["models"] for file in LISTS]
    assert set(about["models"]) <= {key for models in configs for key in models}, "fetch models knows them"
    assert all(preset and isinstance(preset, dict) for preset in about.get("presets", {}).values())
    flags = modalities(bind(read_workflow(path_of(name), engine.host.catalog)))
    assert set(about["modality"]["takes"]) == {kind for kind, flag in flags.items() if flag["input"]}
    assert set(about["modality"]["gives"]) == {kind for kind, flag in flags.items() if flag["output"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_check_finds_nothing(name: str, engine: LocalEngine) -> None:
    workflow = read_workflow(path_of(name), engine.host.catalog)
    found = [str(problem) for problem in (*workflow.warnings, *engine.check(workflow))]
    if name in WITH_MODELS:  # a list of files to choose from is empty where the models are not fetched
        words = ("is a model or file missing?", "there is no depth model")
        found = [text for text in found if not any(one in text for one in words)]
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_s_readme_lists_it(name: str) -> None:
    assert f"[{path_of(name).name}]({path_of(name).name})" in (FOLDER / "README.md").read_text("utf-8")


def small(frame: VideoFrame) -> Image.Image:
    picture = frame.image.to_image()
    height = round(picture.height * WIDTH / picture.width)
    return picture.resize((WIDTH, height), Image.Resampling.BOX)


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", PICTURES)
def test_golden_frame(name: str, clip: str, engine: LocalEngine, clips: dict[str, av.VideoFrame]) -> None:
    source = VideoFrame(0, 7, Fraction(1, 30), clips[clip])
    outputs = run(engine, name, source, tone(0), size=(source.image.width, source.image.height))
    frame = next(frame for frame in outputs if isinstance(frame, VideoFrame))
    if bind(read_workflow(path_of(name), engine.host.catalog)).inputs:
        assert (frame.id, frame.pts * frame.time_base) == (0, Fraction(7, 30))
    made, file = small(frame), GOLDEN / f"{name}.{clip}.png"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        GOLDEN.mkdir(exist_ok=True)
        made.save(file, optimize=True)
    with Image.open(file) as golden:
        found = difference(made, golden.convert("RGB"))
    assert found <= MOST_DIFFERENCE, f"{name} on {clip}: {found:.2f} of 255 away from {file.name}"


def test_golden_frames_differ_from_each_other() -> None:
    """The measure can tell every effect from every other; three of them leave the picture alone on purpose."""
    unchanged = {"passthrough", "caption", "upscale"}
    same_effect = {frozenset(("invert", "picture_and_sound"))}
    pictures = {name: Image.open(GOLDEN / f"{name}.demo.png").convert("RGB") for name in PICTURES}
    for one, picture in pictures.items():
        for other, second in pictures.items():
            if one < other and picture.size == second.size and {one, other} - unchanged:
                if frozenset((one, other)) in same_effect:
                    continue
                assert difference(picture, second) > MOST_DIFFERENCE, f"{one} and {other} look the same"


def sound_of(outputs: list[Frame]) -> np.ndarray:
    return np.concatenate([frame.samples[0] for frame in outputs if isinstance(frame, AudioFrame)])


def test_pitch_makes_the_voice_higher(engine: LocalEngine) -> None:
    outputs = run(engine, "pitch", *(tone(number) for number in range(4)))
    samples = sound_of(outputs)[RATE // 2 :]
    loudest = np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * RATE / len(samples)
    assert loudest == pytest.approx(440 * 2 ** (4 / 12), rel=0.02)


def test_picture_and_sound_makes_the_sound_quieter(engine: LocalEngine, clips: dict[str, av.VideoFrame]) -> None:
    source = VideoFrame(0, 0, Fraction(1, 30), clips["demo"])
    outputs = run(engine, "picture_and_sound", source, tone(0), tone(1))
    assert np.abs(sound_of(outputs)).max() == pytest.approx(0.5 * 10 ** (-9 / 20), rel=0.01)


def test_caption_says_the_size(engine: LocalEngine, clips: dict[str, av.VideoFrame]) -> None:
    outputs = run(engine, "caption", VideoFrame(0, 0, Fraction(1, 30), clips["portrait"]))
    assert [frame.text for frame in outputs if isinstance(frame, TextCue)] == ["This picture is 360 x 640 pixels"]


def test_upscale_and_rotate_change_the_size(engine: LocalEngine, clips: dict[str, av.VideoFrame]) -> None:
    source = VideoFrame(0, 0, Fraction(1, 30), clips["portrait"])
    sizes = {}
    for name in ("upscale", "rotate"):
        outputs = run(engine, name, source)
        picture = next(frame for frame in outputs if isinstance(frame, VideoFrame)).image
        sizes[name] = picture.width, picture.height
    assert sizes == {"upscale": (720, 1280), "rotate": (640, 360)}
