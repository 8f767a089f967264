"""Arithmetic typed in by a person, read as a syntax tree; nothing but the operators and functions below is run."""

from __future__ import annotations

import ast
import math
import operator
import string
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from comfy_api.latest import io

__all__ = ["NODES", "evaluate"]

MAX_LENGTH = 2000  # characters
MAX_EXPONENT = 4000
MAX_SHIFT = 10000
Number = int | float


def _sum(*values: Any) -> Number:
    """Of its arguments, or of the one list that it is given."""
    return sum(values[0]) if len(values) == 1 and isinstance(values[0], Iterable) else sum(values)


def _power(base: Number, exponent: Number) -> Any:
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"exponent {exponent} is too large; {MAX_EXPONENT} is the limit")
    return base**exponent


def _shift(move: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def limited(value: int, count: int) -> int:
        if count > MAX_SHIFT:
            raise ValueError(f"shift by {count} is too far; {MAX_SHIFT} is the limit")
        return move(value, count)

    return limited


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "min": min,
    "max": max,
    "abs": abs,
    "round": round,
    "pow": _power,
    "sqrt": math.sqrt,
    "ceil": math.ceil,
    "floor": math.floor,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "int": int,
    "float": float,
}
BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.LShift: _shift(operator.lshift),
    ast.RShift: _shift(operator.rshift),
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@lru_cache(maxsize=256)
def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"the expression has {len(text)} characters; {MAX_LENGTH} is the limit")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        place = f" at character {error.offset}" if isinstance(error, SyntaxError) else ""
        raise ValueError(f'"{text}" cannot be read{place}') from None


class _Evaluation:
    """One run over a tree with the values of its names."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def of(self, node: ast.AST) -> Any:
        visit = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if visit is None:
            raise ValueError(f"{type(node).__name__} is not arithmetic; numbers, names, operators and functions are")
        return visit(node)

    def on_constant(self, node: ast.Constant) -> Number:
        if isinstance(node.value, int | float):
            return node.value
        raise ValueError(f"{node.value!r} is not a number")

    def on_name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        raise ValueError(f'there is no "{node.id}" here; there are {", ".join(self.names)}')

    def on_binop(self, node: ast.BinOp) -> Any:
        if type(node.op) not in BINARY:
            raise ValueError(f"operator {type(node.op).__name__} is not available")
        return BINARY[type(node.op)](self.number(node.left), self.number(node.right))

    def on_unaryop(self, node: ast.UnaryOp) -> Any:
        return UNARY[type(node.op)](self.of(node.operand))

    def on_boolop(self, node: ast.BoolOp) -> Any:
        stop = isinstance(node.op, ast.Or)
        value: Any = None
        for part in node.values:
            value = self.of(part)
            if bool(value) is stop:
                break
        return value

    def on_compare(self, node: ast.Compare) -> bool:
        left = self.of(node.left)
        for kind, right_node in zip(node.ops, node.comparators, strict=True):
            if type(kind) not in COMPARISONS:
                raise ValueError(f"comparison {type(kind).__name__} is not available")
            right = self.of(right_node)
            if not COMPARISONS[type(kind)](left, right):
                return False
            left = right
        return True

    def on_ifexp(self, node: ast.IfExp) -> Any:
        return self.of(node.body if self.of(node.test) else node.orelse)

    def on_subscript(self, node: ast.Subscript) -> Any:
        return self.of(node.value)[self.of(node.slice)]

    def on_call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS or node.keywords:
            raise ValueError(f"no such function; there are {', '.join(FUNCTIONS)}")
        return FUNCTIONS[name](*(self.of(argument) for argument in node.args))

    def number(self, node: ast.AST) -> Number:
        value = self.of(node)
        if isinstance(value, int | float):
            return value
        raise ValueError(f"{type(value).__name__} cannot be calculated with")


def evaluate(text: str, values: Mapping[str, Number]) -> Number:
    """The value of an arithmetic expression.

    Args:
        text: numbers, the names in `values`, `values` itself (the list of them), operators, comparisons, `and`, `or`,
            `not`, `x if c else y`, and the functions in `FUNCTIONS`.
        values: numbers by name.

    Raises:
        ValueError: it cannot be read, names something unknown, or is no finite number.
        ZeroDivisionError: division by zero.
    """
    if not text.strip():
        raise ValueError("the expression is empty")
    result = _Evaluation({**values, "values": list(values.values())}).of(_parse(text))
    if not isinstance(result, int | float):
        raise ValueError(f'"{text}" gives {type(result).__name__}, not a number')
    try:
        finite = math.isfinite(result)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f'"{text}" gives a number that is too large')
    return result


class ComfyMathExpression(io.ComfyNode):
    """Arithmetic on numbers a, b, c, ..."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        number = io.MultiType.Input("value", [io.Float, io.Int, io.Boolean])
        group = io.Autogrow.TemplateNames(input=number, names=list(string.ascii_lowercase), min=1)
        return io.Schema(
            node_id="ComfyMathExpression",
            display_name="Math Expression",
            category="utilities",
            inputs=[
                io.String.Input("expression", default="a + b", multiline=True),
                io.Autogrow.Input("values", template=group),
            ],
            outputs=[
                io.Float.Output(display_name="FLOAT"),
                io.Int.Output(display_name="INT"),
                io.Boolean.Output(display_name="BOOL"),
            ],
        )

    @classmethod
    def execute(cls, expression: str, values: dict[str, Number]) -> io.NodeOutput:
        result = evaluate(expression, values)
        return io.NodeOutput(float(result), int(result), bool(result))


NODES = [ComfyMathExpression]
