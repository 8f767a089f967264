"""Where nodes get their pictures when frames are on a device: as they come, all there, or all on the host.

Most nodes take what they get. One that cannot (it calls `.numpy()`, or mixes what it gets with tensors of its own) is
found out when it is called for the first time, in the rehearsal of a live run: it raises, is called again with its
linked inputs moved, and if that works it is called so from then on. What it raises wherever its inputs are is its own.
A node may raise later, when it has kept something of the frame before; if it is a TypeError or RuntimeError, as torch
gives them for tensors in the wrong place, it is then moved in the same way, never back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from comfystream.catalog.comfyui.compat_running import is_interruption, raised_by_nodes
from comfystream.engine.bound import Binder, HiddenValues, Instances
from comfystream.engine.plan import LanePlan, Plan
from comfystream.engine.step import Schedule, Step

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["Moved", "Place", "PlacedBinder", "Placement", "Places"]

HOST = "host"


class Place(Enum):
    """What a node's linked inputs go through before it is called. In the order in which they are tried."""

    COMES = auto()  # nothing, except that what host nodes made is brought to the device
    DEVICE = auto()  # everything is brought to the device
    HOST = auto()  # everything is brought to the host


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a node gets its pictures.

    Attributes:
        place: what happens to its inputs.
        shown: for people: the device's type ("cuda") when it took or gave something there, "host" when all its tensors
            were on the host, empty when it has none.
    """

    place: Place
    shown: str


@dataclass(slots=True)
class Moved:
    """What was brought to or from the device for one node.

    Attributes:
        bytes: in all calls since its place is known.
        ns: how long its thread waited for that.
    """

    bytes: int = 0
    ns: int = 0


class Places:
    """The placements of one run, by node id and class, kept through its revisions.

    Args:
        backend: the device that frames are on.
    """

    def __init__(self, backend: DeviceBackend) -> None:
        self.backend = backend
        self.version = 0
        self._found: dict[str, tuple[type, Placement]] = {}

    def of(self, step: Step) -> Placement | None:
        """The placement of a node, or None before its first call."""
        cls, placement = self._found.get(step.id, (None, None))
        return placement if cls is step.spec.cls else None

    def is_host(self, id: str) -> bool:
        """Whether the node with this id is placed on the host."""
        found = self._found.get(id)
        return found is not None and found[1].place is Place.HOST

    def settle(self, step: Step, placement: Placement) -> None:
        """A node was called, and this is how it worked."""
        self._found[step.id] = step.spec.cls, placement
        self.version += 1

    def keep_only(self, steps: Iterable[Step]) -> None:
        """Forget all other nodes, and those whose id has another class now."""
        classes: dict[str, set[type]] = {}
        for step in steps:
            classes.setdefault(step.id, set()).add(step.spec.cls)
        self._found = {id: found for id, found in self._found.items() if found[0] in classes.get(id, ())}

    # --- moving

    def to_host(self, value: Any) -> Any:
        """A slot value with its tensors on the host; the same object when they are. Waits for the device."""
        return _moved(value, lambda tensor: tensor.cpu() if self.backend.is_here(tensor) else tensor)

    def to_device(self, value: Any) -> Any:
        """A slot value with its tensors on the device; the same object when they are."""
        return _moved(value, self.backend.to_device)

    def shown(self, values: Any) -> str:
        """See `Placement.shown`."""
        here = [self.backend.is_here(tensor) for tensor in _tensors(values)]
        return "" if not here else self.backend.device.type if any(here) else HOST


class PlacedBinder(Binder):
    """Gives functions that get their inputs where they can take them."""

    def __init__(self, instances: Instances, hidden: HiddenValues, places: Places, plan: Plan) -> None:
        super().__init__(instances, hidden)
        self._places = places
        self._plan = plan
        self._moved: dict[str, Moved] = {}
        self._frames: dict[str, tuple[int, bool]] = {}

    def _bind(self, step: Step) -> Callable[..., Any]:
        function = super()._bind(step)
        if step.schedule is Schedule.STATIC and step.parent is None:
            return function
        above = {name: self._plan.steps.get(link.node) for name, link in step.links}
        still = {name for name, one in above.items() if one is not None and one.schedule is Schedule.STATIC}
        call = _Call(step, function, still, self._places, self._moved.setdefault(step.id, Moved()))
        return call.run_async if step.is_async else call.run

    def shown_place(self, step: Step) -> str:
        """See `Binder.shown_place`."""
        placement = self._places.of(step)
        return placement.shown if placement is not None else ""

    def moved(self, step: Step) -> tuple[int, int]:
        """See `Binder.moved`."""
        moved = self._moved.get(step.id, Moved())
        return moved.bytes, moved.ns

    def frame_is_for_host(self, lane: LanePlan) -> bool:
        """See `Binder.frame_is_for_host`."""
        version, answer = self._frames.get(lane.lane, (-1, False))
        if version != self._places.version:
            version, answer = self._places.version, self._all_readers_on_host(lane)
            self._frames[lane.lane] = version, answer
        return answer

    def _all_readers_on_host(self, lane: LanePlan) -> bool:
        readers = {
            id
            for id, step in self._plan.steps.items()
            for _, link in step.links
            if link.node in lane.bound_inputs and link.slot == 0
        }
        return all(self._places.is_host(id) for id in readers)


class _Call:
    """The calls of one node; finds its placement in the first one, and another when that does not work any more.

    Args:
        step, function: the node.
        still: names of inputs that are the same in each call; they are moved once.
        places, moved: what is written down.
    """

    def __init__(
        self, step: Step, function: Callable[..., Any], still: Collection[str], places: Places, moved: Moved
    ) -> None:
        self._still = still
        self._kept: dict[tuple[str, Place], tuple[Any, Any]] = {}
        self._step = step
        self._function = function
        self._places = places
        self._moved = moved
        self._above = tuple((name, link.node) for name, link in step.links if name not in step.raw)
        self._names = tuple(name for name, _ in self._above)
        self._from_host: tuple[int, tuple[str, ...]] = (-1, ())

    def run(self, **inputs: Any) -> Any:
        """Call the node."""
        known = self._known()
        failed: list[BaseException] = []  # emptied at the end: a frame and its error must not keep each other
        for place, given in self._attempts(known or Place.COMES, inputs):
            try:
                result = self._function(**given)
            except raised_by_nodes() as error:
                if not self._may_be_elsewhere(error, known):
                    raise
                if not failed:
                    failed.append(error)
            else:
                return result if place is known else self._settled(place, given, result)
        raise failed.pop()

    async def run_async(self, **inputs: Any) -> Any:
        """Call a node that is a coroutine function."""
        known = self._known()
        failed: list[BaseException] = []
        for place, given in self._attempts(known or Place.COMES, inputs):
            try:
                result = await self._function(**given)
            except raised_by_nodes() as error:
                if not self._may_be_elsewhere(error, known):
                    raise
                if not failed:
                    failed.append(error)
            else:
                return result if place is known else self._settled(place, given, result)
        raise failed.pop()

    def _known(self) -> Place | None:
        placement = self._places.of(self._step)
        return placement.place if placement is not None else None

    def _attempts(self, first: Place, inputs: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The inputs as a place has them, then as the places after it do; one that moves nothing more is left out."""
        tried = self._given(first, inputs)
        yield first, tried
        for place in Place:
            if place.value > first.value:
                given = self._given(place, tried if place is Place.DEVICE else inputs)
                if any(given[name] is not tried[name] for name in given):
                    yield place, given

    def _may_be_elsewhere(self, error: BaseException, known: Place | None) -> bool:
        """Whether a node may have raised for where its inputs are. What it raises in the end is its first error.

        A node that has worked is moved only for what torch raises there; anything else is taken for its own.
        """
        import torch

        if is_interruption(error) or isinstance(error, torch.OutOfMemoryError):
            return False
        return known is None or isinstance(error, TypeError | RuntimeError)

    def _settled(self, place: Place, given: Mapping[str, Any], result: Any) -> Any:
        shown = HOST if place is Place.HOST else self._places.shown([*given.values(), result])
        self._places.settle(self._step, Placement(place, shown))
        self._moved.bytes = self._moved.ns = 0  # attempts do not count
        return result

    def _given(self, place: Place, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs as a place has them; the same dictionary when nothing is moved there."""
        names = self._made_on_host() if place is Place.COMES else self._names
        if not names:
            return inputs
        return {**inputs, **{name: self._brought(name, place, inputs[name]) for name in names if name in inputs}}

    def _brought(self, name: str, place: Place, value: Any) -> Any:
        move = self._places.to_host if place is Place.HOST else self._places.to_device
        if name not in self._still:
            return self._counted(move, value)
        before, moved = self._kept.get((name, place), (None, None))
        if before is not value:
            moved = self._counted(move, value)
            self._kept[name, place] = value, moved
        return moved

    def _made_on_host(self) -> tuple[str, ...]:
        """Names of the inputs that nodes on the host give; they have run when this one runs."""
        version, names = self._from_host
        if version != self._places.version:
            names = tuple(name for name, id in self._above if self._places.is_host(id))
            self._from_host = self._places.version, names
        return names

    def _counted(self, move: Callable[[Any], Any], value: Any) -> Any:
        began = time.perf_counter_ns()
        moved = move(value)
        if moved is not value:
            self._moved.ns += time.perf_counter_ns() - began
            self._moved.bytes += sum(tensor.numel() * tensor.element_size() for tensor in _tensors(moved))
        return moved


def _moved(value: Any, move: Callable[[Any], Any]) -> Any:
    """A value with `move` applied to its tensors, also inside of plain containers (a LATENT, a list of images)."""
    if hasattr(value, "element_size"):
        return move(value)
    if type(value) is dict:
        named = {name: _moved(item, move) for name, item in value.items()}
        return named if any(named[name] is not item for name, item in value.items()) else value
    if type(value) in (list, tuple):
        items = [_moved(item, move) for item in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of slot values or of a node's result; single numbers do not count."""
    if hasattr(value, "element_size"):
        if value.dim():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors([*value.values()])
    elif isinstance(result := getattr(value, "result", None), tuple):  # a V3 NodeOutput
        yield from _tensors(result)
