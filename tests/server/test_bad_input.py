"""Every kind of bad input: one clear line with the place in it, exit code 2, and nothing half-written."""

import json
import os
import resource
import signal
import threading

import pytest

INVERT = ("ImageInvert", {})


@pytest.fixture
def fails(comfystream, clip, tmp_path):
    """Runs a workflow that must fail; gives the one line of error."""

    def run(graph, *flags, source=clip, code=2, lines=1):
        before = sorted(tmp_path.iterdir())
        ended = comfystream("run", graph, "-i", source, "-o", tmp_path / "out.mp4", *flags)
        assert ended.code == code
        assert "Traceback" not in ended.err
        assert len(ended.errors) == lines
        assert sorted(tmp_path.iterdir()) == before  # no result, no part of one
        return ended.errors[0]

    return run


# --- the machine


@pytest.mark.parametrize("engine", ["thread", "process"])
def test_a_gpu_that_is_named_and_not_there(fails, chain, engine):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    line = fails(chain(INVERT), "--frames-on", "cuda", "--engine", engine)
    assert "frames cannot be on a GPU: " in line
    assert "--frames-on auto or host" in line


# --- the workflow


def test_syntax_error_has_line_and_column(fails, tmp_path):
    (tmp_path / "bad.json").write_text('{\n  "1": {"class_type": "LoadTensor",}\n}')
    assert "bad.json:2:36: JSON syntax error" in fails(tmp_path / "bad.json")


def test_empty_and_missing_workflow(fails, tmp_path):
    (tmp_path / "empty.json").touch()
    assert "empty.json: the file is empty" in fails(tmp_path / "empty.json")
    assert "there is no such file" in fails(tmp_path / "none.json")


def test_cycle(fails, save):
    graph = save(
        {
            "1": ("LoadTensor", {}),
            "2": ("ImageBlend", blend("1", "3")),
            "3": ("ImageInvert", {"image": ["2", 0]}),
            "4": ("SaveTensor", {"images": ["3", 0]}),
        }
    )
    line = fails(graph, lines=2)
    assert "Dependency cycle detected" in line
    assert "2 (ImageBlend)" in line
    assert "3 (ImageInvert)" in line


def blend(first, second):
    return {"image1": [first, 0], "image2": [second, 0], "blend_factor": 0.5, "blend_mode": "normal"}


def test_unknown_node_with_a_suggestion(fails, chain):
    line = fails(chain(("ImageBlurr", {})))
    assert 'node 2 "ImageBlurr" is not installed; did you mean "ImageBlur"' in line


def test_wrong_links(fails, save, chain):
    to_nowhere = save({"1": ("LoadTensor", {}), "2": ("SaveTensor", {"images": ["7", 0]})})
    assert 'node 2 "SaveTensor"' in fails(to_nowhere)
    wrong_type = save(
        {
            "1": ("LoadTensor", {}),
            "2": ("GetImageSize", {"image": ["1", 0]}),
            "3": ("SaveTensor", {"images": ["2", 0]}),
        }
    )
    line = fails(wrong_type)
    assert 'node 3 "SaveTensor": Return type mismatch between linked nodes' in line
    assert "INT" in line


def test_value_out_of_range(fails, chain):
    line = fails(chain(("ImageBlur", {"blur_radius": 99, "sigma": 1.0})))
    assert 'node 2 "ImageBlur": Value 99 bigger than max of 31' in line
    assert "blur_radius takes 1 to 31" in line


def test_every_problem_has_its_line(fails, chain):
    graph = chain(("ImageBlur", {"blur_radius": 99, "sigma": -1.0}), ("ImageBlur", {"blur_radius": 0, "sigma": 1.0}))
    fails(graph, lines=3)


def test_unknown_targets_of_set_with_the_nearest_names(fails, chain):
    graph = chain(("ImageBlur", {"blur_radius": 1, "sigma": 1.0}))
    assert 'did you mean "blur_radius"?' in fails(graph, "--set", "2.blur_radus=3")
    assert 'did you mean "ImageBlur"?' in fails(graph, "--set", "ImageBlr.sigma=3")
    assert "write node.input=value" in fails(graph, "--set", "sigma")
    assert "is linked to node 1" in fails(graph, "--set", "2.image=3")


