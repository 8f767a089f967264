"""Workers: one class of yours, or a whole engine, behind the protocol that orchestrators speak."""

from __future__ import annotations

from comfystream.byoc.frames import AudioFrame, VideoFrame
from comfystream.byoc.processor import FrameProcessor
from comfystream.byoc.server import StreamServer

__all__ = ["AudioFrame", "FrameProcessor", "StreamServer", "VideoFrame"]
