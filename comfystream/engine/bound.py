"""Steps with something to call: node instances, hidden values, and the function that a step stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfystream.catalog import v3
from comfystream.catalog.dynamic import effective_inputs, nest_inputs
from comfystream.engine.dynprompt import DynamicPrompt
from comfystream.engine.step import Step

if TYPE_CHECKING:
    from comfystream.engine.plan import LanePlan

__all__ = ["Binder", "HiddenValues", "Instances"]


class Instances:
    """One instance per node id and class: nodes keep state on `self` from frame to frame, and across revisions."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, type], Any] = {}

    def get(self, step: Step) -> Any:
        """The step's instance, made on first use."""
        key = (step.id, step.spec.cls)
        if key not in self._made:
            self._made[key] = step.spec.cls()
        return self._made[key]

    def has(self, step: Step) -> bool:
        """Whether this id and class have an instance."""
        return (step.id, step.spec.cls) in self._made

    def fork(self) -> Instances:
        """Instances for a rehearsal beside a running plan: copies of those that are in use, so that a warm-up frame
        does not count as a frame to them. What the copies hold (a loaded model) is shared.
        """
        forked = Instances()
        forked._made = {key: copy.copy(instance) for key, instance in self._made.items()}
        return forked

    def adopt_new(self, forked: Instances) -> None:
        """Take over the instances that a fork made and this table does not have."""
        for key, instance in forked._made.items():
            self._made.setdefault(key, instance)

    def keep_only(self, steps: Iterable[Step]) -> None:
        """Drop the instances of all other steps."""
        wanted = {(step.id, step.spec.cls) for step in steps}
        self._made = {key: instance for key, instance in self._made.items() if key in wanted}


@dataclass(frozen=True, slots=True)
class HiddenValues:
    """What hidden inputs get.

    Attributes:
        prompt: the workflow in API form.
        dynprompt: the same with the nodes that expansion adds.
        pnginfo: `{"workflow": <the editor's form>}`, or None.
    """

    prompt: Mapping[str, Any]
    dynprompt: DynamicPrompt
    pnginfo: Mapping[str, Any] | None

    def of(self, step: Step, marker: str) -> Any:
        """The value for one marker; None for those that need an account."""
        match marker:
            case "PROMPT":
                return self.prompt
            case "DYNPROMPT":
                return self.dynprompt
            case "EXTRA_PNGINFO":
                return self.pnginfo
            case "UNIQUE_ID":
                return step.id
            case _:
                return None


class Binder:
    """Gives each step its function. One per activation of a plan; the functions stay the same objects for its life."""

    def __init__(self, instances: Instances, hidden: HiddenValues) -> None:
        self.instances = instances
        self.hidden = hidden
        self._functions: dict[str, Callable[..., Any]] = {}

    def function(self, step: Step) -> Callable[..., Any]:
        """What to call with the step's inputs as keyword arguments (hidden ones are `extra_arguments`)."""
        found = self._functions.get(step.id)
        if found is None:
            found = self._functions[step.id] = self._bind(step)
        return found

    def _bind(self, step: Step) -> Callable[..., Any]:
        if step.spec.api == "v1":
            method: Callable[..., Any] = getattr(self.instances.get(step), step.spec.function)
            return method
        values = {marker: self.hidden.of(step, marker) for marker in step.spec.hidden.values()}
        bound = v3.bind_v3(step.spec, values)
        if not step.spec.has_dynamic_inputs:
            return bound
        effective = effective_inputs(step.spec, {**step.constants, **dict.fromkeys(name for name, _ in step.links)})
        return lambda **inputs: bound(**nest_inputs(effective, inputs))

    def shown_place(self, step: Step) -> str:
        """Where the node gets its pictures, "cuda" or "host", when frames are on a device; else empty."""
        return ""

    def moved(self, step: Step) -> tuple[int, int]:
        """Bytes that were brought to or from a device for the node, and the nanoseconds that it waited for them."""
        return 0, 0

    def frame_is_for_host(self, lane: LanePlan) -> bool:
        """Whether a lane's frames are wanted on the host although the others are on a device."""
        return False

    def extra_arguments(self, step: Step) -> dict[str, Any]:
        """Hidden inputs that a V1 function gets as arguments."""
        if step.spec.api != "v1":
            return {}
        return {
            name: self.hidden.of(step, marker) for name, marker in step.hidden.items() if name not in step.constants
        }

    def lazy_status(self, step: Step) -> Callable[..., Any]:
        """`check_lazy_status`, bound as the function is."""
        if step.spec.api == "v1":
            method: Callable[..., Any] = self.instances.get(step).check_lazy_status
            return method
        values = {marker: self.hidden.of(step, marker) for marker in step.spec.hidden.values()}
        bound = v3.bind_v3(step.spec, values, method="check_lazy_status")
        if not step.spec.has_dynamic_inputs:
            return bound
        effective = effective_inputs(step.spec, {**step.constants, **dict.fromkeys(name for name, _ in step.links)})
        return lambda **inputs: bound(**nest_inputs(effective, inputs, as_pairs=True))

    def fingerprint(self, step: Step) -> Callable[..., Any]:
        """`IS_CHANGED` of V1 (on the class), `fingerprint_inputs` of V3."""
        if step.spec.api == "v1":
            method: Callable[..., Any] = step.spec.cls.IS_CHANGED  # type: ignore[attr-defined]
            return method
        return v3.bind_v3(step.spec, {}, method="fingerprint_inputs")