def test_a_failing_node_ends_the_run_with_node_message_and_frame(fails, chain, trouble):
    line = fails(chain(("FailAfter", {"good": 10})), "--nodes", trouble)
    assert line == 'comfystream: error: node 2 "FailAfter": only 10 are good (at frame 10)'


# --- the input


@pytest.fixture
def cut(clip, tmp_path):
    """A clip that ends in the middle; its index is in front, as players need it."""
    import av

    whole, file = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with av.open(str(clip)) as source, av.open(str(whole), "w", options={"movflags": "+faststart"}) as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    file.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    whole.unlink()
    return file


def test_truncated_video(fails, chain, cut):
    line = fails(chain(INVERT), source=cut)
    assert "cut.mp4 breaks off at 0." in line
    assert "--keep-partial" in line


def test_truncated_video_with_keep_partial(comfystream, chain, cut, tmp_path, watch):
    ended = comfystream("run", chain(INVERT), "-i", cut, "-o", tmp_path / "out.mp4", "--keep-partial")
    assert ended.code == 2
    assert len(ended.errors) == 1
    assert "out.mp4 has what could be read" in ended.errors[0]
    assert 3 < len(watch(tmp_path / "out.mp4").times) < 25


def test_video_without_its_index(fails, chain, clip, tmp_path):
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert "half.mp4 is cut off" in fails(chain(), source=tmp_path / "half.mp4")


def test_empty_no_video_missing_and_folder(fails, chain, tmp_path):
    graph = chain()
    (tmp_path / "empty.mp4").touch()
    assert "empty.mp4 is empty" in fails(graph, source=tmp_path / "empty.mp4")
    assert "graph.json is not a video" in fails(graph, source=graph)
    assert "none.mp4 does not exist" in fails(graph, source=tmp_path / "none.mp4")
    assert "is a folder" in fails(graph, source=tmp_path)


def test_a_stream_that_the_workflow_needs_is_missing(fails, save, tmp_path, request):
    request.getfixturevalue("clip")
    import av
    import numpy as np

    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    graph = save({"1": ("LoadAudioTensor", {"buffer_size": 500.0}), "2": ("SaveAudioTensor", {"audio": ["1", 0]})})
    assert "the workflow takes sound, but the input has none" in fails(graph, source=silent)


