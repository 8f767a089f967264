"""The base class of V3 nodes, and what their `execute` returns."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from comfy_execution.graph_utils import ExecutionBlocker

from ._schema import HiddenHolder, Schema


class _SchemaView:
    """A V1 attribute, read off the schema of the class it is asked of."""

    def __init__(self, read: Callable[[Schema], Any]) -> None:
        self._read = read

    def __get__(self, instance: object, owner: Any) -> Any:
        return self._read(owner._finished_schema())


def _function(method: Any) -> Any:
    return getattr(method, "__func__", method)


class _FunctionName:
    def __get__(self, instance: object, owner: Any) -> str:
        return "EXECUTE_NORMALIZED_ASYNC" if inspect.iscoroutinefunction(owner.execute) else "EXECUTE_NORMALIZED"


class ComfyNode:
    """Derive from this, and write `define_schema` and `execute` as classmethods; nothing makes an instance."""

    RELATIVE_PYTHON_MODULE: ClassVar[str | None] = None
    SCHEMA: ClassVar[Schema | None] = None
    hidden: ClassVar[HiddenHolder | None] = None
    _described_by: ClassVar[Any] = None

    FUNCTION = _FunctionName()
    DESCRIPTION = _SchemaView(lambda schema: schema.description)
    CATEGORY = _SchemaView(lambda schema: schema.category)
    EXPERIMENTAL = _SchemaView(lambda schema: schema.is_experimental)
    DEPRECATED = _SchemaView(lambda schema: schema.is_deprecated)
    DEV_ONLY = _SchemaView(lambda schema: schema.is_dev_only)
    API_NODE = _SchemaView(lambda schema: schema.is_api_node)
    OUTPUT_NODE = _SchemaView(lambda schema: schema.is_output_node)
    HAS_INTERMEDIATE_OUTPUT = _SchemaView(lambda schema: schema.has_intermediate_output)
    INPUT_IS_LIST = _SchemaView(lambda schema: schema.is_input_list)
    NOT_IDEMPOTENT = _SchemaView(lambda schema: schema.not_idempotent)
    ACCEPT_ALL_INPUTS = _SchemaView(lambda schema: schema.accept_all_inputs)
    RETURN_TYPES = _SchemaView(lambda schema: [output.io_type for output in schema.outputs])
    RETURN_NAMES = _SchemaView(lambda schema: [output.display_name or output.io_type for output in schema.outputs])
    OUTPUT_IS_LIST = _SchemaView(lambda schema: [output.is_output_list for output in schema.outputs])
    OUTPUT_TOOLTIPS = _SchemaView(lambda schema: [output.tooltip or None for output in schema.outputs])

    @classmethod
    def define_schema(cls) -> Schema:
        """Name, sockets and properties; to be overridden."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> Any:
        """The work; to be overridden."""
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        """True, or what is wrong; may be overridden."""
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """A value that changes when the node has to run again; may be overridden."""
        raise NotImplementedError

    @classmethod
    def check_lazy_status(cls, **kwargs: Any) -> list[str]:
        """Names of inputs that are still needed; may be overridden."""
        return [name for name, value in kwargs.items() if value is None]

    @classmethod
    def GET_BASE_CLASS(cls) -> type:  # noqa: N802
        """Where the placeholders of the optional methods are."""
        return ComfyNode

    @classmethod
    def VALIDATE_CLASS(cls) -> None:  # noqa: N802
        """Raise unless the two methods that every node needs are there."""
        for name in ("define_schema", "execute"):
            if _function(getattr(cls, name)) is _function(vars(ComfyNode)[name]):
                raise TypeError(f"node class {cls.__name__} has no {name}")

    @classmethod
    def FINALIZE_SCHEMA(cls) -> Schema:  # noqa: N802
        """A fresh schema, completed."""
        schema = cls.define_schema()
        schema.finalize()
        return schema

    @classmethod
    def GET_SCHEMA(cls) -> Schema:  # noqa: N802
        """A fresh schema, completed and checked; kept for the V1 attributes."""
        cls.VALIDATE_CLASS()
        schema = cls.FINALIZE_SCHEMA()
        schema.validate()
        cls.SCHEMA = schema
        cls._described_by = _function(cls.define_schema)
        return schema

    @classmethod
    def _finished_schema(cls) -> Schema:
        if cls.SCHEMA is None or cls._described_by is not _function(cls.define_schema):
            return cls.GET_SCHEMA()
        return cls.SCHEMA

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802
        """The inputs as V1 nodes declare them, defined anew."""
        return cls.FINALIZE_SCHEMA().input_types()

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:  # noqa: N802
        """One entry of object_info."""
        return dict(vars(cls.GET_SCHEMA().get_v1_info(cls)))

    @classmethod
    def EXECUTE_NORMALIZED(cls, *args: Any, **kwargs: Any) -> NodeOutput:  # noqa: N802
        """Run, and give one form of result."""
        return cls._normalized(cls.execute(*args, **kwargs))

    @classmethod
    async def EXECUTE_NORMALIZED_ASYNC(cls, *args: Any, **kwargs: Any) -> NodeOutput:  # noqa: N802
        """The same for an `execute` that is a coroutine function."""
        return cls._normalized(await cls.execute(*args, **kwargs))

    @classmethod
    def _normalized(cls, returned: Any) -> NodeOutput:
        output = NodeOutput.of(returned)
        if output.expand is not None and not cls._finished_schema().enable_expand:
            raise ValueError(f"node {cls.__name__} returned an expansion, but its schema does not say enable_expand")
        return output


class NodeOutput:
    """Values of a node's outputs, in order, and what else came of it.

    Args:
        args: one value per output.
        ui: what an editor shows; a dict, or an object with `as_dict()`.
        expand: a graph to run in the node's place.
        block_execution: a message; whatever hangs on the outputs is then not run.
    """

    def __init__(
        self,
        *args: Any,
        ui: Any = None,
        expand: dict[str, Any] | None = None,
        block_execution: str | None = None,
    ) -> None:
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The values; None when there are none."""
        return self.args or None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NodeOutput:
        """From V1's dictionary form."""
        result = data.get("result", ())
        if isinstance(result, ExecutionBlocker):
            return cls(block_execution=result.message)
        return cls(*result, ui=data.get("ui"), expand=data.get("expand"))

    @classmethod
    def of(cls, returned: Any) -> NodeOutput:
        """From anything that `execute` may return."""
        if returned is None:
            return cls()
        if isinstance(returned, NodeOutput):
            return returned
        if isinstance(returned, tuple):
            return cls(*returned)
        if isinstance(returned, dict):
            return cls.from_dict(returned)
        if isinstance(returned, ExecutionBlocker):
            return cls(block_execution=returned.message)
        raise TypeError(f"a node returned {type(returned).__name__}, not a NodeOutput, tuple or dict")

    def __getitem__(self, index: int) -> Any:
        return self.args[index]


class _UIOutput(ABC):
    """What an editor shows of a result."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """As the V1 `ui` dictionary."""
