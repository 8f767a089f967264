"""What aiortc does not do for live video, put right on single objects and nowhere else.

Each entry says the cause, what it costs to go without, and when it can go. `tests/server/rtc/test_compat_aiortc.py`
fails when a fact changes. Read in aiortc 1.16 and aioice 0.13; where an attribute is not there any more, the entry
is left out with one warning and the connection works as plain aiortc does. What concerns ICE is in `compat_aioice`.

FRAME_AT_MARKER  `JitterBuffer` hands out a frame when a packet of the *next* frame comes, although the RTP marker says
                 that it is complete (RFC 6184 5.1, RFC 7741 4.1): 33 ms per hop at 30 pictures a second. It hands out
                 one frame per packet, and waits for a lost packet until 512 others have come: seconds.
                 Goes when aiortc releases frames on the marker and gives up on lost ones by time.
OWN_ENCODER      `RTCRtpSender` encodes by `get_encoder()`: libx264 at "medium", bitrates between module constants
                 whatever the picture's size, a new encoder for each change of 10 %, key frames that are no IDR. It
                 takes packets from a track, too; then only its packetizer is used, but it forgets key frame requests,
                 and needs an object to tell the bitrate to. Goes when senders take an encoder.
SENDER_REPORT    A sender report pairs RTP time with the time of sending, so a receiver cannot know that the picture
                 took longer than the sound. Goes when `RTCRtpSender` takes the capture time of a frame.
ARRIVAL          Nothing says when a frame came in, and sound waits for four more packets (80 ms) before it is handed
                 on, pictures do not: they would be taken to be that much too early. Goes when frames carry it.
RSA              aiortc's DTLS takes certificates with ECDSA keys only, and GStreamer before 1.24 has RSA ones: no
                 connection comes about when it is the DTLS server. Goes when aiortc's cipher list has RSA.
"""

from __future__ import annotations

import functools
import logging
import queue
import time
from collections.abc import Callable
from typing import Any

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpreceiver import TimestampMapper
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from .assembly import FrameAssembler

__all__ = ["Arrivals", "accept_rsa", "pack_with", "release_at_marker", "report_media_time", "swap"]

logger = logging.getLogger(__name__)

_warned: set[str] = set()


def swap(holder: object, name: str, value: object) -> bool:
    """Replace an attribute of one object that must be there already."""
    if hasattr(holder, name):
        setattr(holder, name, value)
        return True
    if name not in _warned:
        _warned.add(name)
        logger.warning("aiortc has no %s any more: a workaround of ComfyStream is off", name)
    return False


# --- what comes in ---------------------------------------------------------------------------------------------------


class Arrivals(TimestampMapper):
    """ARRIVAL: remembers when each frame was complete, by the media time that its picture will carry."""

    _KEPT = 256

    def __init__(self) -> None:
        super().__init__()
        self._at: dict[int, int] = {}
        self._came: dict[int, int] = {}
        self.first_ns: int | None = None

    def packet_came(self, timestamp: int) -> None:
        """A packet of the frame with this RTP time came in."""
        if self.first_ns is None and len(self._came) < self._KEPT:
            self._came.setdefault(timestamp, time.monotonic_ns())

    def map(self, timestamp: int) -> int:
        """Media time of an RTP time, counted from the first frame."""
        mapped = super().map(timestamp)
        now = time.monotonic_ns()
        if self.first_ns is None:
            self.first_ns = self._came.get(timestamp, now)
            self._came.clear()
        self._at[mapped] = now
        if len(self._at) > self._KEPT:
            del self._at[next(iter(self._at))]
        return mapped

    def take(self, pts: int) -> int:
        """Monotonic nanoseconds at which the frame with this media time was complete; 0 if that is not known."""
        return self._at.pop(pts, 0)


