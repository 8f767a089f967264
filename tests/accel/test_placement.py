"""Weights are brought to where they are used, and those who share them keep them where they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from comfystream.accel import placement
from comfystream.accel.placement import bring, is_there

META, CPU = torch.device("meta"), torch.device("cpu")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.two.weight = self.one.weight
        self.register_buffer("counts", torch.arange(3))
        self.register_buffer("absent", None)


def test_all_of_it_is_brought_and_what_is_tied_stays_tied() -> None:
    module = Tied()
    assert is_there(module, "cpu", torch.float32)
    assert bring(module, META, torch.float16) is module
    assert {value.device for value in (*module.parameters(), *module.buffers())} == {META}
    assert module.one.weight is module.two.weight
    assert (module.one.bias.dtype, module.counts.dtype) == (torch.float16, torch.int64)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert is_there(module, "meta", torch.float16)
    assert not is_there(module, "meta", torch.float32)
    assert not is_there(module, "cpu", torch.float16)


def test_what_is_there_already_is_left() -> None:
    module = Tied()
    before = dict(module.named_parameters())
    bring(bring(bring(module), CPU), dtype=torch.float32)
    assert all(value is before[name] for name, value in module.named_parameters())
    device = bring(Tied().to(META), dtype=torch.float16).one.weight.device
    assert device == META


def test_who_shares_a_weight_keeps_it() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    shared = first.weight
    bring(second, META)
    assert first.weight is shared
    assert first.weight.device == CPU


def test_where_there_is_no_room_all_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Tied()
    before = [*module.named_parameters(), *module.named_buffers()]
    real, asked = placement._brought, []

    def full(value: torch.Tensor, *rest: Any) -> torch.Tensor:
        asked.append(value)
        if len(asked) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(value, *rest)

    monkeypatch.setattr(placement, "_brought", full)
    with pytest.raises(torch.OutOfMemoryError):
        bring(module, META)
    after = [*module.named_parameters(), *module.named_buffers()]
    assert [(name, id(value)) for name, value in after] == [(name, id(value)) for name, value in before]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("made", [False, True])
def test_the_mode_in_which_they_were_made_does_not_matter(made: bool, used: bool) -> None:
    with torch.inference_mode(made):
        module = nn.Linear(3, 3).requires_grad_(False)
    with torch.inference_mode(used), torch.no_grad():
        bring(module, dtype=torch.float64)
        assert module(torch.ones(1, 3, dtype=torch.float64)).dtype == torch.float64
        assert module.weight.is_inference() == used
