"""Signatures and what is kept under them."""

from __future__ import annotations

from typing import Any

import pytest

from comfystream.catalog.spec import NodeSpec
from comfystream.engine.step import Step, make_step
from comfystream.engine.store import Kept, StaticStore, Unsignable, freeze
from comfystream.workflow.model import Link, Node


class A:
    pass


class B:
    pass


def step(id: str, cls: type = A, /, *, not_idempotent: bool = False, **inputs: Any) -> Step:
    declared = {"required": {name: ("*", {}) for name in inputs}}
    spec = NodeSpec(cls.__name__, cls, "v1", declared, "run", ("*",), ("*",), (False,), not_idempotent=not_idempotent)
    return make_step(Node(id, cls.__name__, inputs), spec)


@pytest.fixture
def store() -> StaticStore:
    return StaticStore()


def test_equal_content_has_an_equal_signature_whatever_the_id(store: StaticStore) -> None:
    assert store.sign(step("1", x=1, y="a"), {}) == store.sign(step("2", y="a", x=1), {})


@pytest.mark.parametrize(
    "other", [step("1", x=2), step("1", B, x=1), step("1", y=1), step("1", x=1.0), step("1", x=True), step("1", x="1")]
)
def test_other_content_has_another(store: StaticStore, other: Step) -> None:
    assert store.sign(step("1", x=1), {}) != store.sign(other, {})


def test_what_is_above_counts(store: StaticStore) -> None:
    below = step("2", x=Link("1", 0))
    assert store.sign(below, {"1": 7}) == store.sign(below, {"1": 7})
    assert store.sign(below, {"1": 7}) != store.sign(below, {"1": 8})
    assert store.sign(below, {"1": 7}) != store.sign(step("2", x=Link("1", 1)), {"1": 7})


def test_the_id_counts_for_nodes_that_are_not_idempotent(store: StaticStore) -> None:
    first, second = step("1", not_idempotent=True, x=1), step("2", not_idempotent=True, x=1)
    assert store.sign(first, {}) != store.sign(second, {})


def test_the_fingerprint_counts_and_nan_never_equals(store: StaticStore) -> None:
    assert store.sign(step("1", x=1), {}, "a") != store.sign(step("1", x=1), {}, "b")
    assert store.sign(step("1", x=1), {}, float("nan")) is None


def test_an_object_cannot_be_compared(store: StaticStore) -> None:
    assert store.sign(step("1", x=object()), {}) is None
    assert store.sign(step("2", x=Link("1", 0)), {"1": None}) is None
    with pytest.raises(Unsignable):
        freeze({"a": [object()]})


def test_kept_while_somebody_uses_it(store: StaticStore) -> None:
    signature = store.sign(step("1", x=1), {})
    assert signature is not None
    store.hold([signature])
    store.hold([signature])
    store.put(signature, Kept((1,)))
    store.release([signature])
    assert store.get(signature) == Kept((1,))
    store.release([signature])
    assert store.get(signature) is None
    assert len(store) == 0


def test_a_signature_that_is_held_stays_the_same_before_anything_is_kept(store: StaticStore) -> None:
    first = store.sign(step("1", x=1), {})
    other = store.sign(step("1", x=2), {})
    assert first is not None
    assert other is not None
    store.hold([first])
    store.hold([other])
    store.release([other])
    assert store.sign(step("9", x=1), {}) == first
