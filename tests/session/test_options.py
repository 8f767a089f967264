from fractions import Fraction
from pathlib import Path

import pytest

from comfystream.errors import ConfigError
from comfystream.session.options import FileJobOptions


def options(**more):
    return FileJobOptions(source=None, target=Path("out/a.mp4"), **more)


@pytest.mark.parametrize(
    ("given", "ticks"),
    [
        ({"frames": 7}, 7),
        ({"duration_s": 2.0}, 60),
        ({"duration_s": 2.0, "fps": Fraction(24)}, 48),
        ({"duration_s": 2.0, "frames": 7}, 7),
        ({"duration_s": 0.001}, 1),
    ],
)
def test_how_long_a_clocked_workflow_runs(given, ticks):
    assert options(**given).clock_ticks() == ticks


def test_a_clocked_workflow_without_a_length_is_refused_with_what_to_write():
    with pytest.raises(ConfigError, match="--duration 5 or --frames 150"):
        options().clock_ticks()


def test_text_goes_beside_the_result_unless_it_is_named():
    assert options().text_files(["3"]) == [Path("out/a.jsonl")]
    assert options(text=Path("b.srt")).text_files(["3"]) == [Path("b.srt")]
    assert options().text_files([]) == []


def test_several_text_outputs_get_a_file_each():
    assert options(text=Path("b.srt")).text_files(["3", "4:1"]) == [Path("b.3.srt"), Path("b.4-1.srt")]
