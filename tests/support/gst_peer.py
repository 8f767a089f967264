"""GStreamer's webrtcbin over WHIP or WHEP: `gst_peer.py whip|trickle|whep URL [TOKEN]`, by a Python with its bindings.

Prints `picture BRIGHTNESS` for each picture and `sound PEAK` for each buffer, and ends when its input does.
"""

from __future__ import annotations

import queue
import sys
import threading
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402

SENDING = """webrtcbin name=rtc bundle-policy=max-bundle
 videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=240,framerate=30/1 ! videoconvert
 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! video/x-h264,profile=constrained-baseline
 ! rtph264pay config-interval=-1 aggregate-mode=zero-latency
 ! application/x-rtp,media=video,encoding-name=H264,payload=96
 ! rtc.
 audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=2 ! opusenc
 ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! rtc."""
VIDEO = "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000"
AUDIO = "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2"


def say(*words: object) -> None:
    print(*words, flush=True)


def send(method: str, url: str, text: str, **headers: str) -> tuple[int, dict[str, str], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, text.encode(), named, method=method)
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, dict(response.headers), response.read().decode()


class Peer:
    """A pipeline with one webrtcbin, which offers when all its candidates are known."""

    def __init__(self, way: str, url: str, token: str) -> None:
        self.url, self.way = url, way
        self.login = {"Authorization": f"Bearer {token}"} if token else {}
        self.candidates: queue.Queue[str] = queue.Queue()
        self.pipeline = Gst.parse_launch(SENDING) if way != "whep" else Gst.Pipeline.new(None)
        if way != "whep":
            self.rtc = self.pipeline.get_by_name("rtc")
        else:
            self.rtc = Gst.ElementFactory.make("webrtcbin", "rtc")
            self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipeline.add(self.rtc)
            for caps in (VIDEO, AUDIO):
                only = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.rtc.emit("add-transceiver", only, Gst.Caps.from_string(caps))
        self.rtc.connect("pad-added", self.pad)
        self.rtc.connect("notify::ice-gathering-state", self.gathered)
        self.rtc.connect("on-ice-candidate", lambda _, index, text: self.candidates.put(text))
        self.rtc.connect("notify::connection-state", self.changed)
        self.rtc.connect("on-negotiation-needed", self.begin)
        self.pipeline.set_state(Gst.State.PLAYING)

    def begin(self, rtc) -> None:
        rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, rtc))

    def offered(self, promise, rtc) -> None:
        self.reply = promise.get_reply()
        offer = self.reply.get_value("offer")
        rtc.emit("set-local-description", offer, Gst.Promise.new())
        if self.way == "trickle":
            self.start(offer.sdp.as_text())

    def gathered(self, rtc, _) -> None:
        if rtc.get_property("ice-gathering-state") != GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            return
        self.candidates.put("")
        if self.way != "trickle":
            self.start(rtc.get_property("local-description").sdp.as_text())

    def start(self, sdp: str) -> None:
        threading.Thread(target=self.exchange, args=(sdp,), daemon=True).start()

    def exchange(self, sdp: str) -> None:
        status, headers, answer = send("POST", self.url, sdp, Content_Type="application/sdp", **self.login)
        say("posted", status, sdp.count("a=candidate"))
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer.encode(), message)
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.rtc.emit("set-remote-description", described, Gst.Promise.new())
        if self.way == "trickle":
            self.trickle(urllib.parse.urljoin(self.url, headers["Location"]), headers["ETag"], sdp)

    def trickle(self, place: str, tag: str, sdp: str) -> None:
        lines = sdp.splitlines()
        keys = ("a=ice-ufrag:", "a=ice-pwd:", "a=mid:")
        first = [next(line for line in lines if line.startswith(key)) for key in keys]
        while text := self.candidates.get():
            body = "\r\n".join([*first[:2], "m=video 9 UDP/TLS/RTP/SAVPF 0", first[2], f"a={text}", ""])
            kind = "application/trickle-ice-sdpfrag"
            status, _, _ = send("PATCH", place, body, Content_Type=kind, If_Match=tag, **self.login)
            say("patched", status)

    def changed(self, rtc, _) -> None:
        say("state", rtc.get_property("connection-state").value_nick)

    def pad(self, _, pad) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        is_video = pad.get_current_caps().get_structure(0).get_value("media") == "video"
        way = (
            "queue ! rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=GRAY8"
            if is_video
            else "queue ! rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE"
        )
        end = Gst.parse_bin_from_description(f"{way} ! appsink name=out emit-signals=true sync=false", True)
        end.get_by_name("out").connect("new-sample", self.picture if is_video else self.sound)
        self.pipeline.add(end)
        end.sync_state_with_parent()
        pad.link(end.get_static_pad("sink"))

    def picture(self, sink) -> Gst.FlowReturn:
        data = sink.emit("pull-sample").get_buffer().extract_dup(0, 1 << 30)
        say("picture", data[len(data) // 2])
        return Gst.FlowReturn.OK

    def sound(self, sink) -> Gst.FlowReturn:
        data = memoryview(sink.emit("pull-sample").get_buffer().extract_dup(0, 1 << 30)).cast("h")
        say("sound", max(map(abs, data)))
        return Gst.FlowReturn.OK


if __name__ == "__main__":
    Gst.init(None)
    peer = Peer(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "")
    sys.stdin.read()
    peer.pipeline.set_state(Gst.State.NULL)
