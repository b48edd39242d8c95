"""The scale-free saliency of a group under a penalty with an exact prox: the shrinkage at which the prox makes it zero."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nets.groups import ChannelGroups


def threshold_scores(groups: ChannelGroups, regularisers: Mapping[str, Any]) -> dict[str, Tensor]:
    """By layer (channels,) float64: T_g N / n_g, the accumulated lr * strength at which one prox would make the channel zero,
    where T_g is the T with sum_k phi*(w_k / T) = c."""
    scores = {}
    for layer in groups.layers:
        rows = groups.rows(layer).double().cpu().numpy()
        threshold = np.asarray(regularisers[layer.name].zero_threshold(rows))
        scores[layer.name] = torch.from_numpy(threshold * groups.total / layer.n)
    return scores
