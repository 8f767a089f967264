"""ComfyStream: run any ComfyUI workflow on live video and audio, frame by frame.

Importing this package is cheap: torch, PyAV and aiortc are imported by the modules that use them.
"""

__version__ = "1.0.0.dev0"

__all__ = ["__version__"]
