"""`comfystream run` on real files: what comes out."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image


def test_video_goes_through_the_graph_and_sound_stays_in_sync(comfystream, chain, clip, tmp_path, watch):
    ended = comfystream("run", chain(("ImageInvert", {})), "-i", clip, "-o", tmp_path / "out.mp4")
    assert (ended.code, ended.errors) == (0, [])
    before, after = watch(clip), watch(tmp_path / "out.mp4")
    assert after.times == before.times
    assert after.luma == pytest.approx([255 - luma for luma in before.luma], abs=4)
    assert after.click_s == before.click_s == pytest.approx(0.5, abs=0.03)
    assert "25 frames" in ended.out
    assert "ImageInvert" in ended.out


def test_what_is_built_before_the_first_frame_is_told(comfystream, save, clip, tmp_path):
    packs = tmp_path / "packs"
    shutil.copytree(Path(__file__).parent.parent / "engine" / "testing_pack", packs / "testing_pack")
    builder = ("TestBuilds", {"engines": 2, "number": 0.5, "steps": 60})
    fill = ("TestFill", {"like": ["in", 0], "number": ["builder", 0]})
    graph = save(
        {"in": ("LoadTensor", {}), "builder": builder, "fill": fill, "out": ("SaveTensor", {"images": ["fill", 0]})}
    )
    ended = comfystream("run", graph, "-i", clip, "-o", tmp_path / "out.mp4", "--nodes", packs, "--frames", "3")
    assert ended.code == 0
    assert "comfystream: building engine 1/2 (fake)" in ended.err


def test_size_of_the_result_follows_the_graph(comfystream, chain, clip, tmp_path, watch):
    graph = chain(("ImageScaleBy", {"upscale_method": "bilinear", "scale_by": 2.0}))
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "out.mp4", "-q").code == 0
    assert watch(tmp_path / "out.mp4").size == (128, 96)


def test_a_graph_without_nodes_converts_nothing(comfystream, chain, clip, tmp_path, watch):
    report = tmp_path / "report.json"
    assert comfystream("run", chain(), "-i", clip, "-o", tmp_path / "out.mp4", "--report", report, "-q").code == 0
    stages = {stage["name"]: stage for stage in json.loads(report.read_text())["stages"]}
    assert stages["convert"]["total_ms"] == 0
    assert stages["encode"]["total_ms"] > 0
    assert watch(tmp_path / "out.mp4").luma == pytest.approx(watch(clip).luma, abs=2)


def test_size_fps_and_values_from_the_command_line(comfystream, chain, clip, tmp_path, watch):
    graph = chain(("ImageScaleBy", {"upscale_method": "bilinear", "scale_by": 2.0}))
    flags = ("--size", "32x32", "--fit", "fill", "--fps", "10", "--set", "ImageScaleBy.scale_by=3")
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "out.mp4", "-q", *flags).code == 0
    seen = watch(tmp_path / "out.mp4")
    assert seen.size == (96, 96)
    assert seen.times == pytest.approx([n / 10 for n in range(10)])


def test_only_so_many_frames(comfystream, chain, clip, tmp_path, watch):
    assert comfystream("run", chain(), "-i", clip, "-o", tmp_path / "out.mp4", "-q", "--frames", "5").code == 0
    seen = watch(tmp_path / "out.mp4")
    assert len(seen.times) == 5
    assert seen.samples is not None
    assert seen.samples.shape[1] < 48_000 // 2


def test_a_workflow_without_an_input_runs_for_a_time(comfystream, save, tmp_path, watch):
    image = {"width": 48, "height": 32, "batch_size": 1, "color": 0xFF0000}
    graph = save({"1": ("EmptyImage", image), "2": ("SaveTensor", {"images": ["1", 0]})})
    assert comfystream("run", graph, "-o", tmp_path / "o.mp4", "-q", "--duration", "0.5", "--fps", "24").code == 0
    seen = watch(tmp_path / "o.mp4")
    assert (seen.size, len(seen.times)) == ((48, 32), 12)
    assert seen.times[-1] == pytest.approx(11 / 24, abs=0.001)


def test_sound_that_is_heard_but_not_given_is_copied_and_text_goes_to_subtitles(
    comfystream, save, clip, tmp_path, watch, trouble
):
    graph = save(
        {
            "1": ("LoadAudioTensor", {"buffer_size": 250.0}),
            "2": ("Hear", {"audio": ["1", 0]}),
            "3": ("SaveTextTensor", {"data": ["2", 0]}),
        }
    )
    out, text = tmp_path / "o.mp4", tmp_path / "said.srt"
    ended = comfystream("run", graph, "-i", clip, "-o", out, "--text", text, "--nodes", trouble)
    assert (ended.code, ended.errors) == (0, [])
    assert "00:00:00,250 --> " in text.read_text() or "00:00:00,000 --> 00:00:01,000" in text.read_text()
    assert "12000 samples" in text.read_text()
    assert watch(out).click_s == watch(clip).click_s
    assert "sound as it was" in ended.out
    assert str(text) in ended.out


def test_text_goes_beside_the_result_by_default(comfystream, save, clip, tmp_path):
    graph = save(
        {
            "1": ("LoadTensor", {}),
            "2": ("GetImageSize", {"image": ["1", 0]}),
            "3": ("StringFormat", {"f_string": "{a} wide", "values.a": ["2", 0]}),
            "4": ("SaveTextTensor", {"data": ["3", 0]}),
        }
    )
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "o.mp4", "-q").code == 0
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(25))
    assert rows[3]["text"] == "64 wide"
    assert rows[3]["start"] == pytest.approx(3 / 25)


def test_text_alone(comfystream, save, clip, tmp_path, trouble):
    graph = save(
        {
            "1": ("LoadAudioTensor", {"buffer_size": 500.0}),
            "2": ("Hear", {"audio": ["1", 0]}),
            "3": ("SaveTextTensor", {"data": ["2", 0]}),
        }
    )
    ended = comfystream("run", graph, "-i", clip, "--text", tmp_path / "o.jsonl", "--nodes", trouble)
    assert ended.code == 0
    assert "24000 samples" in (tmp_path / "o.jsonl").read_text()


def test_sound_that_the_graph_gives_replaces_the_old(comfystream, save, clip, tmp_path, watch):
    graph = save(
        {
            "1": ("LoadAudioTensor", {"buffer_size": 100.0}),
            "2": ("AudioAdjustVolume", {"audio": ["1", 0], "volume": -12}),
            "3": ("SaveAudioTensor", {"audio": ["2", 0]}),
        }
    )
    report = tmp_path / "r.json"
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "o.mp4", "-q", "--report", report).code == 0
    before, after = watch(clip), watch(tmp_path / "o.mp4")
    assert abs(after.samples).max() == pytest.approx(abs(before.samples).max() / 4, rel=0.3)
    assert len(after.times) == 25
    assert json.loads(report.read_text())["result"]["sound"] == "encoded"


def test_sound_alone(comfystream, save, clip, tmp_path, watch):
    graph = save({"1": ("LoadAudioTensor", {"buffer_size": 500.0}), "3": ("SaveAudioTensor", {"audio": ["1", 0]})})
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "o.wav", "-q").code == 0
    heard = watch(tmp_path / "o.wav")
    assert heard.times == []
    assert heard.samples is not None


def test_numbered_pictures(comfystream, chain, clip, tmp_path):
    assert comfystream("run", chain(), "-i", clip, "-o", tmp_path / "p_%03d.png", "-q", "--frames", "3").code == 0
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["p_001.png", "p_002.png", "p_003.png"]
    assert Image.open(tmp_path / "p_003.png").size == (64, 48)


def test_realtime_drops_what_is_too_slow_and_keeps_the_times(comfystream, chain, clip, tmp_path, watch, trouble):
    report = tmp_path / "r.json"
    flags = ("--nodes", trouble, "--realtime", "--report", report)
    ended = comfystream("run", chain(("Slow", {"seconds": 0.12})), "-i", clip, "-o", tmp_path / "o.mp4", *flags)
    assert (ended.code, ended.errors) == (0, [])
    told, seen = json.loads(report.read_text()), watch(tmp_path / "o.mp4")
    assert told["dropped"]["newest_wins"] == 25 - len(seen.times) > 5
    assert all(round(time * 25, 3) == round(time * 25) for time in seen.times)
    assert [round(luma) for luma in seen.luma] == sorted(round(luma) for luma in seen.luma)
    assert "Dropped: " in ended.out
    assert "because the graph was busy" in ended.out
    assert seen.click_s == pytest.approx(0.5, abs=0.03)


def test_the_engine_in_a_process_of_its_own_gives_the_same(comfystream, chain, clip, tmp_path, watch):
    graph = chain(("ImageInvert", {}))
    for name in ("thread", "process"):
        ended = comfystream("run", graph, "-i", clip, "-o", tmp_path / f"{name}.mp4", "-q", "--engine", name)
        assert (ended.code, ended.errors) == (0, [])
    assert watch(tmp_path / "process.mp4").luma == watch(tmp_path / "thread.mp4").luma


def test_report_says_what_ran_where_and_how_long(comfystream, chain, clip, tmp_path):
    report = tmp_path / "r.json"
    graph = chain(("ImageInvert", {}), ("ImageBlur", {"blur_radius": 1, "sigma": 1.0}))
    assert comfystream("run", graph, "-i", clip, "-o", tmp_path / "o.mp4", "--report", report, "-q").code == 0
    told = json.loads(report.read_text())
    assert {"comfystream", "python", "torch", "av"} <= told["versions"].keys()
    assert told["machine"]["cores"] >= 1
    assert told["settings"]["source"] == str(clip)
    assert [stage["name"] for stage in told["stages"]] == ["prepare", "decode", "convert", "graph", "encode"]
    by_class = {node["class_type"]: node for node in told["nodes"]}
    assert (by_class["ImageBlur"]["calls"], by_class["ImageInvert"]["calls"]) == (25, 25)
    assert sum(node["share"] for node in told["nodes"]) == pytest.approx(1.0)
    assert (told["result"]["frames"], told["dropped"], told["failed"]) == (25, {}, 0)
    assert told["result"]["size_bytes"] == (tmp_path / "o.mp4").stat().st_size


def test_hold_shows_the_last_good_picture_and_goes_on(comfystream, chain, clip, tmp_path, watch, trouble):
    flags = ("--nodes", trouble, "--on-error", "hold")
    ended = comfystream("run", chain(("FailAfter", {"good": 10})), "-i", clip, "-o", tmp_path / "o.mp4", *flags)
    assert ended.code == 0
    seen = watch(tmp_path / "o.mp4")
    assert len(seen.times) == 25
    assert seen.luma[24] == pytest.approx(seen.luma[9], abs=2)
    assert "15 frames failed" in ended.out
    assert 'node 2 "FailAfter": only 10 are good' in ended.err
