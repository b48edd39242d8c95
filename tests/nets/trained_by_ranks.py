"""One epoch of a small network in float64, by one process or by a rank of several: what test_ranks_agree.py compares."""

import hashlib

import torch
from torch import nn

from nets.data import load_data
from nets.groups import channel_groups
from nets.optimizer import Proximal
from nets.settings import new_settings
from nets.training.epoch import Task, train_epoch
from nets.training.phase import plain_optimizer
from nets.training.ranks import ALONE, Ranks
from perspective import declare, derive

BATCH = 301  # odd: the ranks' shares differ by one image


class Doubled:
    """The data set in float64, so that agreement can be asked for to rounding."""

    def __init__(self, data):
        self.data, self.train = data, data.train

    def train_batches(self, batch_size, generator):
        for images, labels in self.data.train_batches(batch_size, generator):
            yield images.double(), labels


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(128, 10), nn.BatchNorm1d(10)).double()


def train_one_epoch(ranks: Ranks = ALONE, prox: bool = True, watch=lambda optimizer: None, accumulate: int = 1):
    """The network's state_dict after one epoch of digits."""
    given = {"net": "resnet20", "data": "digits", "method": "spr", "batch_size": BATCH, "accumulate": accumulate}
    settings = new_settings("train", given)
    data, model = load_data("digits", None), network()
    optimizer = plain_optimizer(model, settings, 0.1)
    if prox:
        regulariser = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
        groups = channel_groups(model, data.example_inputs.double())
        optimizer = Proximal(optimizer, groups, regulariser, strength=60.0)
    watch(optimizer)
    task = Task("dense", 1, settings.rates(0.1), ranks)
    train_epoch(model, ranks.joined(model), optimizer, Doubled(data), settings, task, 0)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def fingerprint(state) -> str:
    """A hash of every bit."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()
