"""The import name `comfystream_server` for the folder `server` of this repository."""

from pathlib import Path

__path__[:] = [str(Path(__file__).resolve().parents[2] / "server")]
__file__ = str(Path(__path__[0]) / "__init__.py")
exec(compile(Path(__file__).read_text("utf-8"), __file__, "exec"))
