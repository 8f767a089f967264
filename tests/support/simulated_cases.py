"""What the simulated GPU must find; run by tests/test_simulated_gpu.py in a process that has one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import simulated_cuda
import torch
from simulated_cuda import DeviceTensor
from torch import Tensor

simulated_cuda.install()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    torch.cuda.synchronize()
    yield
    simulated_cuda.hazards.clear()
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.set_per_process_memory_fraction(1.0)


def there(*values: float) -> Tensor:
    return torch.tensor(values, device="cuda")


def recorded(run) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def test_it_computes_what_the_host_computes() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.SiLU()).eval()
    picture = torch.rand(1, 3, 8, 8)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            wanted = net.cpu()(picture)
            found = net.cuda()(picture.cuda())
        assert isinstance(found, DeviceTensor)
        assert found.device == torch.device("cuda", 0)
        torch.testing.assert_close(found.cpu(), wanted)


def test_views_share_memory() -> None:
    whole = there(1, 2, 3, 4)
    whole.view(2, 2)[1].mul_(10)
    assert whole.tolist() == [1, 2, 30, 40]


@pytest.mark.parametrize(
    ("mixed", "kind"),
    [
        (lambda one: one + torch.ones(2), RuntimeError),
        (lambda one: torch.cat([one, torch.ones(2)]), RuntimeError),
        (lambda one: one.numpy(), TypeError),
        (lambda one: one.normal_(generator=torch.Generator()), RuntimeError),
        (lambda one: one.pin_memory(), RuntimeError),
    ],
)
def test_what_is_of_the_host_does_not_mix_with_it(mixed, kind) -> None:
    with pytest.raises(kind):
        mixed(there(1, 2))
    assert (there(1, 2) * torch.tensor(2.0)).tolist() == [2, 4], "a number may be of the host"


def test_any_thread_has_it() -> None:
    made: list[Tensor] = []
    thread = threading.Thread(target=lambda: made.append(torch.zeros(2, device="cuda") + 1))
    thread.start()
    thread.join()
    assert made[0].is_cuda
    assert made[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    "wait",
    [
        lambda one: one.sum().item(),
        lambda one: one.cpu(),
        lambda one: one[one > 0],
        lambda one: one[torch.tensor([0])],
        lambda one: torch.tensor([1.0], device="cuda"),
        lambda one: torch.ones(2).to("cuda", non_blocking=True),
        lambda one: bool(one.sum() > 0),
        lambda one: torch.cuda.synchronize(),
    ],
)
def test_the_debug_mode_tells_who_waits(wait) -> None:
    one = there(1, 2)
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchronizing"):
        wait(one)
    one.mul_(2).to("cpu", non_blocking=True)
    torch.ones(2).pin_memory().to("cuda", non_blocking=True)


def test_a_copy_that_does_not_wait_is_late() -> None:
    target = torch.empty(2, pin_memory=True)
    target.copy_(there(3, 4), non_blocking=True)
    done = torch.cuda.Event()
    done.record()
    assert target.isnan().all()
    assert not done.query()
    done.synchronize()
    assert target.tolist() == [3, 4]


def test_streams_race_unless_they_wait() -> None:
    one, side = there(1, 2), torch.cuda.Stream()
    torch.cuda.synchronize()
    one.add_(1)
    with torch.cuda.stream(side), pytest.raises(RuntimeError, match="race"):
        one.mul_(2)
    assert len(simulated_cuda.hazards) == 1
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        one.mul_(2)
        event = side.record_event()
    with pytest.raises(RuntimeError, match="race"):
        one.sum()
    torch.cuda.current_stream().wait_event(event)
    assert one.tolist() == [4, 6]


def test_writing_what_another_stream_reads_is_a_race() -> None:
    one, side = there(1, 2), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        one.sum()
    with pytest.raises(RuntimeError, match="race"):
        one.zero_()


@pytest.mark.parametrize("is_told", [True, False])
def test_memory_given_back_while_another_stream_uses_it(is_told: bool) -> None:
    one, side = there(1, 2), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        made = one + 1
    if is_told:
        one.record_stream(side)
    del one
    gc.collect()
    assert len(simulated_cuda.hazards) == (0 if is_told else 1)
    side.synchronize()
    del made


def test_a_finalizer_may_wait_before_memory_is_given_back() -> None:
    """As torch gives memory back when a tensor is gone, which is after all finalizers of what goes with it."""

    class Model:
        def __init__(self, weights: Tensor) -> None:
            self.weights, self.side, self.itself = weights, torch.cuda.Stream(), self
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                self.made = self.weights + 1

        def __del__(self) -> None:
            torch.cuda.current_stream().wait_stream(self.side)

    Model(there(1, 2))  # the collector comes to the older one first
    gc.collect()
    assert simulated_cuda.hazards == []


def test_a_graph_repeats_operations_on_the_memory_that_it_saw() -> None:
    source, factor = there(1, 2), [2.0]
    made: list[Tensor] = []
    graph = recorded(lambda: made.append(source * factor[0]))
    assert made[0].isnan().all(), "recorded, not done"
    factor[0] = 5.0
    source.fill_(3)
    graph.replay()
    assert made[0].tolist() == [6, 6]
    graph.replay()
    assert made[0].tolist() == [6, 6]


def test_a_graph_does_not_do_what_it_records() -> None:
    counter = there(0)
    graph = recorded(lambda: counter.add_(1))
    assert counter.tolist() == [0]
    graph.replay(), graph.replay()
    assert counter.tolist() == [2]


@pytest.mark.parametrize("wait", [lambda one: one.sum().item(), lambda one: one.cpu(), lambda one: one[one > 0]])
def test_what_waits_cannot_be_recorded(wait) -> None:
    one = there(1, 2)
    with pytest.raises(RuntimeError, match="capturing"):
        recorded(lambda: wait(one))
    assert one.sum().item() == 3, "and nothing is left of it"


def test_nobody_waits_for_the_device_while_a_graph_is_recorded() -> None:
    said: list[str] = []

    def other() -> None:
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            said.append(str(error))

    def run() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    recorded(run)
    assert "capturing" in said[0]


def test_a_replay_is_work_of_its_stream() -> None:
    one, side = there(1, 2), torch.cuda.Stream()
    graph = recorded(lambda: one.add_(1))
    torch.cuda.synchronize()
    one.mul_(2)
    with torch.cuda.stream(side), pytest.raises(RuntimeError, match="race"):
        graph.replay()


def test_it_is_full_at_some_point() -> None:
    held = torch.zeros(1 << 20, device="cuda")
    used = torch.cuda.memory_allocated()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((total - free + 1024) / total)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.zeros(4096, device="cuda")
    del held
    assert torch.cuda.memory_allocated() == used - (4 << 20)
    torch.zeros(4096, device="cuda")
