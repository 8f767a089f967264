from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from comfystream.errors import MediaError
from comfystream.frames import TextCue
from comfystream.media.text_sink import TextSink


def cue(number: int, start_ms: int, text: str, duration_ms: int = 0) -> TextCue:
    return TextCue(number, start_ms, Fraction(1, 1000), text, duration_ms)


def written(path: Path, *cues: TextCue) -> str:
    sink = TextSink(path)
    for one in cues:
        sink.write(one)
    assert not path.exists()
    sink.finish()
    assert list(path.parent.iterdir()) == [path]
    return path.read_text(encoding="utf-8")


def test_json_lines(tmp_path: Path) -> None:
    text = written(tmp_path / "out.jsonl", cue(0, 0, "Grüße", 500), cue(9, 500, ""), cue(4, 1500, "two\nlines"))
    assert [json.loads(line) for line in text.splitlines()] == [
        {"start": 0.0, "end": 0.5, "text": "Grüße", "frame": 0},
        {"start": 1.5, "end": None, "text": "two\nlines", "frame": 4},
    ]


def test_the_end_of_a_line_without_a_duration_is_the_beginning_of_the_next(tmp_path: Path) -> None:
    text = written(tmp_path / "out.jsonl", cue(0, 0, "first"), cue(1, 40, "second", 40), cue(2, 80, "third"))
    assert [json.loads(line)["end"] for line in text.splitlines()] == [0.04, 0.08, None]


def test_two_lines_of_one_moment(tmp_path: Path) -> None:
    text = written(tmp_path / "out.jsonl", cue(0, 0, "a"), cue(0, 0, "b"), cue(1, 40, "c", 40))
    assert [(line["text"], line["end"]) for line in map(json.loads, text.splitlines())] == [
        ("a", 0.04),
        ("b", 0.04),
        ("c", 0.08),
    ]


def test_srt(tmp_path: Path) -> None:
    cues = cue(0, 0, "one", 500), cue(1, 3_661_500, "two\n\nlines --> here"), cue(2, 3_662_000, "end")
    text = written(tmp_path / "out.srt", *cues)
    assert text == (
        "1\n00:00:00,000 --> 00:00:00,500\none\n\n"
        "2\n01:01:01,500 --> 01:01:02,000\ntwo\nlines -> here\n\n"
        "3\n01:01:02,000 --> 01:01:04,000\nend\n\n"
    )


def test_vtt(tmp_path: Path) -> None:
    text = written(tmp_path / "out.vtt", cue(0, 250, "hello", 1000))
    assert text == "WEBVTT\n\n00:00:00.250 --> 00:00:01.250\nhello\n\n"


def test_the_same_line_again_lasts_longer(tmp_path: Path) -> None:
    text = written(tmp_path / "out.srt", *(cue(n, n * 100, "same", 100) for n in range(5)), cue(5, 500, "other", 100))
    assert text.count("same") == 1
    assert "00:00:00,000 --> 00:00:00,500\nsame" in text


def test_timed_json_counts_from_its_cue(tmp_path: Path) -> None:
    entries = [
        {"id": 1, "start": "00:00:00,500", "end": "00:00:01,000", "text": "one"},
        {"start": 1.0, "end": 2.25, "text": "two"},
        {"start": 3, "end": 4, "text": " "},
    ]
    text = written(tmp_path / "out.srt", cue(0, 10_000, json.dumps(entries), 3000))
    assert "00:00:10,500 --> 00:00:11,000\none" in text
    assert "00:00:11,000 --> 00:00:12,250\ntwo" in text
    assert text.count("-->") == 2


@pytest.mark.parametrize("text", ["[laughs]", "[1, 2]", "[", '{"a": 1}'])
def test_text_that_only_looks_like_json(tmp_path: Path, text: str) -> None:
    assert f"\n{text}\n" in written(tmp_path / "out.srt", cue(0, 0, text))


def test_warm_up_output_is_left_out(tmp_path: Path) -> None:
    assert written(tmp_path / "out.jsonl", cue(0, 0, '[{"text": "__WARMUP_SENTINEL__"}]')) == ""


def test_bad_names_and_abort(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="text goes into .jsonl, .srt or .vtt"):
        TextSink(tmp_path / "out.txt")
    sink = TextSink(tmp_path / "out.srt")
    sink.write(cue(0, 0, "one"))
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []
