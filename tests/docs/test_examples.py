"""Every example of the documentation is run, and what it promises to print is compared."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from doc_blocks import Block, blocks_of

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LEFT_OUT = {
    "comfystream check portrait.json --comfyui ~/ComfyUI\n"
    "comfystream run portrait.json -i in.mp4 -o out.mp4 --comfyui ~/ComfyUI\n"
    "comfystream serve --comfyui ~/ComfyUI": "they need a ComfyUI; tests/comfyui has one",
    "comfystream byoc --workflow workflows/edges.json": "it serves until it is stopped; tests/server runs it",
    "docker build -f docker/Dockerfile -t comfystream .": "needs a Docker engine; tests/docker builds the image",
    'pip install ".[torch,gpu,server]"': "needs the package index; tests/test_packaging.py installs the package",
    "export ORCH_URL=https://orchestrator.example.org:8935\n"
    "export ORCH_SECRET=the-secret-of-the-orchestrator\n"
    "export CAPABILITY_URL=http://worker.example.org:8000\n"
    "comfystream byoc --insecure-tls --capability edges=workflows/edges.json "
    "--capability negative=workflows/invert.json": "it serves until it is stopped; test_worker_examples.py runs it",
    "docker compose -f docker/worker.yaml up -d\n"
    "docker compose -f docker/worker-orchestrator.yaml up -d": "needs a Docker engine; tests/docker runs the image",
    "curl -s -o edges.png -F image=@photo.png http://gateway.example.org:8935/process/request/edges \\\n"
    '  -H "Livepeer: $(printf \'{"request":"{}","parameters":"{}","capability":"edges","timeout_seconds":30}\' '
    '| base64 -w0)"': "needs a gateway of the network",
    "comfystream gateway\nORCH_URL=http://localhost:9935 ORCH_SECRET=development comfystream byoc": (
        "they serve until they are stopped; tests/server/gateway/test_page.py runs them"
    ),
    "comfystream trickle server --port 2939": "it serves until it is stopped; tests/server/test_trickle.py runs it",
    "comfystream trickle publish clip.ts http://127.0.0.1:2939/camera\n"
    "comfystream trickle watch http://127.0.0.1:2939/camera --wait 30\n"
    "comfystream trickle pull http://127.0.0.1:2939/camera -o copy.ts --wait 30": "they need that server",
    "comfystream engines build --targets build_targets.yaml --only taesd-decoder\n"
    "comfystream engines list\n"
    "comfystream engines prune --max-gb 20": "they need models and TensorRT; tests/accel/test_targets.py runs them",
    "ffmpeg -re -i clip.mp4 -c:v libx264 -preset veryfast -tune zerolatency -g 30 -c:a aac -f flv \\\n"
    '  "rtmp://localhost:1935/live/demo?capability=comfystream&workflow=edges"': "gateway/test_rtmp.py does it",
    "comfystream bench accel\ncomfystream bench gpu": "they take minutes; tests/server/test_bench_accel.py runs them",
}
NOT_RUN = {"benchmarks.md": "its commands take minutes; tests/server/test_bench.py runs them on little"}
NOT_HERE = ("not run", "with a worker")  # the latter: test_worker_examples.py
SHELL_ONLY = ("source ", "make ", "mkdir ", "python tools/dev.py")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.is_program and block.mark not in NOT_HERE]


WITH_EXAMPLES = [page for page in PAGES if page.name not in NOT_RUN and runnable(page)]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=name_of)
def test_examples(page: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    blocks = blocks_of(page)
    for index, block in enumerate(blocks):
        if block.mark == "file":
            write(folder / block.detail, block.text)
        elif block.is_program and block.mark not in NOT_HERE:
            before = set(folder.rglob("*"))
            following = blocks[index + 1] if index + 1 < len(blocks) else None
            try_out(block, following, capfd)
            clean(folder, before)


def test_examples_that_are_not_run_say_why_and_are_few() -> None:
    left_out = [block for page in PAGES for block in blocks_of(page) if block.mark == "not run"]
    assert {block.text.strip() for block in left_out} == set(LEFT_OUT), "say here what is shown and not run, and why"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in NOT_RUN], ids=name_of)
def test_no_command_hides_from_the_test(page: Path) -> None:
    hidden = [b.place for b in blocks_of(page) if b.looks_like_a_command and not b.is_program and b.mark != "file"]
    assert hidden == [], "fence commands with ```sh or ```console"
    indented = re.findall(r"^ {4,}(?:\$ )?comfystream [a-z].*", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert indented == [], "fence commands with ```sh or ```console"


def test_a_promise_that_is_not_kept_is_found() -> None:
    shown = ["2 frames", "error: bad (at frame ...)", "done"]
    compare(Block("p", 1, "console", ""), "c", shown, "1 frame\n2 frames\nerror: bad (at frame 7)\ndone")
    for said in ("3 frames\nerror: bad (at frame 7)\ndone", "2 frames\ndone\nerror: bad (at frame 7)", ""):
        with pytest.raises(AssertionError):
            compare(Block("p", 1, "console", ""), "c", shown, said)


def test_figures_may_vary_and_words_may_not() -> None:
    block = Block("p", 1, "console", "", "figures vary")
    compare(block, "c", ["graph  1.5 ms   12%"], "graph 23.25 ms 7%")
    with pytest.raises(AssertionError):
        compare(block, "c", ["graph  1.5 ms   12%"], "encode 23.25 ms 7%")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")


def clean(folder: Path, before: set[Path]) -> None:
    """Take away what an example made: the next one may write the same file."""
    for made in set(folder.rglob("*")) - before:
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)


# --- one block


def try_out(block: Block, following: Block | None, capfd: pytest.CaptureFixture[str]) -> None:
    match block.kind:
        case "sh":
            for command in commands(block):
                code, said = run(command, capfd)
                assert code == 0, f"{block.place}: {command}\n{said}"
        case "console":
            for command, shown in conversation(block):
                _, said = run(command, capfd)
                compare(block, command, shown, said)
        case "python":
            shown = following.text if following is not None and following.kind == "text" else None
            capfd.readouterr()
            exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
            said, _ = capfd.readouterr()
            if shown is not None:
                compare(following or block, "the program", shown.splitlines(), said)


def commands(block: Block) -> list[str]:
    """The lines of a `sh` block that are ours; others must be of the few that everybody knows."""
    lines = [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]
    ours = [line for line in lines if line.startswith("comfystream ")]
    strange = [line for line in lines if line not in ours and not line.startswith(SHELL_ONLY)]
    assert strange == [], f"{block.place}: the test does not know how to run this"
    return ours


def conversation(block: Block) -> list[tuple[str, list[str]]]:
    """Commands with the lines below them."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            assert found, f"{block.place}: the first line is no command"
            found[-1][1].append(line)
    return found


