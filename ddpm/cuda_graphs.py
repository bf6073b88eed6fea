"""Calls that are recorded as CUDA graphs: above all, a network whose weights no longer change.

On a GPU, launching the kernels of a small network one by one takes longer than computing them. A graph launches all of
them by a single call. It is recorded for inputs of one shape, which it reads from its own memory.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ddpm.errors import first_line

log = logging.getLogger(__name__)

MAX_VALUES = 2**18  # of x_t in a call, such as 85 images of 32x32x3; graphs of larger batches were not tried
MAX_KEPT = 4  # graphs; each keeps the memory of its intermediate results
WORTH = 5  # calls with inputs of the same shapes before they are recorded, which takes as long as about five calls
WARM_UP = 3  # calls before a recording, in which libraries choose their algorithms
RECORDING = threading.Lock()  # a process can record one graph at a time

Network = Callable[..., Tensor]
Answer = TypeVar("Answer", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class Recorded(Generic[Answer]):
    """A graph: it reads `inputs` and writes `answer` when `replay` is called."""

    inputs: tuple[Tensor, ...]
    answer: Answer
    replay: Callable[[], None]

    def run(self, *inputs: Tensor) -> Answer:
        """The answer for inputs of the same shapes. The next run writes over it."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.replay()
        return self.answer


def record(network: Callable[..., Answer], inputs: tuple[Tensor, ...]) -> Recorded[Answer]:
    """Record a call for inputs of these shapes, on the GPU where they lie.

    Raises:
        RuntimeError: the call does something that cannot be recorded, such as to wait for the GPU.
    """
    device = inputs[0].device
    with RECORDING, torch.cuda.device(device):
        before, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        own = tuple(x.clone() for x in inputs)
        try:
            aside.wait_stream(before)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    network(*own)
            graph = torch.cuda.CUDAGraph()
            # "thread_local": what other threads do on the GPU meanwhile is no error.
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                answer = network(*own)
            before.wait_stream(aside)
        finally:
            torch.cuda.set_stream(before)  # a recording that fails may leave the other one
    return Recorded(own, answer, graph.replay)


class Graphs:
    """A network that is recorded once it was called WORTH times with inputs of the same shapes, and replayed from then
    on.

    Large batches are not recorded, and nothing is under autocast, whose copies of the weights do not last. If a
    recording fails, nothing is recorded any more, and the log says why once.

    Args:
        network: called with x_t (B, C, H, W), t (B,) and perhaps more, all on one GPU; its weights must not change.
        recorder: `record`, or what stands in for it.
    """

    def __init__(
        self, network: Network, recorder: Callable[[Network, tuple[Tensor, ...]], Recorded[Tensor]] = record
    ) -> None:
        self._network, self._record = network, recorder
        self._graphs: OrderedDict[tuple, Recorded[Tensor]] = OrderedDict()
        self._met: Counter[tuple] = Counter()
        self._busy = threading.Lock()  # a graph has one place for its inputs
        self._works = True

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The network's output."""
        kind = inputs[0].device.type
        if not self._works or inputs[0].numel() > MAX_VALUES or torch.is_autocast_enabled(kind):
            return self._network(*inputs)
        key = tuple((*x.shape, x.dtype, x.device) for x in inputs)
        # A graph's own tensors must be usable outside inference mode, too.
        with self._busy, torch.inference_mode(False), torch.no_grad():
            graph = self._graph(key, inputs)
            if graph is not None:
                return graph.run(*inputs).clone()
        return self._network(*inputs)

    def _graph(self, key: tuple, inputs: tuple[Tensor, ...]) -> Recorded[Tensor] | None:
        """The graph for inputs of these shapes; None if there is none yet."""
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        self._met[key] += 1
        if self._met[key] < WORTH or not self._works:
            return None
        try:
            self._graphs[key] = self._record(self._network, inputs)
        except RuntimeError as error:  # torch.AcceleratorError and OutOfMemoryError are among them
            self._works = False
            self._graphs.clear()
            log.warning("CUDA graphs are not used, because recording the network failed: %s", first_line(error))
            return None
        if len(self._graphs) > MAX_KEPT:
            dropped, _ = self._graphs.popitem(last=False)
            del self._met[dropped]
        return self._graphs[key]
