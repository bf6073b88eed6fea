"""Forward and backward pass of a micro-batch as a CUDA graph.

On a GPU, launching the kernels of a small network one by one takes longer than computing them; see
`ddpm.cuda_graphs`, which records a network whose weights no longer change. Here the weights change, but they stay where
they are in memory, and so do the gradients, to which every replay adds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from ddpm.config import TrainConfig
from ddpm.cuda_graphs import Recorded, record
from ddpm.errors import first_line

log = logging.getLogger(__name__)

Pass = Callable[..., tuple[Tensor, ...]]
"""Forward and backward pass: it takes tensors of the same shapes at every call, adds to the gradients of the weights,
and returns tensors without gradients."""


class Graphed:
    """A pass that is recorded at its first call, so that all steps of a training are computed in the same way.

    If the recording fails, the log says why once, and the kernels are launched one by one.

    Args:
        compute: the pass.
        parameters: the weights that it adds gradients to.
        recorder: `ddpm.cuda_graphs.record`, or what stands in for it.
    """

    def __init__(
        self,
        compute: Pass,
        parameters: Iterable[nn.Parameter],
        recorder: Callable[[Pass, tuple[Tensor, ...]], Recorded[tuple[Tensor, ...]]] = record,
    ) -> None:
        self._compute, self._record = compute, recorder
        self._parameters = [p for p in parameters if p.requires_grad]
        self._gradients: list[Tensor] = []
        self._recorded: Recorded[tuple[Tensor, ...]] | None = None
        self._works = True

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the pass returns."""
        if self._works and self._recorded is None:
            self._try_to_record(inputs)
        if self._recorded is None:
            return self._compute(*inputs)
        if self._parameters[0].grad is not self._gradients[0]:  # the optimizer has let go of them after its step
            self._attach()
        return tuple(x.clone() for x in self._recorded.run(*inputs))

    def _attach(self) -> None:
        """Let the weights have the gradients of the graph, set to 0."""
        torch._foreach_zero_(self._gradients)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def _try_to_record(self, inputs: tuple[Tensor, ...]) -> None:
        self._gradients = [torch.zeros_like(p) for p in self._parameters]
        self._attach()
        # The calls before a recording draw dropout masks, and add to the gradients.
        drawn = torch.cuda.get_rng_state(inputs[0].device) if inputs[0].is_cuda else None
        try:
            self._recorded = self._record(self._compute, inputs)
        except RuntimeError as error:  # torch.AcceleratorError and OutOfMemoryError are among them
            self._works, self._gradients = False, []
            log.warning("CUDA graphs are not used, because recording a step failed: %s", first_line(error))
            torch.cuda.empty_cache()  # the step itself may need what the recording took
        if drawn is not None:
            torch.cuda.set_rng_state(drawn, inputs[0].device)
        for parameter in self._parameters:
            parameter.grad = None


def graphed(compute: Pass, config: TrainConfig, accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> Pass:
    """The pass as a CUDA graph, where the options and the machine allow one; elsewhere the pass itself.

    Under DistributedDataParallel, which torchrun brings even to a single process, the backward pass exchanges
    gradients, and fp16 scales the loss by a factor that changes; neither is recorded.
    """
    alone = accelerator.distributed_type == DistributedType.NO
    fits = accelerator.device.type == "cuda" and alone and accelerator.scaler is None
    return Graphed(compute, parameters) if fits and config.cuda_graphs else compute
