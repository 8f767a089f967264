"""`check`, `nodes`, `doctor`, and the program around them."""

import json
import subprocess
import sys
import textwrap

import pytest

import comfystream as library

# --- check


def test_check_says_what_a_workflow_needs_and_that_it_runs(comfystream, chain):
    ended = comfystream("check", chain(("ImageInvert", {}), ("ImageInvert", {})))
    assert (ended.code, ended.err) == (0, "")
    assert "needs    core: ImageInvert x2" in ended.out
    assert "needs    comfystream: LoadTensor, SaveTensor" in ended.out
    assert 'inputs   video (node 1 "LoadTensor")' in ended.out
    assert "modality video to video" in ended.out
    assert "it can run" in ended.out


def test_check_names_what_is_missing_and_what_was_meant(comfystream, chain):
    ended = comfystream("check", chain(("ImageBlurr", {})))
    assert ended.code == 2
    assert "missing  ImageBlurr" in ended.out
    assert 'did you mean "ImageBlur"' in ended.errors[0]
    assert "it can run" not in ended.out


def test_check_finds_nodes_in_folders(comfystream, chain, trouble):
    graph = chain(("Slow", {"seconds": 0.1}))
    assert comfystream("check", graph).code == 2
    ended = comfystream("check", graph, "--nodes", trouble)
    assert ended.code == 0
    assert "needs    trouble: Slow" in ended.out


