"""Measure the statistics of batch normalisation again on training images: after removal they are those of another network."""

import torch
from torch import nn

from nets.datasets.batches import batches, epoch_generator
from nets.training.phase import Run

WITHOUT_FINETUNING = 50  # batches, where nothing else brings the statistics up to date


@torch.no_grad()
def reestimate_statistics(model: nn.Module, run: Run) -> None:
    """Replace running mean and variance by their averages over the first `bn_batches` training batches of a seeded order.

    A resumed run that is past this point takes them from its checkpoint.
    """
    settings = run.settings
    count = settings.bn_batches
    if count is None:
        count = WITHOUT_FINETUNING if settings.finetune_epochs == 0 and run.facts.get("zeroed_by_budget") else 0
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not count or not norms or (run.snapshot is not None and run.snapshot.phase == "finetune"):
        return
    momenta = [norm.momentum for norm in norms]
    training = model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    model.train()
    generator = epoch_generator(settings.seed, "statistics", 0)
    for number, (images, _) in enumerate(batches(run.data, settings.batch_size, generator)):
        if number == count:
            break
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)
