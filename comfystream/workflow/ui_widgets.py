"""Widget values of the editor's format: a bare list there, names to values here.

The editor writes one value per widget in the order of the class's inputs, and some that never reach a server: what a
seed does after a run, the upload button. Which inputs have a widget is known from the class alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfystream.catalog.dynamic import AUTOGROW, DYNAMIC_COMBO, DYNAMIC_SLOT, chosen_option, entry_parts, option_keys
from comfystream.catalog.spec import NodeSpec
from comfystream.workflow.types import is_combo

__all__ = ["WidgetValues", "default_of", "fits", "named_values"]

_WIDGET_TYPES = frozenset(
    ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "COLORS", "COLORCODE", "CURVE", "RANGE", "BOUNDING_BOX")
    + ("MARKDOWN", "TEXTAREA", "SELECTBUTTON", "MULTISELECT", "TREESELECT", "CHART", "GALLERIA", "IMAGECOMPARE")
    + ("FILEUPLOAD", "IMAGEUPLOAD", "IMAGE_UPLOAD", "AUDIO_UI", "AUDIOUPLOAD", "AUDIO_RECORD", "WEBCAM", "LOAD_3D")
    + ("LOAD_3D_ANIMATION", "PREVIEW_3D", "PREVIEW_3D_ANIMATION")
)
_CONTROLS = frozenset(("fixed", "increment", "decrement", "randomize", "increment-wrap"))
_SEEDS = ("seed", "noise_seed")
_UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload", "animated_image_upload")
_MODEL_BUTTONS = ("upload3dmodel", "uploadExtraResources", "clear")
_BUTTONS = ("image", "video", "audio", "file", "upload", "", None)


@dataclass(slots=True)
class WidgetValues:
    """Values by input name; `replaced` are those that did not fit and were set to their defaults."""

    values: dict[str, Any] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)


def named_values(spec: NodeSpec, widgets: list[Any] | Mapping[str, Any] | None) -> WidgetValues:
    """The values of a node's widgets by input name, defaults filled in."""
    if isinstance(widgets, Mapping):
        return _Walk(spec, _ByName(widgets)).run()
    given = widgets or []
    best: WidgetValues | None = None
    for with_forced, has_old_controls in ((False, False), (True, False), (False, True)):
        source = _InOrder(given, has_old_controls=has_old_controls)
        walk = _Walk(spec, source, with_forced=with_forced)
        found = walk.run()
        if not found.replaced and (not (with_forced or has_old_controls) or source.is_used_up):
            return found
        if best is None or (source.is_used_up and len(found.replaced) < len(best.replaced)):
            best = found
    assert best is not None
    return best


def default_of(input_type: Any, options: Mapping[str, Any]) -> Any:
    """What the editor would put into a new widget; `...` when it has none."""
    if "default" in options:
        return options["default"]
    if is_combo(input_type):
        allowed = options.get("options", []) if isinstance(input_type, str) else input_type
        return allowed[0] if allowed else ...
    plain = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "IMAGECOMPARE": "", "LOAD_3D": ""}
    return plain.get(_kind(input_type, options), ...)


