"""Small tables that the host keeps on a device: copied again only when they changed, and without waiting for the device."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from perspective.errors import InputError


@final
class Uploaded:
    """One such table. Inside a CUDA graph's capture it is always copied, so that every replay finds what the capture saw.

    A capture may not allocate pinned memory, so a spare is kept; it belongs to the graph from then on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seen: np.ndarray | None = None
        self.there: Tensor | None = None
        self.spare: Tensor | None = None
        self.captured: list[Tensor] = []

    def put(self, values: np.ndarray) -> Tensor:
        """The table on the device, holding `values` for all that is launched from now on."""
        if self.device.type != "cuda":
            if not self._knows(values):
                self.seen, self.there = values.copy(), torch.from_numpy(values.copy())
            assert self.there is not None
            return self.there
        capturing = torch.cuda.is_current_stream_capturing()
        trusted = not capturing and not self.captured  # a replay writes what its capture saw
        if trusted and self._knows(values) and self.there is not None and self.spare is not None:
            return self.there
        host = torch.from_numpy(np.ascontiguousarray(values))
        if self.there is None or self.there.shape != host.shape or self.there.dtype != host.dtype:
            if capturing:
                raise InputError("run the step once before it is captured, so that its tables exist")
            self.there = torch.empty_like(host, device=self.device)
            self.spare = None
        if capturing:
            if self.spare is None:
                raise InputError("run the step once between two captures, so that its tables get memory of their own")
            pinned, self.spare = self.spare, None
            pinned.copy_(host)
            self.captured.append(pinned)
        else:
            pinned = host.pin_memory()
            if self.spare is None:
                self.spare = torch.empty_like(host).pin_memory()
        self.there.copy_(pinned, non_blocking=True)
        self.seen = values.copy()
        return self.there

    def _knows(self, values: np.ndarray) -> bool:
        return self.seen is not None and self.seen.shape == values.shape and np.array_equal(self.seen, values)
