"""One WebRTC connection: frames and messages in, frames and messages out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from aiortc import RTCDataChannel, RTCPeerConnection, RTCRtpReceiver, RTCRtpTransceiver, RTCSessionDescription
from aiortc.codecs import get_capabilities
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from comfystream.errors import NetworkError
from comfystream.frames import AudioFrame, Stamps, VideoFrame
from comfystream.media.sound import SampleReader

from .assembly import FrameAssembler
from .compat_aioice import limit_ports
from .compat_aiortc import Arrivals, accept_rsa, pack_with, release_at_marker, report_media_time
from .ice import IceSettings
from .restart import IceRestarts
from .sdp import MALFORMED, SUPPORTED, read_fragment, read_offer
from .timeline import MediaWall
from .tracks import OutTrack, SoundTrack, VideoTrack

__all__ = ["Peer"]

logger = logging.getLogger(__name__)

_CLOSE_S = 5.0
_SILENT_S, _LISTEN_S = 5.0, 0.5  # RTCP comes every 1.5 s at the latest from aiortc, every 5 s from others (RFC 3550)
_MOST_WAITING = 64  # messages for channels that the other end has not opened yet
_NTP_EPOCH_S = 2_208_988_800  # 1970 in NTP time (RFC 868)


class Peer:
    """The answering end of a connection; lives on the event loop, and so do all its callbacks.

    Args:
        ice: how to reach the other end.
        on_video, on_audio: called for every decoded frame. Media time counts from the first frame that came, ids count
            up, `stamps.captured` is when the frame had arrived and `stamps.decoded` when it was decoded.
        on_message: called with the label of a data channel and the text.
        on_state: called with "connecting", "connected", "disconnected", "failed" or "closed".
        video_codecs: what to answer with, the best first; what the offer prefers among them when it is empty.
        way: "sendrecv", or only "sendonly" or "recvonly", whatever the other end would like.
        video, sound: what is sent; None makes tracks of its own, for `send_video` and `send_audio`.
    """

    def __init__(
        self,
        *,
        ice: IceSettings,
        on_video: Callable[[VideoFrame], None],
        on_audio: Callable[[AudioFrame], None],
        on_message: Callable[[str, str], None],
        on_state: Callable[[str], None],
        video_codecs: tuple[str, ...] = (),
        way: str = "sendrecv",
        video: OutTrack | None = None,
        sound: OutTrack | None = None,
    ) -> None:
        self._ice = ice
        self._on_video, self._on_audio = on_video, on_audio
        self._on_message, self._on_state = on_message, on_state
        self._video_codecs = video_codecs
        self._connection = RTCPeerConnection(ice.configuration())
        self._restarts = IceRestarts(self._connection, ice)
        accept_rsa(self._connection)
        self._connection.on("connectionstatechange", self._connection_changed)
        self._connection.on("datachannel", self._channel_came)
        self._way = way
        self._video = video or VideoTrack()
        self._sound = sound or SoundTrack()
        self._wall = MediaWall()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels: dict[str, RTCDataChannel] = {}
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_MOST_WAITING)
        self._transceivers: dict[str, RTCRtpTransceiver] = {}
        self._assembler: FrameAssembler | None = None
        self._epoch_ns: int | None = None
        self._received = {"video": 0, "audio": 0}
        self._state = "new"
        self._closing: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """The last state that `on_state` was told; "new" before."""
        return self._state

    async def answer(self, sdp: str, kind: str = "offer") -> tuple[str, str]:
        """Answer an offer, with all candidates in it: SDP and "answer". Once per peer.

        Raises:
            NetworkError: the offer cannot be used; `code` says why: "bad_sdp", "sdp_too_large", "unsupported_codec".
                The peer is closed then.
        """
        try:
            offer = read_offer(sdp, kind, self._video_codecs)
            self._transceivers = self._prepare(offer.kinds)
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            self._agree(self._transceivers)
            limit_ports(self._connection, self._ice)
            await self._connection.setLocalDescription()
        except NetworkError:
            await self.close()
            raise
        except MALFORMED as error:
            await self.close()
            raise NetworkError(f"the offer cannot be used: {error}"[:300], code="bad_sdp") from error
        for candidate in offer.later:
            self._start(self._connection.addIceCandidate(candidate), "candidate")
        answer = self._connection.localDescription
        return answer.sdp, answer.type

    async def offer(self, kinds: tuple[str, ...] = ("video", "audio"), channels: tuple[str, ...] = ()) -> str:
        """Be the end that asks: SDP with all candidates, for `accept` to be called with what comes back."""
        self._transceivers = self._prepare(kinds)
        for label in channels:
            self._adopt(self._connection.createDataChannel(label))
        limit_ports(self._connection, self._ice)
        await self._connection.setLocalDescription()
        return self._connection.localDescription.sdp

    async def accept(self, sdp: str, kind: str = "answer") -> None:
        """Take the answer to `offer`.

        Raises:
            NetworkError: it cannot be used; the peer is closed then.
        """
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp, kind))
            self._agree(self._transceivers)
        except MALFORMED as error:
            await self.close()
            raise NetworkError(f"the answer cannot be used: {error}"[:300], code="bad_sdp") from error

    def _prepare(self, kinds: tuple[str, ...]) -> dict[str, RTCRtpTransceiver]:
        """One transceiver for the first section of each kind; aiortc makes one that only listens for any other."""
        tracks: dict[str, MediaStreamTrack] = {"video": self._video, "audio": self._sound}
        transceivers = {}
        for kind in dict.fromkeys(kind for kind in kinds if kind in tracks):
            transceiver = self._connection.addTransceiver(tracks[kind], self._way)
            transceiver.setCodecPreferences(_preferences(kind, self._video_codecs))
            transceivers[kind] = transceiver
        return transceivers

    def _agree(self, transceivers: dict[str, RTCRtpTransceiver]) -> None:
        for transceiver in self._connection.getTransceivers():
            if transceiver not in transceivers.values():
                transceiver.direction = "inactive"  # one video and one audio track, others are declined
        for kind, transceiver in transceivers.items():
            if self._way != "sendonly":
                self._listen_to(transceiver.receiver, kind)
        if self._way == "recvonly":
            return
        if (video := transceivers.get("video")) is not None:
            codec = video._codecs[0].name.upper()
            self._video.use(codec)
            pack_with(video.sender, codec, self._estimated, self._video.request_key)
            report_media_time(video.sender, lambda: self._ntp(self._video.media_s))
        if (audio := transceivers.get("audio")) is not None:
            report_media_time(audio.sender, lambda: self._ntp(self._sound.media_s))

    def _listen_to(self, receiver: RTCRtpReceiver, kind: str) -> None:
        arrivals, assembler = release_at_marker(receiver, is_video=kind == "video")
        self._assembler = assembler or self._assembler
        if receiver.track is not None:
            read = self._read_video if kind == "video" else self._read_audio
            self._start(read(receiver.track, arrivals), f"read-{kind}")

    def _estimated(self, bitrate: int) -> None:
        self._video.estimate = bitrate

    def _ntp(self, media_s: Fraction | None) -> int | None:
        if media_s is None:
            return None
        return int((self._wall.at(media_s, Fraction(time.time())) + _NTP_EPOCH_S) * (1 << 32))

    async def trickle(self, fragment: str) -> None:
        """Take candidates that came after the offer (RFC 8840).

        Raises:
            NetworkError: they cannot be read.
        """
        said = read_fragment(fragment)
        if self._restarts.is_later:
            self._restarts.add(said.candidates)
            return
        try:
            for candidate in said.candidates:
                await self._connection.addIceCandidate(candidate)
            if said.is_last:
                await self._connection.addIceCandidate(None)
        except MALFORMED as error:
            raise NetworkError(f"the ICE candidates cannot be used: {error}"[:300], code="bad_sdp") from error

    async def restart(self, fragment: str) -> str:
        """Go on over a new ICE connection, with the same keys: the fragment to answer with.

        Raises:
            NetworkError: see `IceRestarts.begin`; the connection stays as it was.
        """
        return await self._restarts.begin(read_fragment(fragment))

    # --- in ---

    def _start(self, work: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"peer-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s ended", task.get_name(), exc_info=error)

    async def _read_video(self, track: MediaStreamTrack, arrivals: Arrivals) -> None:
        while (image := await _next(track)) is not None:
            now = time.monotonic_ns()
            stamps = Stamps(captured=arrivals.take(image.pts) or now, decoded=now)
            pts = image.pts + self._start_of(arrivals, image.time_base)
            self._received["video"] += 1
            self._on_video(VideoFrame(self._received["video"] - 1, pts, image.time_base, image, stamps))

    async def _read_audio(self, track: MediaStreamTrack, arrivals: Arrivals) -> None:
        reader = SampleReader()
        while (sound := await _next(track)) is not None:
            now = time.monotonic_ns()
            stamps = Stamps(captured=arrivals.take(sound.pts) or now, decoded=now)
            pts = sound.pts + self._start_of(arrivals, sound.time_base)
            count, self._received["audio"] = self._received["audio"], self._received["audio"] + 1
            samples = reader.read(sound)
            self._on_audio(AudioFrame(count, pts, sound.time_base, samples, sound.sample_rate, stamps))

    def _start_of(self, arrivals: Arrivals, time_base: Fraction) -> int:
        """Media time of a track's first frame: sound and pictures count from the same moment."""
        first = arrivals.first_ns or time.monotonic_ns()
        if self._epoch_ns is None:
            self._epoch_ns = first
        return int(Fraction(max(0, first - self._epoch_ns), 10**9) / time_base)

    # --- out ---

    def send_video(self, frame: VideoFrame) -> None:
        """Send a picture; a newer one takes its place while the encoder is busy."""
        self._video.offer(frame)

    def send_audio(self, frame: AudioFrame) -> None:
        """Send sound, in slices of 20 ms by the clock."""
        self._sound.offer(frame)

    def send_message(self, channel_label: str, text: str) -> None:
        """Send a text on the data channel of that label; it waits (some do) until the other end has opened it."""
        channel = self._channels.get(channel_label)
        if channel is not None and channel.readyState == "open":
            channel.send(text)
        else:
            self._waiting.append((channel_label, text))

    def _adopt(self, channel: RTCDataChannel) -> None:
        channel.on("message", lambda message: self._message(channel.label, message))
        channel.on("open", lambda: self._channel_opened(channel))

    def _channel_came(self, channel: RTCDataChannel) -> None:
        self._adopt(channel)
        self._channel_opened(channel)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        self._channels[channel.label] = channel
        waiting = list(self._waiting)
        self._waiting.clear()
        for label, text in waiting:
            self.send_message(label, text)

    def _message(self, label: str, message: str | bytes) -> None:
        text = message if isinstance(message, str) else message.decode("utf-8", errors="replace")
        self._on_message(label, text)

    # --- life ---

    def _connection_changed(self) -> None:
        state = self._connection.connectionState
        self._tell(state)
        if state == "connected":
            self._start(self._listen(), "listen")
        elif state in ("failed", "closed"):
            self._start_closing()

    def _start_closing(self) -> None:
        """There is no way back: let go of sockets and threads. `close` waits for it."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="peer-close")

    async def _listen(self) -> None:
        """Tell when the other end falls silent, long before ICE gives it up (30 s), and when it is back."""
        heard, heard_ns = -1, time.monotonic_ns()
        while self._state not in ("failed", "closed"):
            if (packets := self._packets()) != heard:
                heard, heard_ns = packets, time.monotonic_ns()
            is_silent = time.monotonic_ns() - heard_ns > _SILENT_S * 1e9
            self._tell("disconnected" if is_silent and self._transceivers else "connected")
            await asyncio.sleep(_LISTEN_S)

    def _packets(self) -> int:
        """Datagrams that have come so far: media, RTCP, messages; receivers of media report about once a second."""
        transports = {transceiver.receiver.transport for transceiver in self._transceivers.values()}
        reports = (entry for transport in transports for entry in transport._get_stats().values())
        return sum(entry.packetsReceived for entry in reports)

    def _tell(self, state: str) -> None:
        if state != self._state and self._state != "closed" and state != "new":
            self._state = state
            self._on_state(state)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters since the start: frames, bytes, bitrate, drops."""
        lost = self._assembler.lost_frames if self._assembler else 0
        return {
            "state": self._state,
            "video_in": {"frames": self._received["video"], "lost_frames": lost},
            "video_out": self._video.figures(),
            "audio_in": {"frames": self._received["audio"]},
            "audio_out": self._sound.figures(),
            "ice_restarts": self._restarts.count,
        }

    async def close(self) -> None:
        """End the connection. Idempotent, and done within seconds whatever the other end does."""
        self._start_closing()
        assert self._closing is not None
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._video.stop()
        self._sound.stop()
        await self._restarts.close()
        try:
            await asyncio.wait_for(self._connection.close(), _CLOSE_S)
        except TimeoutError:
            logger.warning("a connection did not close within %s s", _CLOSE_S)
        except MALFORMED:
            logger.warning("a connection that was never made did not close cleanly", exc_info=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tell("closed")


async def _next(track: MediaStreamTrack) -> Any:
    """The next frame; None at the end."""
    try:
        return await track.recv()
    except MediaStreamError:
        return None


def _preferences(kind: str, video_codecs: tuple[str, ...]) -> list[Any]:
    """What to agree on, for aiortc; empty = what the offer prefers."""
    wanted = [name.upper() for name in (video_codecs if kind == "video" else SUPPORTED[kind])]
    known = get_capabilities(kind).codecs
    chosen = [codec for name in wanted for codec in known if codec.name.upper() == name]
    return [*chosen, *(codec for codec in known if codec.name.lower() == "rtx")] if chosen else []
