"""Socket types whose inputs are widgets."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, ClassVar

from ._kinds import HEAD, REQUIRED, TAIL, ComfyTypeI, ComfyTypeIO, Output, WidgetInput, comfytype, wire


class FolderType(StrEnum):
    """Which of the three folders a file lies in."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(StrEnum):
    """What can be uploaded into a combo."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(StrEnum):
    """How a number is shown."""

    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"


class ControlAfterGenerate(StrEnum):
    """What an editor does with a value after each run."""

    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class RemoteOptions:
    """Combo options that an editor fetches from a route."""

    def __init__(
        self,
        route: str,
        refresh_button: bool,
        control_after_refresh: str = "first",
        timeout: int | None = None,
        max_retries: int | None = None,
        refresh: int | None = None,
    ) -> None:
        self.route = route
        self.refresh_button = refresh_button
        self.control_after_refresh = control_after_refresh
        self.timeout = timeout
        self.max_retries = max_retries
        self.refresh = refresh

    def as_dict(self) -> dict[str, Any]:
        """As object_info has it."""
        return wire(vars(self))


def widget(*, takes: Mapping[str, Any], shows: Mapping[str, str], ends: Mapping[str, Any]) -> type[WidgetInput]:
    """A widget class: `takes` between the common arguments and `ends`, `shows` beside the common options."""
    signature = {**HEAD, **takes, **ends, **TAIL}
    return type("Input", (WidgetInput,), {"SIGNATURE": signature, "WIRE": {**WidgetInput.WIRE, **shows}})


def shown(*names: str, **renamed: str) -> dict[str, str]:
    """Attributes and their keys in object_info."""
    return {**{name: name for name in names}, **renamed}


SOCKET = {"socketless": None, "force_input": None}


@comfytype("BOOLEAN")
class Boolean(ComfyTypeIO):
    """A switch."""

    Type = bool
    Input = widget(
        takes={"default": None, "label_on": None, "label_off": None}, shows=shown("label_on", "label_off"), ends=SOCKET
    )


@comfytype("INT")
class Int(ComfyTypeIO):
    """A whole number."""

    Type = int
    Input = widget(
        takes=dict.fromkeys(("default", "min", "max", "step", "control_after_generate", "display_mode")),
        shows=shown("min", "max", "step", "control_after_generate", display_mode="display"),
        ends=SOCKET,
    )


@comfytype("FLOAT")
class Float(ComfyTypeIO):
    """A number."""

    Type = float
    Input = widget(
        takes=dict.fromkeys(("default", "min", "max", "step", "round", "display_mode", "gradient_stops")),
        shows=shown("min", "max", "step", "round", "gradient_stops", display_mode="display"),
        ends=SOCKET,
    )


@comfytype("STRING")
class String(ComfyTypeIO):
    """A text."""

    Type = str
    Input = widget(
        takes={"multiline": False, "placeholder": None, "default": None, "dynamic_prompts": None},
        shows=shown("multiline", "placeholder", dynamic_prompts="dynamicPrompts"),
        ends=SOCKET,
    )


class _ComboInput(WidgetInput):
    options: Any
    upload: UploadType | None = None
    remote: RemoteOptions | None = None
    image_folder: FolderType | None = None
    multiselect = False
    SIGNATURE = {
        "id": REQUIRED,
        "options": None,
        **{name: default for name, default in HEAD.items() if name != "id"},
        **dict.fromkeys(("default", "control_after_generate", "upload", "image_folder", "remote", "socketless")),
        **TAIL,
    }
    WIRE = {**WidgetInput.WIRE, **shown("multiselect", "options", "control_after_generate", "image_folder")}

    def settle(self) -> None:
        super().settle()
        if isinstance(self.options, type) and issubclass(self.options, Enum):
            self.options = [member.value for member in self.options]
        if isinstance(self.default, Enum):
            self.default = self.default.value

    def as_dict(self) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self.upload is not None:
            more[self.upload.value] = True
        if self.remote is not None:
            more["remote"] = self.remote.as_dict()
        return {**super().as_dict(), **more}


class _ComboOutput(Output):
    options: Any
    SIGNATURE = {"id": None, "display_name": None, "options": None, "tooltip": None, "is_output_list": False}

    def settle(self) -> None:
        super().settle()
        self.options = self.options if self.options is not None else []


@comfytype("COMBO")
class Combo(ComfyTypeIO):
    """One of a list."""

    Type = str
    Input: ClassVar[Any] = _ComboInput
    Output: ClassVar[Any] = _ComboOutput


@comfytype("COMBO")
class MultiCombo(ComfyTypeI):
    """Any number of a list."""

    Type = list[str]

    class Input(Combo.Input):  # type: ignore[misc]
        """A combo that takes several values."""

        multiselect = True
        SIGNATURE = {
            "id": REQUIRED,
            "options": REQUIRED,
            **{name: default for name, default in HEAD.items() if name != "id"},
            **dict.fromkeys(("default", "placeholder", "chip", "control_after_generate", "socketless")),
            **TAIL,
        }

        def as_dict(self) -> dict[str, Any]:
            """Options with those of the multi-select widget."""
            extra = wire({"placeholder": self.placeholder, "chip": self.chip})
            return {**super().as_dict(), "multi_select": extra}


def _plain_widget(**takes: Any) -> type[WidgetInput]:
    """Arguments after the common ones (no `lazy`), in the order given."""
    common = {name: default for name, default in HEAD.items() if name != "lazy"}
    return type("Input", (WidgetInput,), {"SIGNATURE": {**common, **takes}})


@comfytype("WEBCAM")
class Webcam(ComfyTypeIO):
    """A picture that an editor takes."""

    Type = str
    Input = widget(takes={"default": None}, shows={}, ends={"socketless": None})


@comfytype("IMAGECOMPARE")
class ImageCompare(ComfyTypeI):
    """Two pictures side by side."""

    Type = dict
    Input = _plain_widget(socketless=True, advanced=None)


@comfytype("COLOR")
class Color(ComfyTypeIO):
    """A colour as "#rrggbb"."""

    Type = str
    Input = _plain_widget(socketless=True, advanced=None, default="#ffffff")


def _with_default(make: Any, **takes: Any) -> type[WidgetInput]:
    """A plain widget whose default, when None, is made anew for each input."""

    def settle(self: WidgetInput) -> None:
        base.settle(self)
        if self.default is None:
            self.default = make()

    base = _plain_widget(**takes)
    return type("Input", (base,), {"settle": settle})


@comfytype("COLORS")
class Colors(ComfyTypeIO):
    """A list of colours."""

    Type = list[str]
    Input = _with_default(list, socketless=True, default=None, advanced=None)


@comfytype("COMPOSITOR")
class Compositor(ComfyTypeIO):
    """State of a layer editor."""

    LayerState = dict[str, Any]
    Type = LayerState
    Input = _with_default(dict, socketless=True, default=None, advanced=None)


@comfytype("BOUNDING_BOX")
class BoundingBox(ComfyTypeIO):
    """A rectangle in pixels: x, y, width, height."""

    BoundingBoxDict = dict[str, int]
    Type = BoundingBoxDict

    class Input(
        _with_default(  # type: ignore[misc]
            lambda: {"x": 0, "y": 0, "width": 512, "height": 512},
            socketless=True,
            default=None,
            component=None,
            force_input=None,
        )
    ):
        """A rectangle widget."""

        WIRE = {**WidgetInput.WIRE, "component": "component"}


@comfytype("BOUNDING_BOXES")
class BoundingBoxes(ComfyTypeIO):
    """Rectangles, each with metadata."""

    BoundingBoxWithMetadata = dict[str, Any]
    Type = list[dict[str, Any]]
    Input = _with_default(list, socketless=True, default=None, advanced=None)


@comfytype("CURVE")
class Curve(ComfyTypeIO):
    """A curve through points."""

    CurvePoint = tuple[float, float]
    Type = Any

    class Input(
        _with_default(lambda: [(0.0, 0.0), (1.0, 1.0)], socketless=True, default=None, advanced=None)  # type: ignore[misc]
    ):
        """A curve widget."""

        def as_dict(self) -> dict[str, Any]:
            """The default as points and their interpolation."""
            points = [list(point) for point in self.default]
            return {**super().as_dict(), "default": {"points": points, "interpolation": "monotone_cubic"}}


@comfytype("RANGE")
class Range(ComfyTypeIO):
    """A range with an optional midpoint."""

    Type = Any

    class Input(
        _with_default(  # type: ignore[misc]
            lambda: {"min": 0.0, "max": 1.0},
            socketless=True,
            **dict.fromkeys(
                (
                    *("default", "display", "gradient_stops", "show_midpoint", "midpoint_scale"),
                    *("value_min", "value_max", "advanced"),
                )
            ),
        )
    ):
        """A range widget."""

        WIRE = {
            **WidgetInput.WIRE,
            **shown("display", "gradient_stops", "show_midpoint", "midpoint_scale", "value_min", "value_max"),
        }
