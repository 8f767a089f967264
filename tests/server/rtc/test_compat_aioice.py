"""Each workaround is needed as long as its fact holds: a failure here means that it can go, or has to change."""

from __future__ import annotations

import inspect
import socket

import pytest
from aioice import ice as aioice_ice
from aiortc import RTCConfiguration, RTCPeerConnection, rtcdtlstransport
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from rtc_ends import Camera, Host, Viewer, run

from comfystream_server.rtc import compat_aioice
from comfystream_server.rtc.ice import IceSettings, PortRange


def test_fact_no_configuration_means_a_public_server() -> None:
    assert RTCIceGatherer.getDefaultIceServers()
    assert IceSettings().configuration().iceServers == []


def test_fact_aioice_takes_any_port_and_leaves_out_loopback() -> None:
    source = inspect.getsource(aioice_ice.Connection.get_component_candidates)
    assert "local_addr=(address, 0)" in source
    assert "127.0.0.1" not in aioice_ice.get_host_addresses(use_ipv4=True, use_ipv6=False)


def test_fact_an_ice_transport_keeps_its_first_connection() -> None:
    """Where aiortc takes new credentials these lines are others, and `SecondIce` is not needed."""
    source = inspect.getsource(RTCIceTransport)
    assert source.count("self._connection =") == 1
    assert "if self.__start is not None:" in inspect.getsource(RTCIceTransport.start)
    assert "_recv = self._connection.recv" in source
    assert "self.transport._recv()" in inspect.getsource(rtcdtlstransport.RTCDtlsTransport)
    assert "self._queue.get()" in inspect.getsource(aioice_ice.Connection.recvfrom)
    assert "self._event_waiter" in inspect.getsource(aioice_ice.Connection.get_event)


def test_the_attributes_that_are_replaced_are_there(caplog: pytest.LogCaptureFixture) -> None:
    """On an aioice without them a peer works all the same, with one warning: here it must not."""

    async def scenario() -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTransceiver("video")
        compat_aioice.limit_ports(connection, IceSettings(has_loopback=True))
        (transport,) = connection._RTCPeerConnection__iceTransports
        assert compat_aioice.live_transport(connection) is None, "it is not up yet"
        ice = transport._connection
        for name in ("_queue", "_event_waiter", "_query_consent_task", "_closing", "ice_controlling"):
            assert hasattr(ice, name), name
        assert transport._RTCIceTransport__iceGatherer is transport.iceGatherer
        await connection.close()

    run(scenario())
    assert "workaround" not in caplog.text


def test_media_ports_and_loopback() -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            low = min(probe.getsockname()[1], 65_000)
        host = Host(ice=IceSettings(media_ports=PortRange(low, low + 40), has_loopback=True))
        viewer = Viewer()
        viewer.pc.addTrack(Camera())
        await viewer.connect(host.peer.answer)
        await host.until("connected")
        lines = viewer.pc.remoteDescription.sdp.splitlines()
        words = [line.split() for line in lines if line.startswith("a=candidate")]
        found = {(candidate[4], int(candidate[5])) for candidate in words}
        assert all(low <= port <= low + 40 for _, port in found)
        assert "127.0.0.1" in {address for address, _ in found}
        await viewer.pc.close()
        await host.peer.close()

    run(scenario())