def fits(value: Any, input_type: Any, options: Mapping[str, Any]) -> bool:
    """Whether a saved value can be one of this widget. A combo's value may be a file that this machine lacks."""
    kind = _kind(input_type, options)
    if is_combo(input_type):
        return _fits_combo(value, options.get("options", []) if isinstance(input_type, str) else input_type, options)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind in ("INT", "FLOAT"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "STRING":
        return isinstance(value, str | int | float)
    return True


def _fits_combo(value: Any, allowed: Any, options: Mapping[str, Any]) -> bool:
    if isinstance(value, list):
        return bool(options.get("multiselect", False))
    if value in allowed:
        return True
    # an unknown text may be a model that is not installed; among texts, a number or a boolean is out of place
    texts_only = all(isinstance(item, str) for item in allowed)
    return isinstance(value, str) if texts_only else isinstance(value, str | int | float)


def _kind(input_type: Any, options: Mapping[str, Any]) -> str:
    widget_type = options.get("widgetType")
    kind = widget_type if isinstance(widget_type, str) else input_type
    return kind if isinstance(kind, str) else ""


class _InOrder:
    """A list of values, taken one after the other.

    Args:
        values: as saved.
        has_old_controls: what happens to a seed after a run is a boolean, as editors of 2023 wrote it.
    """

    def __init__(self, values: list[Any], *, has_old_controls: bool = False) -> None:
        self.values = values
        self.has_old_controls = has_old_controls
        self.position = 0

    @property
    def is_used_up(self) -> bool:
        return self.position >= len(self.values)

    def take(self, name: str) -> Any:
        if self.is_used_up:
            return ...
        self.position += 1
        return self.values[self.position - 1]

    def skip(self, wanted: Any) -> bool:
        """Pass over the next value if it is one of `wanted`."""
        found = not self.is_used_up and _is_one_of(self.values[self.position], wanted)
        self.position += found
        return found

    def skip_control(self) -> bool:
        """Pass over what happens to the value before after a run."""
        if self.has_old_controls and not self.is_used_up and isinstance(self.values[self.position], bool):
            self.position += 1
            return True
        return self.skip(_CONTROLS)

    def skip_text(self) -> None:
        if not self.is_used_up and isinstance(self.values[self.position], str):
            self.position += 1


class _ByName:
    """Values by name, as some packs save them; what is no input is never asked for."""

    is_used_up = True

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def take(self, name: str) -> Any:
        return self.values.get(name, ...)

    def skip(self, wanted: Any) -> bool:
        return False

    def skip_control(self) -> bool:
        return False

    def skip_text(self) -> None:
        return


def _is_one_of(value: Any, wanted: Any) -> bool:
    return isinstance(value, str | None) and value in wanted


class _Walk:
    """Goes through the declared inputs in order and gives each widget its value."""

    def __init__(self, spec: NodeSpec, source: _InOrder | _ByName, *, with_forced: bool = False) -> None:
        self.spec = spec
        self.source = source
        self.with_forced = with_forced
        self.found = WidgetValues()

    def run(self) -> WidgetValues:
        self._section(self.spec.inputs, "")
        return self.found

    def _section(self, sections: Mapping[str, Mapping[str, Any]], prefix: str) -> None:
        for section in ("required", "optional"):
            for name, entry in (sections.get(section) or {}).items():
                self._input(f"{prefix}{name}", name, entry)

    def _input(self, name: str, bare_name: str, entry: Any) -> None:
        input_type, options = entry_parts(entry)
        if input_type == DYNAMIC_COMBO:
            self._dynamic_combo(name, entry)
            return
        if input_type in (AUTOGROW, DYNAMIC_SLOT) or not _has_widget(input_type, options):
            return
        if options.get("forceInput"):
            if self.with_forced:
                self.source.take(name)
            return
        self._keep(name, self.source.take(name), input_type, options)
        self._skip_extras(bare_name, input_type, options)

    def _keep(self, name: str, value: Any, input_type: Any, options: Mapping[str, Any]) -> None:
        if value is not ... and fits(value, input_type, options):
            self.found.values[name] = value
            return
        default = default_of(input_type, options)
        if default is not ...:
            self.found.values[name] = default
        if value is not ... and value is not None:
            self.found.replaced.append(name)

    def _skip_extras(self, name: str, input_type: Any, options: Mapping[str, Any]) -> None:
        control = options.get("control_after_generate")
        is_seed = input_type == "INT" and name in _SEEDS and control is None
        if (control or is_seed) and self.source.skip_control() and is_combo(input_type):
            self.source.skip_text()
        if any(options.get(upload) for upload in _UPLOADS):
            if not self.source.skip(_MODEL_BUTTONS):
                self.source.skip(_BUTTONS)
            while self.source.skip(_MODEL_BUTTONS):
                continue

    def _dynamic_combo(self, name: str, entry: Any) -> None:
        keys = option_keys(entry)
        value = self.source.take(name)
        if value is ... or value not in keys:
            if value is not ... and value is not None:
                self.found.replaced.append(name)
            default = entry_parts(entry)[1].get("default")
            value = default if default in keys else (keys[0] if keys else ...)
        if value is ...:
            return
        self.found.values[name] = value
        option = chosen_option(entry, value)
        if option is not None:
            self._section(option, f"{name}.")


def _has_widget(input_type: Any, options: Mapping[str, Any]) -> bool:
    """Whether the editor shows a widget; only inputs with one say whether they also have a socket."""
    is_custom = "widgetType" in options or "socketless" in options
    return isinstance(input_type, list) or is_custom or _kind(input_type, options) in _WIDGET_TYPES
