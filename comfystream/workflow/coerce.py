"""Constants: turned into what the input wants, and held against its range or list, as ComfyUI does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfystream.workflow.problem import nearest
from comfystream.workflow.types import COMBO, is_combo

__all__ = ["Fault", "coerced", "combo_fault", "range_fault"]

_LONG_LIST = 20  # ComfyUI does not spell out longer lists
_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_WANTED = {"INT": "a whole number", "FLOAT": "a number"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one constant; `received_value` and `input_config` are for `extra_info`."""

    type: str
    message: str
    details: str
    hint: str
    extra_info: Mapping[str, Any]


def coerced(name: str, value: Any, input_type: Any, options: Mapping[str, Any]) -> tuple[Any, Fault | None]:
    """`value` as the input wants it. Only INT, FLOAT, STRING and BOOLEAN convert; unions and all else stay."""
    converter = _CONVERTERS.get(input_type) if isinstance(input_type, str) else None
    if converter is None:
        return value, None
    try:
        return converter(value), None
    except (TypeError, ValueError, OverflowError) as error:
        fault = Fault(
            "invalid_input_type",
            f"Failed to convert an input value to a {input_type} value",
            f"{name}, {value}, {error}",
            f"{name} wants {_WANTED.get(input_type, input_type)}",
            _extra(input_type, options, value) | {"exception_message": str(error)},
        )
        return value, fault


def range_fault(name: str, value: Any, input_type: Any, options: Mapping[str, Any]) -> Fault | None:
    """A value below `min` or above `max`.

    Raises:
        TypeError: the value cannot be compared with a number (ComfyUI fails on it, too).
    """
    if "min" in options and value < options["min"]:
        kind, words, limit = "value_smaller_than_min", "smaller than min", options["min"]
    elif "max" in options and value > options["max"]:
        kind, words, limit = "value_bigger_than_max", "bigger than max", options["max"]
    else:
        return None
    return Fault(
        kind,
        f"Value {value} {words} of {limit}",
        name,
        f"{name} takes {_range_words(options)}",
        _extra(input_type, options, value),
    )


def combo_fault(name: str, value: Any, input_type: Any, options: Mapping[str, Any]) -> Fault | None:
    """A value that is not in the list of a combo; membership is by equality, so 1, 1.0 and True are the same."""
    if not is_combo(input_type):
        return None
    allowed = options.get("options", []) if input_type == COMBO else input_type
    values = value if options.get("multiselect", False) and isinstance(value, list) else [value]
    wrong = [item for item in values if item not in allowed]
    if not wrong:
        return None
    is_long = len(allowed) > _LONG_LIST
    listed = f"(list of length {len(allowed)})" if is_long else str(allowed)
    extra = _extra(input_type, options, value)
    return Fault(
        "value_not_in_list",
        "Value not in list",
        f"{name}: {', '.join(repr(item) for item in wrong)} not in {listed}",
        _combo_hint(name, wrong[0], list(allowed)),
        extra | {"input_config": None} if is_long else extra,
    )


def _extra(input_type: Any, options: Mapping[str, Any], value: Any) -> dict[str, Any]:
    return {"input_config": (input_type, options), "received_value": value}


def _range_words(options: Mapping[str, Any]) -> str:
    low, high = options.get("min"), options.get("max")
    if low is None or high is None:
        return f"{high} at most" if low is None else f"{low} at least"
    return f"{low} to {high}"


def _combo_hint(name: str, value: Any, allowed: list[Any]) -> str:
    if not allowed:
        return f"there is nothing to choose from for {name} on this machine; is a model or file missing?"
    texts = [str(item) for item in allowed]
    choice = nearest(str(value), texts) or texts[:3]
    more = "" if len(choice) == len(texts) else f" (one of {len(texts)})"
    return f"{name} takes {' or '.join(choice)}{more}" if len(choice) < 3 else f"{name} takes {', '.join(choice)}{more}"
