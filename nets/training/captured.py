"""A training step as one CUDA graph: forward, backward, optimizer and prox are launched by one replay.

The first steps of a shape run as ever, on a side stream (they make the optimizer's state); then one is captured and replayed.
Learning rates and the strength are numbers outside and tensors on the device inside, so that schedules go on. New
prices are captured anew; batches of another shape (the last, odd one) run as ever.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.optimizer import Proximal

WARM_UP = 3  # ordinary steps before a capture

Work = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@final
class CapturedStep:
    """Call it as `work`, which computes one step: (images, labels) -> (loss, number of correct answers), both detached."""

    def __init__(self, work: Work, optimizer: Optimizer) -> None:
        self.work, self.optimizer = work, optimizer
        self.graph: Any = None
        self.shape: torch.Size | None = None
        self.done = 0
        self.prices: object = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step; the answers are copies that later steps leave alone."""
        if self.shape is None:
            self._prepare(images, labels)
        if images.shape != self.shape or not images.is_cuda:
            return self.work(images, labels)
        prices = getattr(self.optimizer, "prices", None)
        if prices is not self.prices:  # a graph holds the prices it was captured with
            self.graph, self.done, self.prices = None, 0, prices
        self._tell()
        if self.done < WARM_UP:
            self.done += 1
            return self._aside(images, labels)
        self.images.copy_(images)
        self.labels.copy_(labels)
        if self.graph is None:
            self._capture()
        self.graph.replay()
        return self.loss.clone(), self.correct.clone()

    def _prepare(self, images: Tensor, labels: Tensor) -> None:
        self.shape = images.shape
        self.images, self.labels = torch.empty_like(images), torch.empty_like(labels)
        self.rates = [torch.zeros((), device=images.device) for _ in self.optimizer.param_groups]
        self.strength = torch.zeros((), dtype=torch.float64, device=images.device)
        self.side = torch.cuda.Stream(images.device) if images.is_cuda else None

    def _tell(self) -> None:
        """Today's rates and strength, where the graph reads them."""
        for tensor, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            tensor.fill_(group["lr"])
        if isinstance(self.optimizer, Proximal):
            self.strength.fill_(self.optimizer.strength)

    def _aside(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """An ordinary step on the side stream, as a capture wants it before."""
        assert self.side is not None
        current = torch.cuda.current_stream(images.device)
        self.side.wait_stream(current)
        with torch.cuda.stream(self.side), self._on_device():
            found = self.work(images, labels)
        current.wait_stream(self.side)
        for tensor in (images, labels, *found):
            tensor.record_stream(self.side)
        return found

    def _capture(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)  # gradients get memory of the graph's own
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), self._on_device():
            self.loss, self.correct = self.work(self.images, self.labels)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """Rates and strength are tensors inside, and the numbers they were afterwards."""
        groups, proximal = self.optimizer.param_groups, isinstance(self.optimizer, Proximal)
        numbers = [group["lr"] for group in groups]
        strength = getattr(self.optimizer, "strength", None)
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate
        if proximal:
            self.optimizer.strength = self.strength
        try:
            yield
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number
            if proximal:
                self.optimizer.strength = strength
