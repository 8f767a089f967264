"""Socket types, and what an input and an output of a node say about themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar

REQUIRED: Any = object()

HEAD: dict[str, Any] = {"id": REQUIRED, "display_name": None, "optional": False, "tooltip": None, "lazy": None}
TAIL: dict[str, Any] = {"extra_dict": None, "raw_link": None, "advanced": None}


class _Described:
    """Takes the arguments that `SIGNATURE` lists, in that order or by name, and keeps them as attributes."""

    Parent: ClassVar[Any] = None
    SIGNATURE: ClassVar[Mapping[str, Any]] = {}
    WIRE: ClassVar[Mapping[str, str]] = {}  # attribute to its key in object_info

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = list(self.SIGNATURE)
        if len(args) > len(names):
            raise TypeError(f"{type(self).__qualname__} takes {len(names)} arguments, got {len(args)}")
        given = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self.SIGNATURE or name in given:
                raise TypeError(f"{type(self).__qualname__} got an unexpected or repeated argument {name!r}")
            given[name] = value
        for name, default in self.SIGNATURE.items():
            value = given.get(name, default)
            if value is REQUIRED:
                raise TypeError(f"{type(self).__qualname__} needs the argument {name!r}")
            setattr(self, name, value)
        self.settle()

    def settle(self) -> None:
        """Called when the arguments are in place."""

    @property
    def io_type(self) -> str:
        """The socket type, such as "IMAGE"."""
        return str(self.Parent.io_type)

    @property
    def Type(self) -> Any:  # noqa: N802
        """The Python type of the values."""
        return self.Parent.Type

    def get_io_type(self) -> str:
        """The socket type as object_info has it."""
        return self.io_type

    def as_dict(self) -> dict[str, Any]:
        """The options as object_info has them; what is None is left out."""
        return wire({key: getattr(self, name, None) for name, key in self.WIRE.items()})

    def validate(self) -> None:
        """Raise what is wrong with it; nothing by default."""


def wire(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are None, enum members as their values."""
    return {k: v.value if isinstance(v, Enum) else v for k, v in options.items() if v is not None}


class Input(_Described):
    """An input socket."""

    id: str
    display_name: str | None
    optional: bool
    tooltip: str | None
    lazy: bool | None
    extra_dict: dict[str, Any]
    SIGNATURE = {**HEAD, **TAIL}
    WIRE = {
        "display_name": "display_name",
        "optional": "optional",
        "tooltip": "tooltip",
        "lazy": "lazy",
        "raw_link": "rawLink",
        "advanced": "advanced",
    }

    def settle(self) -> None:
        """An extra_dict is always there."""
        self.extra_dict = getattr(self, "extra_dict", None) or {}

    def as_dict(self) -> dict[str, Any]:
        """Options, those of `extra_dict` last."""
        return {**super().as_dict(), **wire(self.extra_dict)}

    def get_all(self) -> list[Input]:
        """Itself and what hangs below it."""
        return [self]


class WidgetInput(Input):
    """An input that an editor shows as a widget."""

    default: Any = None
    widget_type: str | None = None
    force_input: bool | None = None
    SIGNATURE = {**HEAD, "default": None, "socketless": None, "widget_type": None, "force_input": None, **TAIL}
    WIRE = {
        **Input.WIRE,
        "default": "default",
        "socketless": "socketless",
        "widget_type": "widgetType",
        "force_input": "forceInput",
    }

    def get_io_type(self) -> str:
        """The widget's type where it differs from the socket's."""
        return self.widget_type or super().get_io_type()


class Output(_Described):
    """An output socket."""

    id: str | None
    display_name: str | None
    tooltip: str | None
    is_output_list: bool
    SIGNATURE = {"id": None, "display_name": None, "tooltip": None, "is_output_list": False}
    WIRE = {"display_name": "display_name", "tooltip": "tooltip", "is_output_list": "is_output_list"}

    def settle(self) -> None:
        """The id serves as a name too."""
        self.display_name = self.display_name or self.id


class _ComfyType:
    """A socket type."""

    Type: ClassVar[Any] = Any
    io_type: ClassVar[str] = ""


class ComfyTypeI(_ComfyType):
    """A socket type that only inputs have."""

    Input: ClassVar[Any] = Input


class ComfyTypeIO(ComfyTypeI):
    """A socket type of inputs and outputs."""

    Output: ClassVar[Any] = Output


def comfytype(io_type: str, **_: Any) -> Callable[[type], Any]:
    """Class decorator: give a socket type its name, and Input and Output classes that know it."""

    def name_it(cls: type) -> Any:
        kind: Any = cls if issubclass(cls, _ComfyType) else type(cls.__name__, (cls, ComfyTypeIO), {})
        kind.__module__ = cls.__module__
        kind.io_type = io_type
        for side in ("Input", "Output"):
            base = getattr(kind, side, None)
            if base is not None:
                body = {"Parent": kind, "__module__": cls.__module__, "__qualname__": f"{cls.__name__}.{side}"}
                setattr(kind, side, type(side, (base,), body))
        return kind

    return name_it


def Custom(io_type: str) -> Any:  # noqa: N802
    """A socket type of that name."""
    return comfytype(io_type)(type(io_type, (ComfyTypeIO,), {}))
