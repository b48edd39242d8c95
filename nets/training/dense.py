"""The network a run starts from: freshly initialised, ordinarily trained, or taken from a run folder or a weights file."""

import copy
from pathlib import Path

import torch
from torch import nn

from nets.data import load_data
from nets.datasets.batches import epoch_generator
from nets.datasets.images import Images
from nets.groups import ChannelGroups, channel_groups
from nets.networks import build
from nets.saving import load, save_model
from nets.settings import Settings
from nets.training.phase import Run, train_phase
from nets.weights import load_weights
from perspective.errors import InputError


def load_images(settings: Settings) -> Images:
    """The data set that the settings name."""
    folder = None if settings.data_dir is None else Path(settings.data_dir)
    return load_data(settings.data, folder, settings.image_size, settings.cutout, settings.workers)


def fresh_network(settings: Settings, data: Images, phase: str) -> nn.Module:
    """The random network that `phase` starts from; it depends on the seed and the phase only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_generator(settings.seed, f"initial {phase}", 0).initial_seed())
        return _built(settings, data)


def load_dense(source: Path, settings: Settings, data: Images) -> nn.Module:
    """The trained network of a run folder (its dense network, where that run pruned one) or of a weights file."""
    if source.is_dir():
        folder = source / "dense" if (source / "dense").is_dir() else source / "model"
        if not folder.is_dir():
            raise InputError(
                f"{source} holds no finished network (no folder dense or model); finish or resume that run first"
            )
        model = load(folder)
        known = getattr(model, "architecture", {})
        wanted = _built(settings, data).architecture
        if known != wanted:
            raise InputError(
                f"the network in {folder} is {known}, the settings ask for {wanted}; make --net, --data, --width agree"
            )
        return model
    model = _built(settings, data)
    load_weights(model, source)
    return model


def dense_network(run: Run, source: nn.Module | None) -> nn.Module:
    """The ordinarily trained network, from the run folder where it is kept, from its source, or by training."""
    folder = run.out / "dense"
    if run.ranks.settle(folder.is_dir):  # rank 0 may write it before another looks
        return placed(load(folder), run.settings, run.device)
    if source is not None:
        model = placed(source, run.settings, run.device)
    else:
        model = placed(fresh_network(run.settings, run.data, "dense"), run.settings, run.device)
        groups = channel_groups(model, run.data.example_inputs)
        optimizer = run.optimizer(model, run.settings.lr)
        train_phase(run, "dense", model, optimizer, groups, run.settings.epochs, run.settings.lr)
    if run.settings.method != "none" and run.ranks.is_main:
        save_model(model, folder)
    run.ranks.meet()
    return model


def placed(model: nn.Module, settings: Settings, device: torch.device) -> nn.Module:
    """The network on its device, in the memory format that is fast at its precision."""
    model = model.to(device)
    last = settings.precision == "bfloat16" or settings.batch_norm == "fused"
    return model.to(memory_format=torch.channels_last) if last else model


def on_cpu(model: nn.Module, groups: ChannelGroups) -> tuple[nn.Module, ChannelGroups]:
    """Copies on the CPU: counting and comparing logits want float32 convolutions without TF32."""
    model, groups = copy.deepcopy((model, groups))
    return model.cpu(), groups


def _built(settings: Settings, data: Images) -> nn.Module:
    return build(settings.net, data.classes, data.in_channels, settings.width, settings.shortcut, data.image_size)
