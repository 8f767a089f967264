"""The contract of a runner: buffers that stay, no allocation in a tick, clear refusals."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from tiny_models import PAIR, Pair
from torch.utils._python_dispatch import TorchDispatchMode

from comfystream.accel.eager import EagerBackend, FunctionRunner
from comfystream.accel.graphed import GraphedRunner
from comfystream.errors import EngineError


class Operations(TorchDispatchMode):
    """Writes down what torch is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def pair(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return {
        "picture": torch.randn(batch, 3, 8, 8, generator=generator),
        "strength": torch.rand(batch, generator=generator),
    }


def recorded(calls: list[str]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Stands for a CUDA graph: remembers the buffers' addresses by remembering the function."""

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        calls.append("captured")
        run()

        def replay() -> None:
            calls.append("replayed")
            run()

        return replay

    return capture


def test_eager_gives_what_the_module_gives() -> None:
    module = Pair()
    runner = EagerBackend().wrap(module, PAIR, "cpu")
    for batch in (2, 1, 4):
        values = pair(batch)
        found = runner.run(values)
        mixed, mean = module(*values.values())
        torch.testing.assert_close(found["mixed"], mixed)
        torch.testing.assert_close(found["mean"], mean)


def test_buffers_stay_where_they_are() -> None:
    runner = EagerBackend().wrap(Pair(), PAIR, "cpu")
    first = {name: tensor.data_ptr() for name, tensor in runner.run(pair()).items()}
    inputs = {name: tensor.data_ptr() for name, tensor in runner.inputs.items()}
    for _ in range(3):
        assert {name: tensor.data_ptr() for name, tensor in runner.run(pair()).items()} == first
    assert {name: tensor.data_ptr() for name, tensor in runner.inputs.items()} == inputs


def test_a_tick_around_a_recorded_model_only_copies() -> None:
    """What a tick asks of torch besides the recorded model: one copy per input; no new tensor, no `.item()`."""
    kept = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4)
    runner = GraphedRunner(FunctionRunner(lambda *_: kept, PAIR, "cpu", "eager"), capture=lambda run: lambda: None)
    values = pair()
    runner.run(values)
    with Operations() as operations:
        runner.run(values)
    assert operations.names == ["aten.copy_.default"] * 2


def test_the_eager_path_adds_only_copies_to_the_module() -> None:
    kept = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4)
    runner = FunctionRunner(lambda *_: kept, PAIR, "cpu", "eager")
    values = pair()
    runner.run(values)
    with Operations() as operations:
        runner.run(values)
    assert operations.names == ["aten.copy_.default"] * 4


def test_the_graph_goes_with_its_buffers() -> None:
    """Defect 3 of the known implementations: a graph that outlives its buffers writes to freed memory."""
    calls: list[str] = []
    module = Pair()
    runner = GraphedRunner(EagerBackend().wrap(module, PAIR, "cpu"), recorded(calls))
    runner.run(pair(2))
    runner.run(pair(2))
    assert calls == ["captured", "replayed", "replayed"]
    found = runner.run(pair(4))
    assert calls[3:] == ["captured", "replayed"]
    torch.testing.assert_close(found["mixed"], module(*pair(4).values())[0])


def test_a_bind_that_fails_leaves_no_graph_behind() -> None:
    def capture(run: Callable[[], None]) -> Callable[[], None]:
        if runner.inputs["picture"].shape[0] == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run

    runner = GraphedRunner(EagerBackend().wrap(Pair(), PAIR, "cpu"), capture)
    runner.run(pair(2))
    with pytest.raises(EngineError) as caught:
        runner.run(pair(4))
    assert caught.value.code == "out_of_memory"
    assert "pair (eager in a CUDA graph): out of GPU memory" in str(caught.value)
    with pytest.raises(EngineError, match="nothing is bound"):
        runner.enqueue()
    runner.run(pair(2))  # and it can be used again


def test_out_of_memory_in_a_tick_is_told() -> None:
    is_full = False

    def call(picture: torch.Tensor, strength: torch.Tensor) -> Any:
        if is_full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has ...")
        return picture, strength

    runner = FunctionRunner(call, PAIR, "cpu", "eager")
    runner.run(pair())
    is_full = True
    with pytest.raises(EngineError) as caught:
        runner.run(pair())
    assert caught.value.code == "out_of_memory"
    is_full = False
    runner.run(pair())


def test_refusals_name_the_place() -> None:
    runner = EagerBackend().wrap(Pair(), PAIR, "cpu")
    with pytest.raises(EngineError, match=r"pair \(eager\): nothing is bound yet"):
        runner.put("picture", torch.zeros(1, 3, 8, 8))
    runner.run(pair(2))
    with pytest.raises(EngineError, match=r"input picture is \[1, 3, 8, 8\], but \[2, 3, 8, 8\] is bound"):
        runner.put("picture", torch.zeros(1, 3, 8, 8))
    with pytest.raises(EngineError, match="pair has no input colour"):
        runner.put("colour", torch.zeros(1))
    with pytest.raises(EngineError, match="made for"):
        runner.run(pair(5))
    runner.run(pair(2))


def test_outputs_have_to_be_named() -> None:
    runner = FunctionRunner(lambda picture, strength: picture, PAIR, "cpu", "eager")
    with pytest.raises(EngineError, match="gives 1 outputs, 2 are named"):
        runner.bind()


def test_closed_is_closed() -> None:
    runner = EagerBackend().wrap(Pair(), PAIR, "cpu")
    runner.run(pair())
    runner.close()
    runner.close()
    with pytest.raises(EngineError):
        runner.run(pair())


def test_threads_that_share_a_runner_get_what_is_theirs() -> None:
    """A rehearsal beside the frames, or two sessions: what one puts in must not show in the other."""
    both = threading.Barrier(2)

    def call(picture: torch.Tensor, strength: torch.Tensor) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # until the other thread has put in its own, if it may
        return picture + 1, strength

    runner = FunctionRunner(call, PAIR, "cpu", "eager")
    runner.bind({name: value.shape for name, value in pair(2).items()})
    both.reset()
    given = {batch: pair(batch) for batch in (2, 4)}
    found: dict[int, dict[str, torch.Tensor]] = {}

    def ask(batch: int) -> None:
        found[batch] = runner.results(given[batch])

    threads = [threading.Thread(target=ask, args=(batch,)) for batch in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for batch, values in given.items():
        torch.testing.assert_close(found[batch]["mixed"], values["picture"] + 1)


def test_results_are_the_callers_own() -> None:
    runner = EagerBackend().wrap(Pair(), PAIR, "cpu")
    first = runner.results(pair(2))["mixed"]
    kept = first.clone()
    runner.results({name: value + 1 for name, value in pair(2).items()})
    assert torch.equal(first, kept)


def test_what_the_processor_reads_is_waited_for() -> None:
    class Waits(TorchDispatchMode):
        asked: ClassVar[list[Any]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.copy_.default:
                self.asked.append((*args, False)[2])
            return func(*args, **(kwargs or {}))

    runner = FunctionRunner(lambda *given: given, PAIR, "cpu", "eager")
    runner.bind()
    with Waits() as waits:
        runner.put("picture", torch.zeros(2, 3, 8, 8))
    assert waits.asked == [False]