def run(command: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and all that was said, the log included (pytest holds its handler)."""
    from comfystream_server.cli import main

    program, *words = shlex.split(command, comments=True)
    if program == "cat":
        return 0, "".join(Path(word).read_text(encoding="utf-8") for word in words)
    if program == "mkdir":
        Path(words[-1]).mkdir(parents=True)
        return 0, ""
    assert program == "comfystream", command
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(logging.Formatter("comfystream: %(message)s"))
    logging.getLogger().addHandler(log)
    capfd.readouterr()
    try:
        code = main(words)
    finally:
        logging.getLogger().removeHandler(log)
    said, complained = capfd.readouterr()
    return code, complained + said


# --- what is printed


def compare(block: Block, command: str, shown: list[str], said: str) -> None:
    """Every line that is shown was said, in that order; "..." stands for anything."""
    if block.mark == "figures vary":
        said_lines = [without_figures(line) for line in said.splitlines()]
        missing = [line for line in shown if line != "..." and without_figures(line) not in said_lines]
    else:
        left = iter(said.splitlines())
        missing = [line for line in shown if line != "..." and not any(is_like(other, line) for other in left)]
    assert missing == [], f"{block.place}: {command}\nsaid:\n{said}"


def is_like(said: str, shown: str) -> bool:
    pattern = re.sub(r"([*?\[])", r"[\1]", shown.rstrip()).replace("...", "*")
    return fnmatchcase(said.rstrip(), pattern)


def without_figures(line: str) -> str:
    """Numbers, units of size and spaces out; which stage is the slowest depends on the machine."""
    counted = re.sub(r"# (kB|MB|GB|bytes)", "# bytes", re.sub(r"\d[\d.:,]*", "#", line))
    return " ".join(counted.replace("the slowest: it sets the pace", "").split())
