"""A stream from the network as a source: opened for low delay, and never waited for without end."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import av
import av.error
from av.container import InputContainer

from comfystream.errors import MediaError, NetworkError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.backlog import Backlog
from comfystream.media.container import first_audio, first_video, length_of
from comfystream.media.decoders import accelerator
from comfystream.media.http_file import HttpFile
from comfystream.media.relay import Relay
from comfystream.media.source import SourceInfo
from comfystream.media.stream_tracks import PictureTrack, SoundTrack

__all__ = ["IN_BURSTS", "SCHEMES", "UrlSource"]

OPEN_S, READ_S, SEGMENTS_S = 8.0, 5.0, 20.0

# Scheme -> what FFmpeg may use below it. Nothing here reads files: an address inside a stream cannot lead to one.
SCHEMES: Mapping[str, str] = {
    "rtsp": "rtsp,tcp",
    "rtsps": "rtsp,tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "srt": "srt",
    "udp": "udp",
    "http": "http,https",
    "https": "https,http",
}
RELAYED = frozenset({"srt"})  # PyAV's FFmpeg comes without it
IN_BURSTS = frozenset({"http", "https"})  # a segment, or all of a recording, at once: to be shown in time
# What may be in them. Left out are the demuxers that fetch or open something else by name.
FORMATS = "rtsp,rtp,flv,live_flv,mpegts,hls,mov,mp4,matroska,webm,ogg,mpeg,avi,mpjpeg,h264,hevc,aac,mp3,wav,flac,nut"
_LIVE_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "2000000", "probesize": "1000000"}


class UrlSource:
    """Pictures and sound of a stream, decoded on the thread that iterates.

    SRT is fetched by the program `ffmpeg`. Over HTTP each address that a playlist names goes through `may_open` too,
    and so does each redirection. A live stream that is decoded slower than it comes leaves pictures out.

    Args:
        url: with one of `SCHEMES`.
        name: for people; without passwords.
        may_open: raises when an address must not be opened.
        stopped: set by whoever does not want it any more; ends opening and reading soon.
        decoder: of the pictures, one of `decoders.DECODERS`.

    Raises:
        NetworkError, MediaError: it cannot be reached, or is nothing that can be shown.
    """

    def __init__(
        self,
        url: str,
        name: str,
        may_open: Callable[[str], object],
        stopped: threading.Event | None = None,
        decoder: str = "software",
    ) -> None:
        self._hwaccel = accelerator(decoder)
        self._name = name
        self._may_open = may_open
        self._stopped = stopped or threading.Event()
        self._refusal: Exception | None = None
        self._relay: Relay | None = None
        self._since = time.monotonic()
        self._backlog = Backlog() if urlsplit(url).scheme not in IN_BURSTS else None
        self._has_gap = False
        self._container = self._open(url)
        try:
            self._describe()
        except BaseException:
            self._let_go()
            raise

    def _describe(self) -> None:
        picture, sound = first_video(self._container), first_audio(self._container)
        if picture is None:
            raise MediaError(f"{self._name} has no pictures", code="no_video")
        self._pictures = PictureTrack(picture)
        if not picture.codec_context.is_hwaccel:
            picture.thread_type = "SLICE"  # threads by frame would hold pictures back
        self._sound = SoundTrack(sound) if sound is not None and sound.codec_context.sample_rate else None
        length = length_of(self._container)
        self._pictures.size = (picture.codec_context.width, picture.codec_context.height)
        self._info = SourceInfo(
            self._name,
            self._pictures.info(),
            self._sound.info() if self._sound is not None else None,
            float(length) if length else None,
        )

    def _open(self, url: str) -> InputContainer:
        scheme = urlsplit(url).scheme
        options = {**_LIVE_OPTIONS, "protocol_whitelist": SCHEMES[scheme], "format_whitelist": FORMATS}
        more: dict[str, Any] = {"timeout": (OPEN_S, READ_S)}
        if scheme in IN_BURSTS:
            del options["fflags"], options["flags"]  # what comes in segments is better read ahead
            options |= {"http_persistent": "0", "http_multiple": "0", "max_reload": "20", "m3u8_hold_counters": "20"}
            more = {"timeout": (OPEN_S, SEGMENTS_S), "io_open": self._open_part}
        elif scheme in ("rtsp", "rtsps"):
            options |= {"rtsp_transport": "tcp"}
        if scheme in ("rtsps", "rtmps"):
            options |= {"tls_verify": "1", "ca_file": ssl.get_default_verify_paths().cafile or ""}
        source: Any = url
        if scheme in RELAYED:
            source = self._relay = Relay(url, self._name, f"{SCHEMES[scheme]},pipe", self._stopped, OPEN_S, READ_S)
            options["format_whitelist"] = "mpegts"
        try:
            container: InputContainer = av.open(source, "r", options=options, hwaccel=self._hwaccel, **more)
            return container
        except (av.error.FFmpegError, NotImplementedError, OSError, ValueError) as error:
            words = self._in_words(error, "cannot be opened")
            self._let_go()
            raise words from error

    def _open_part(self, url: str, flags: int, options: Mapping[str, str]) -> HttpFile:
        """What FFmpeg opens: the address itself, and whatever it names."""
        if self._stopped.is_set():
            raise NetworkError(f"{self._name} is not wanted any more", code="stopped")
        try:
            if time.monotonic() - self._since > SEGMENTS_S:  # a playlist that stays as it was is read for ever
                raise NetworkError(f"{self._name}: nothing new has come for {SEGMENTS_S:.0f} s", code="timeout")
            self._may_open(url)
            return HttpFile(url, self._may_open, self._stopped, READ_S)
        except (MediaError, NetworkError) as error:
            self._refusal = self._refusal or error
            raise

    @property
    def info(self) -> SourceInfo:
        """What comes; a length is only known of recordings."""
        return self._info

    def frames(self) -> Iterator[VideoFrame | AudioFrame]:
        """Pictures and sound as they come; ends when the other side ends.

        Raises:
            NetworkError: nothing comes any more.
        """
        streams = [track.stream for track in (self._pictures, self._sound) if track is not None]
        packets = self._container.demux(*streams)
        while not self._stopped.is_set():
            self._since = time.monotonic()
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                if self._stopped.is_set():
                    return
                raise self._in_words(error, "broke off") from error
            if not self._is_late(packet):
                yield from self._decoded(packet)

    def _is_late(self, packet: Any) -> bool:
        if self._backlog is None or packet.stream is not self._pictures.stream or packet.pts is None:
            return False
        media_s = float(packet.pts * packet.time_base)
        if self._backlog.may_skip(media_s, time.monotonic(), is_key=packet.is_keyframe):
            self._has_gap = True
            return True
        if self._has_gap:
            self._has_gap = False
            packet.stream.codec_context.flush_buffers()
        return False

    def _decoded(self, packet: Any) -> Iterator[VideoFrame | AudioFrame]:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:  # damaged; the next key frame mends the picture
            return
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                self._begin(frame.pts, frame.time_base)
                yield self._pictures.make(frame)
            elif isinstance(frame, av.AudioFrame) and self._sound is not None:
                self._begin(frame.pts, frame.time_base)
                yield self._sound.make(frame)

    def _begin(self, pts: int | None, time_base: Fraction | None) -> None:
        """Media time 0 is the first thing that came."""
        if not self._pictures.is_placed:
            origin = (pts or 0) * (time_base or Fraction(1))
            self._pictures.start_at(origin)
            if self._sound is not None:
                self._sound.start_at(origin)

    def _in_words(self, error: Exception, what: str) -> NetworkError | MediaError:
        if isinstance(self._refusal, NetworkError | MediaError):
            return self._refusal
        if self._relay is not None and not isinstance(error, av.error.ExitError):
            reason = self._relay.reason or "no answer in time"
            return NetworkError(f"{self._name} {what}: {reason}", code="unreachable")
        is_late = time.monotonic() - self._since > OPEN_S - 0.5  # not every demuxer says so in its error
        if isinstance(error, av.error.ExitError | TimeoutError) or is_late:
            return NetworkError(f"{self._name} {what}: no answer in time", code="timeout", hint="is it there?")
        if isinstance(error, av.error.ProtocolNotFoundError):
            return MediaError(f"{self._name}: this FFmpeg cannot open such addresses", code="no_protocol")
        if isinstance(error, av.error.InvalidDataError):
            return MediaError(f"{self._name} is nothing that can be shown", code="not_media")
        reason = getattr(error, "strerror", None) or str(error)
        return NetworkError(f"{self._name} {what}: {reason}", code="unreachable")

    def close(self) -> None:
        """Let go; for the thread that iterates. Idempotent."""
        self._container.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._relay is not None:
            self._relay.close()