def release_at_marker(receiver: RTCRtpReceiver, *, is_video: bool) -> tuple[Arrivals, FrameAssembler | None]:
    """FRAME_AT_MARKER for a video receiver that was not started yet, and ARRIVAL for any."""
    arrivals = Arrivals()
    swap(receiver, "_RTCRtpReceiver__timestamp_mapper", arrivals)
    _note_packets(receiver, arrivals)
    codecs: dict[int, Any] | None = getattr(receiver, "_RTCRtpReceiver__codecs", None)
    decoder: queue.Queue[Any] | None = getattr(receiver, "_RTCRtpReceiver__decoder_queue", None)
    if not is_video or codecs is None or decoder is None:
        return arrivals, None

    def deliver(payload_type: int, frame: JitterFrame) -> None:
        frame.timestamp = arrivals.map(frame.timestamp)
        decoder.put((codecs[payload_type], frame))

    assembler = FrameAssembler(deliver)
    return arrivals, assembler if swap(receiver, "_RTCRtpReceiver__jitter_buffer", assembler) else None


def _note_packets(receiver: RTCRtpReceiver, arrivals: Arrivals) -> None:
    handle = getattr(receiver, "_handle_rtp_packet", None)
    if handle is None:
        return

    async def noted(packet: RtpPacket, *more: Any, **named: Any) -> None:
        arrivals.packet_came(packet.timestamp)
        await handle(packet, *more, **named)

    swap(receiver, "_handle_rtp_packet", noted)


# --- what goes out ---------------------------------------------------------------------------------------------------


class _Packer:
    """OWN_ENCODER: cuts packets for RTP as aiortc does, and hands on what the receiver says of the network."""

    def __init__(self, on_estimate: Callable[[int], None]) -> None:
        super().__init__()
        self._on_estimate = on_estimate

    @property
    def target_bitrate(self) -> int:
        """Not used: the packets are encoded already."""
        return 0

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._on_estimate(bitrate)


class _H264Packer(_Packer, H264Encoder):
    pass


class _Vp8Packer(_Packer, Vp8Encoder):
    pass


def pack_with(
    sender: RTCRtpSender, codec: str, on_estimate: Callable[[int], None], on_key_request: Callable[[], None]
) -> None:
    """OWN_ENCODER for a video sender that was not started yet and whose track gives packets.

    Args:
        sender: of video.
        codec: "VP8" or "H264".
        on_estimate: told how many bits per second the receiver thinks that the network carries (REMB).
        on_key_request: told when the receiver needs a picture that it can begin with (PLI, FIR).
    """
    packer = _H264Packer(on_estimate) if codec == "H264" else _Vp8Packer(on_estimate)
    swap(sender, "_RTCRtpSender__encoder", packer)
    swap(sender, "_send_keyframe", on_key_request)


def report_media_time(sender: RTCRtpSender, wall_ntp: Callable[[], int | None]) -> None:
    """SENDER_REPORT for a sender that was not started yet.

    Args:
        sender: of sound or pictures.
        wall_ntp: NTP time (64 bits) of what was sent last; None = as aiortc has it.
    """
    send = getattr(sender, "_send_rtcp", None)
    if send is None:
        return

    async def send_rtcp(packets: list[AnyRtcpPacket]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and (ntp := wall_ntp()) is not None:
                packet.sender_info.ntp_timestamp = ntp
                swap(sender, "_RTCRtpSender__lsr", ntp >> 16 & 0xFFFFFFFF)  # what the receiver will refer to
        await send(packets)

    swap(sender, "_send_rtcp", send_rtcp)


# --- DTLS -------------------------------------------------------------------------------------------------------------

_CIPHERS = ("AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA")  # as aiortc has them


def accept_rsa(connection: RTCPeerConnection) -> None:
    """RSA for a connection that was just made."""
    for certificate in getattr(connection, "_RTCPeerConnection__certificates", ()):
        swap(certificate, "_create_ssl_context", functools.partial(_ssl_context, certificate._create_ssl_context))


def _ssl_context(create: Callable[..., Any], *profiles: Any, **named: Any) -> Any:
    context = create(*profiles, **named)
    context.set_cipher_list(":".join(f"ECDHE-{key}-{name}" for key in ("ECDSA", "RSA") for name in _CIPHERS).encode())
    return context
