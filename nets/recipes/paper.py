"""What a paper's published settings are to a run: the flags they stand for, where each was read, and what is not known."""

from dataclasses import dataclass, fields
from typing import Any, Literal, final

OF_THE_PAPER = ("name", "paper", "command", "sources", "unknown")  # all other fields are settings of a run


@final
@dataclass(frozen=True)
class PaperRecipe:
    """Field names after the first five are those of nets.settings.Settings; None: the paper says nothing, our default holds.

    command  how the paper begins: "train" from a random initialisation, "prune" from a trained network
    sources  where the numbers come from: [C] the authors' public code or logs, [D] computed from those
    unknown  what is not known, or done in another way here
    strength  the published lambda, at the published number of epochs
    """

    name: str
    paper: str
    command: Literal["train", "prune"]
    sources: tuple[str, ...]
    unknown: tuple[str, ...]
    method: str
    net: str
    data: str
    epochs: int
    finetune_epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    finetune_lr: float
    finetune_schedule: str
    weight_decay: float
    momentum: float = 0.9
    finetune_optimizer: str | None = None
    budget: str | None = None
    floor: float | None = None
    exclude: str | None = None
    growth: str | None = None
    strength: float | None = None
    alpha: float | None = None
    m_scale: float | None = None

    def settings(self) -> dict[str, Any]:
        """The published settings by name, without those that the paper leaves open."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name not in OF_THE_PAPER)
        return {name: value for name, value in named if value is not None}