def test_check_as_json(comfystream, chain):
    ended = comfystream("check", chain(("ImageBlur", {"blur_radius": 99, "sigma": 1.0})), "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["runs"]) == (2, False)
    assert told["inputs"] == [{"node": "1", "class_type": "LoadTensor", "modality": "video"}]
    assert told["modalities"]["video"] == {"input": True, "output": True}
    assert [(p["node"], p["input"], p["is_error"]) for p in told["problems"]] == [("2", "blur_radius", True)]


def test_check_of_a_workflow_that_ticks_by_itself(comfystream, save):
    image = {"width": 32, "height": 32, "batch_size": 1, "color": 0}
    graph = save({"1": ("EmptyImage", image), "2": ("SaveTensor", {"images": ["1", 0]})})
    ended = comfystream("check", graph)
    assert ended.code == 0
    assert "none: it runs by its own clock" in ended.out
    assert "nothing to video" in ended.out


def test_check_does_not_load_torch_for_a_syntax_error(tmp_path):
    (tmp_path / "bad.json").write_text('{"1": }')
    code = """
        import sys
        from comfystream_server.cli import main
        assert main(["check", "bad.json"]) == 2
        assert main(["run", "bad.json", "-o", "x.mp4"]) == 2
        assert main(["--version"]) == 0
        assert main(["--help"]) == 0
        loaded = {"torch", "av", "numpy", "cv2"} & sys.modules.keys()
        assert not loaded, loaded
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("bad.json:1:7: JSON syntax error") == 2


# --- nodes


def test_nodes_as_json_is_object_info(comfystream):
    told = json.loads(comfystream("nodes", "--json").out)
    assert told["ImageInvert"]["input"]["required"]["image"] == ["IMAGE"]
    assert told["ImageInvert"]["output"] == ["IMAGE"]
    assert {"LoadTensor", "SaveTensor", "LoadAudioTensor", "SaveTextTensor"} <= told.keys()


def test_nodes_can_be_searched(comfystream):
    ended = comfystream("nodes", "invert")
    assert "ImageInvert" in ended.out
    assert "ImageBlur" not in ended.out
    nothing = comfystream("nodes", "zebra")
    assert nothing.code == 2
    assert 'no node class has "zebra"' in nothing.errors[0]


def test_a_broken_pack_is_reported_and_the_rest_is_there(comfystream, tmp_path, caplog):
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there")
    (tmp_path / "fine.py").write_text(
        "class Fine:\n    RETURN_TYPES, FUNCTION, CATEGORY = (), 'run', 'x'\n    @classmethod\n"
        "    def INPUT_TYPES(cls): return {}\n    def run(self): return ()\nNODE_CLASS_MAPPINGS = {'Fine': Fine}\n"
    )
    ended = comfystream("nodes", "fine", "--nodes", tmp_path)
    assert ended.code == 0
    assert "Fine" in ended.out
    assert [record.getMessage() for record in caplog.records if "node pack broken could not be" in record.getMessage()]


# --- doctor


def test_doctor_gives_a_verdict_for_each_thing(comfystream, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    ended = comfystream("doctor")
    assert ended.code == 0
    for name in ("Python", "PyTorch", "GPU", "PyAV", "Video encoders", "Sound encoders", "Shared memory", "ComfyUI"):
        assert f"{name}: " in ended.out
    assert "libx264" in ended.out
    assert "Ready to run workflows." in ended.out


def test_doctor_says_what_the_ffmpeg_program_can_do(comfystream, monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nprintf 'Supported file protocols:\\nInput:\\n  srt\\nOutput:\\n  rtmp\\n  tcp\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "lacks rtmps, srt" in comfystream("doctor").out
    program.unlink()
    ended = comfystream("doctor")
    assert ended.code == 0, "it is not needed for workflows"
    assert "to push a stream and to read SRT" in " ".join(ended.out.split())


def test_doctor_proves_encoders_by_encoding():
    from comfystream_server.examination import encodes_picture, encodes_sound

    assert encodes_picture("libx264") == ""
    assert encodes_sound("aac") == ""
    assert encodes_picture("no_such_codec") != ""


def test_doctor_fails_when_something_needed_is_missing(comfystream, monkeypatch):
    import comfystream_server.examination as examination

    monkeypatch.setattr(examination, "encodes_picture", lambda name: "broken here")
    ended = comfystream("doctor")
    assert ended.code == 2
    assert "libx264 is needed" in ended.out
    assert "Not ready: Video encoders" in ended.out


def test_doctor_tries_node_packs(comfystream, tmp_path, trouble):
    assert comfystream("doctor", "--nodes", trouble).code == 0
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there")
    ended = comfystream("doctor", "--nodes", tmp_path)
    assert ended.code == 2
    assert "broken: broken" in ended.out
    assert "Not ready: Nodes" in ended.out


def test_doctor_finds_comfyui_by_its_variable(comfystream, monkeypatch, tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "nodes.py").touch()
    (tmp_path / "execution.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "9.8.7"\n')
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    told = {finding["name"]: finding for finding in json.loads(comfystream("doctor", "--json").out)}
    assert told["ComfyUI"]["verdict"] == "good"
    assert "9.8.7" in told["ComfyUI"]["detail"]
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "comfy"))
    told = {finding["name"]: finding for finding in json.loads(comfystream("doctor", "--json").out)}
    assert "which is no ComfyUI" in told["ComfyUI"]["detail"]


# --- the program


def test_version_and_help(comfystream):
    assert comfystream("--version").out.strip() == f"comfystream {library.__version__}"
    ended = comfystream("--help")
    assert ended.code == 0
    for command in ("run", "check", "nodes", "doctor"):
        assert command in ended.out


def test_no_command_shows_the_help(comfystream):
    ended = comfystream()
    assert "Usage" in ended.out + ended.err
    assert ended.errors == []


@pytest.mark.parametrize(("arguments", "said"), [(("frob",), "frob"), (("check",), "workflow")])
def test_what_is_no_command_is_one_line(comfystream, arguments, said):
    ended = comfystream(*arguments)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert said in ended.errors[0]


def test_a_defect_of_ours_is_one_line_too(comfystream, monkeypatch, chain):
    import comfystream_server.loading as loading

    def fail(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(loading, "read_early", fail)
    ended = comfystream("check", chain())
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert "RuntimeError: a bug" in ended.err
    assert "--debug" in ended.err