# --- the command line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--size", "640"), "WIDTHxHEIGHT"),
        (("--size", "641x480"), "both sides even"),
        (("--fps", "fast"), "is no frame rate"),
        (("--fps", "0"), "out of range"),
        (("--nodes", "nowhere"), "there is no such folder"),
        (("--on-error", "cry"), "cry"),
        (("--frobnicate",), "No such option"),
        (("--crf", "99"), "--crf"),
        (("--text", "said.srt"), "puts out no text"),
    ],
)
def test_flags_that_cannot_be_used(fails, chain, flags, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert said in fails(chain(), *flags)


def test_files_that_exist_are_kept_unless_told_otherwise(comfystream, chain, clip, tmp_path, watch):
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    ended = comfystream("run", chain(), "-i", clip, "-o", out)
    assert (ended.code, out.read_text()) == (2, "precious")
    assert "--overwrite" in ended.errors[0]
    assert comfystream("run", chain(), "-i", clip, "-o", out, "--overwrite", "-q").code == 0
    assert len(watch(out).times) == 25


def test_a_failing_run_leaves_the_old_file_alone(comfystream, chain, clip, tmp_path, trouble):
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    graph = chain(("FailAfter", {"good": 3}))
    assert comfystream("run", graph, "-i", clip, "-o", out, "-y", "--nodes", trouble).code == 2
    assert out.read_text() == "precious"
    assert not list(tmp_path.glob(".*"))


def test_the_input_is_never_overwritten(comfystream, chain, clip):
    before = clip.read_bytes()
    ended = comfystream("run", chain(), "-i", clip, "-o", clip, "--overwrite")
    assert (ended.code, clip.read_bytes()) == (2, before)
    assert "is the input itself" in ended.errors[0]


def test_no_input_no_output_no_folder_no_length(comfystream, chain, save, clip, tmp_path):
    live = chain()
    assert "name it: -i FILE" in comfystream("run", live, "-o", tmp_path / "o.mp4").err
    assert "name it: -o FILE" in comfystream("run", live, "-i", clip).err
    assert "there is no folder" in comfystream("run", live, "-i", clip, "-o", tmp_path / "a/o.mp4").err
    assert f"{tmp_path} is a folder (name a file in it)" in comfystream("run", live, "-i", clip, "-o", tmp_path).err
    assert "cannot write" in comfystream("run", live, "-i", clip, "-o", tmp_path / "o.xyz").err
    image = {"width": 32, "height": 32, "batch_size": 1, "color": 0}
    still = save({"1": ("EmptyImage", image), "2": ("SaveTensor", {"images": ["1", 0]})}, "still.json")
    assert "--duration 5" in comfystream("run", still, "-o", tmp_path / "o.mp4").err
    assert "would not see the input" in comfystream("run", still, "-i", clip, "-o", tmp_path / "o.mp4").err


def test_debug_shows_where(comfystream, chain, clip, tmp_path, trouble):
    graph = chain(("FailAfter", {"good": 3}))
    flags = ("--nodes", trouble, "--debug")
    ended = comfystream("run", graph, "-i", clip, "-o", tmp_path / "o.mp4", *flags)
    assert "Traceback" in ended.err
    assert "trouble.py" in ended.err


# --- as a real process: the disk, Ctrl-C


def small_disk():
    """Files end at 20 kB for the process; writing on gives an error, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_disk_that_fills_up(start, chain, tmp_path):
    from itertools import cycle

    import av
    import numpy as np

    noisy, random = tmp_path / "noisy.mp4", np.random.default_rng(1)
    pictures = cycle([random.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(5)])
    with av.open(str(noisy), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _, pixels in zip(range(25), pictures, strict=False):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    process = start("run", chain(), "-i", noisy, "-o", "out.mp4", preexec_fn=small_disk)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "out.mp4: no space left" in err.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == ["graph.json", "noisy.mp4"]


def interrupt_after(process, word):
    """Send Ctrl-C when the process says `word`; give all it said, and its exit code."""
    said = []
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    for line in process.stderr:
        said.append(line)
        if word in line:
            process.send_signal(signal.SIGINT)
            word = "\0"
    watchdog.cancel()
    process.stdout.read()
    return "".join(said), process.wait(10)


@pytest.mark.parametrize("engine", ["thread", "process"])
def test_ctrl_c_keeps_a_playable_part(start, chain, clip, tmp_path, watch, trouble, engine):
    flags = ("--nodes", trouble, "--engine", engine, "--report", "r.json")
    process = start("run", chain(("Slow", {"seconds": 0.3})), "-i", clip, "-o", "out.mp4", *flags)
    said, code = interrupt_after(process, " frames")
    assert code == 130
    assert "stopped by Ctrl-C; out.mp4 has the first" in said.splitlines()[-1]
    assert "playable" in said
    assert "Traceback" not in said
    seen = watch(tmp_path / "out.mp4")
    assert 1 <= len(seen.times) < 25
    assert json.loads((tmp_path / "r.json").read_text())["result"]["interrupted"] is True
    assert not list(tmp_path.glob(".*"))


def test_ctrl_c_before_the_first_frame_writes_nothing(start, chain, clip, tmp_path, trouble):
    process = start("run", chain(("Slow", {"seconds": 3.0})), "-i", clip, "-o", "out.mp4", "--nodes", trouble)
    said, code = interrupt_after(process, "preparing")
    assert code == 130
    assert "stopped by Ctrl-C; nothing was written" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not list(tmp_path.glob(".*"))
