"""GStreamer's webrtcbin over WHIP or WHEP: `gst_peer.py whip|whep URL [TOKEN]`, by a Python that has its bindings.

Prints `picture BRIGHTNESS` for each picture and `sound PEAK` for each buffer, and ends when its input does.
"""

from __future__ import annotations

import sys
import threading
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


def post(url: str, sdp: str, token: str) -> str:
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(urllib.request.Request(url, sdp.encode(), headers), timeout=20) as response:
        assert response.status == 201
        say("location", response.headers["Location"])
        return response.read().decode()


class Peer:
    """A pipeline with one webrtcbin, which offers when all its candidates are known."""

    def __init__(self, way: str, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.pipeline = Gst.parse_launch(SENDING) if way == "whip" else Gst.Pipeline.new(None)
        if way == "whip":
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
        self.rtc.connect("notify::connection-state", self.changed)
        self.rtc.connect("on-negotiation-needed", self.begin)
        self.pipeline.set_state(Gst.State.PLAYING)

    def begin(self, rtc) -> None:
        rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, rtc))

    def offered(self, promise, rtc) -> None:
        self.reply = promise.get_reply()
        offer = self.reply.get_value("offer")
        rtc.emit("set-local-description", offer, Gst.Promise.new())

    def gathered(self, rtc, _) -> None:
        if rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            threading.Thread(target=self.exchange, daemon=True).start()

    def exchange(self) -> None:
        answer = post(self.url, self.rtc.get_property("local-description").sdp.as_text(), self.token)
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer.encode(), message)
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.rtc.emit("set-remote-description", described, Gst.Promise.new())

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
