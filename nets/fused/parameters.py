"""The parameters of the regularisers, as the kernels read them: one table for each derived regulariser."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nets.groups import ChannelGroups


def by_regulariser(groups: ChannelGroups, regularisers: Mapping[str, Any]) -> list[tuple[Any, list[int], np.ndarray]]:
    """(derived regulariser, numbers of its layers, (layers, parameters) float64) for each; rows of other layers are ones.

    A piece of no group has the layer number -1 and goes with the first regulariser, whose list ends with it.
    """
    members: dict[Any, list[int]] = {}
    for number, layer in enumerate(groups.layers):
        members.setdefault(regularisers[layer.name].regularizer, []).append(number)
    found: list[tuple[Any, list[int], np.ndarray]] = []
    for regularizer, numbers in members.items():
        names = regularizer.block.parameters
        theta = np.ones((len(groups.layers), max(len(names), 1)))
        for number in numbers:
            parameters = regularisers[groups.layers[number].name].parameters
            theta[number, : len(names)] = [parameters[name] for name in names]
        found.append((regularizer, numbers if found else [*numbers, -1], theta))
    return found
