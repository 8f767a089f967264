"""Each workaround is needed as long as its fact holds: a failure here means that it can go, or has to change."""

from __future__ import annotations

import inspect
from fractions import Fraction

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, rtcrtpreceiver, rtcrtpsender
from aiortc.codecs import h264, vpx
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate, generate_certificate
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from rtc_ends import Camera, Host, Viewer, frame, run

from comfystream.media.pattern import draw_pattern
from comfystream_server.rtc import compat_aiortc


def test_fact_a_frame_is_held_until_the_next_begins() -> None:
    buffer = JitterBuffer(capacity=512, is_video=True)
    assert [buffer.add(packet)[1] for packet in frame(0, 0)] == [None] * 3, "the marker is not looked at"
    _, held = buffer.add(frame(1, 3)[0])
    assert held is not None


def test_fact_a_lost_packet_is_waited_for_without_end() -> None:
    buffer = JitterBuffer(capacity=512, is_video=True)
    buffer.add(frame(0, 0)[0])
    later = [packet for number in range(1, 150) for packet in frame(number, 3 * number)]
    assert not any(needs_key or found for needs_key, found in map(buffer.add, later))


def test_fact_h264_is_encoded_at_medium_between_constants() -> None:
    assert (h264.MIN_BITRATE, h264.MAX_BITRATE) == (500_000, 3_000_000)
    assert (vpx.MIN_BITRATE, vpx.MAX_BITRATE) == (250_000, 1_500_000)
    encoder = h264.H264Encoder()
    picture = draw_pattern(64, 64, 0)
    picture.pts, picture.time_base = 0, Fraction(1, 30)
    encoder.encode(picture)
    assert "preset" not in encoder.codec.options


def test_fact_reports_carry_the_time_of_sending() -> None:
    assert "clock.current_ntp_time()" in inspect.getsource(rtcrtpsender.RTCRtpSender._run_rtp)


def test_the_attributes_that_are_replaced_are_there(caplog: pytest.LogCaptureFixture) -> None:
    """On an aiortc without them a peer works all the same, with one warning: here it must not."""

    async def scenario() -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        transceiver = connection.addTransceiver("video")
        _, assembler = compat_aiortc.release_at_marker(transceiver.receiver, is_video=True)
        assert assembler is not None
        compat_aiortc.pack_with(transceiver.sender, "H264", lambda _: None, lambda: None)
        compat_aiortc.report_media_time(transceiver.sender, lambda: None)
        assert transceiver.sender._RTCRtpSender__lsr is None
        assert isinstance(transceiver.receiver._RTCRtpReceiver__decoder_queue.qsize(), int)
        await connection.close()

    run(scenario())
    assert "workaround" not in caplog.text


def test_other_objects_are_left_alone() -> None:
    """Nothing is patched module-wide: a connection beside ours is as aiortc made it."""

    async def scenario() -> None:
        host = Host()
        viewer = Viewer()
        viewer.pc.addTrack(Camera())
        await viewer.connect(host.peer.answer)
        await host.until("connected")
        theirs = viewer.pc.getTransceivers()[0]
        assert type(theirs.receiver._RTCRtpReceiver__jitter_buffer) is JitterBuffer
        assert type(theirs.receiver._RTCRtpReceiver__timestamp_mapper) is rtcrtpreceiver.TimestampMapper
        await viewer.pc.close()
        await host.peer.close()

    run(scenario())


def test_an_estimate_and_a_key_request_reach_us() -> None:
    async def scenario() -> None:
        told: list[object] = []
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        sender = connection.addTransceiver("video").sender
        compat_aiortc.pack_with(sender, "VP8", told.append, lambda: told.append("key"))
        estimate = rtcrtpsender.RtcpPsfbPacket(fmt=rtcrtpsender.RTCP_PSFB_APP, ssrc=1, media_ssrc=0)
        estimate.fci = rtcrtpreceiver.pack_remb_fci(777_000, [sender._ssrc])
        await sender._handle_rtcp_packet(estimate)
        await sender._handle_rtcp_packet(rtcrtpsender.RtcpPsfbPacket(rtcrtpsender.RTCP_PSFB_PLI, 1, sender._ssrc))
        assert told[1] == "key"
        assert told[0] == pytest.approx(777_000, rel=0.01)
        await connection.close()

    run(scenario())


def test_a_report_says_the_media_time_and_the_round_trip_is_still_measured() -> None:
    async def scenario() -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        sender = connection.addTransceiver("video").sender
        sent: list[bytes] = []

        class Wire:
            _stats_id = "wire"

            async def _send_rtp(self, data: bytes) -> None:
                sent.append(data)

        real, sender._RTCRtpSender__transport = sender.transport, Wire()
        ntp = 0x1234_5678_9ABC_DEF0
        compat_aiortc.report_media_time(sender, lambda: ntp)
        info = RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=2, packet_count=3, octet_count=4)
        sender._RTCRtpSender__lsr_time = 0.0
        await sender._send_rtcp([RtcpSrPacket(ssrc=1, sender_info=info)])
        assert ntp.to_bytes(8, "big") in sent[0]
        assert sender._RTCRtpSender__lsr == ntp >> 16 & 0xFFFFFFFF
        sender._RTCRtpSender__transport = real
        await connection.close()

    run(scenario())


def test_an_rsa_certificate_at_the_other_end() -> None:
    async def scenario() -> None:
        plain = RTCCertificate.generateCertificate()._create_ssl_context(srtp_profiles=SRTP_PROFILES)
        assert not [name for name in SSL.Connection(plain).get_cipher_list() if "ECDHE-RSA" in name], "needed no more"
        key = rsa.generate_private_key(65537, 2048)
        viewer, host = Viewer(), Host()
        certificates = viewer.pc._RTCPeerConnection__certificates
        certificates[:] = [RTCCertificate(key, generate_certificate(key))]
        compat_aiortc.accept_rsa(viewer.pc)
        viewer.pc.addTrack(Camera())
        await viewer.connect(host.peer.answer)
        await host.until("connected")
        await viewer.pc.close()
        await host.peer.close()

    run(scenario())
