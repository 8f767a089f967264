"""What the thread of one or several lanes owns, with frames on the host or on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from comfystream.engine.emitter import Emitter
from comfystream.engine.host import Host
from comfystream.engine.lanes import LaneState
from comfystream.engine.meter import Meter
from comfystream.frames import Frame, Lane
from comfystream.media.convert import TensorReader

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["make_states"]


def make_states(
    lanes: tuple[Lane, ...],
    host: Host,
    meter: Meter,
    on_output: Callable[[Frame], None],
    enter_thread: Callable[[], None],
    crashed: Callable[[BaseException], None],
) -> dict[Lane, LaneState]:
    """One state per lane of a thread.

    Args:
        lanes: that tick on the calling thread.
        host, meter: of the run.
        on_output: takes the frames.
        enter_thread, crashed: for the thread that waits for a device.
    """
    emitters = {lane: Emitter(on_output, host.blocker, meter) for lane in lanes}
    if host.backend is None or lanes == (Lane.AUDIO,):
        return {lane: LaneState(TensorReader(), emitter) for lane, emitter in emitters.items()}
    return _on_device(host.backend, emitters, host, meter, enter_thread, crashed)


def _on_device(
    backend: DeviceBackend,
    emitters: dict[Lane, Emitter],
    host: Host,
    meter: Meter,
    enter_thread: Callable[[], None],
    crashed: Callable[[BaseException], None],
) -> dict[Lane, LaneState]:
    from comfystream.engine.delivery import Delivery, PipelinedEmitter
    from comfystream.media.device.reader import DeviceReader

    delivery = Delivery(f"emit-{'-'.join(emitters)}", enter_thread, crashed)
    return {
        lane: LaneState(DeviceReader(backend), PipelinedEmitter(lane, emitter, backend, delivery, host.blocker, meter))
        for lane, emitter in emitters.items()
    }
