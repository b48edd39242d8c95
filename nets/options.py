"""The flags of `train` and `prune`, each written once: name -> (type, what --help says)."""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

OPTIONS: dict[str, tuple[Any, str]] = {
    "recipe": (str, "a paper's settings for all flags that are left out: spr-cifar, greg2-resnet56 or chipnet-cifar"),
    "scale_epochs": (float, "factor on all epochs of the recipe (or of the defaults), for example 0.1"),
    "net": (
        str,
        "resnet20 ... resnet110, resnet18_cifar, vgg16_bn, resnet50, mobilenet_v2, vit_b_16, ...: see the README",
    ),
    "data": (str, "digits (bundled), cifar10, cifar100 or imagefolder"),
    "data_dir": (Path, "folder with the official CIFAR files, or with train/ and val/ of class folders"),
    "method": (str, "none, spr, magnitude, greg1, greg2, chipnet, lq, ...: see the README"),
    "epochs": (int, "epochs of the dense phase, and of the regularised phase"),
    "finetune_epochs": (int, "epochs after removal"),
    "budget": (str, "macs=0.5, params=0.5, channels=0.5, volume=0.5 or latency=0.6: share to keep"),
    "strength": (float, "lambda of the objective; default: from the budget or the recipe"),
    "growth": (str, "of lambda over the phase: constant, linear, or budget (default where a budget is given)"),
    "allocation": (
        str,
        "of a budget: even (by ranks), price (by scores), error (how far answers move); default: the method's",
    ),
    "implementation": (
        str,
        "of the prox: fused, fused_step (compiled; default on the CPU: fused), flat (torch; default on a GPU), loop (slow truth)",
    ),
    "batch_norm": (
        str,
        "of a CIFAR ResNet's training: fused (with its ReLU, in compiled loops; default with bfloat16 on the CPU) or torch",
    ),
    "coupled": (bool, "groups over additions, depthwise and grouped convolutions and concatenations"),
    "round_to": (int, "a pruned layer keeps a multiple of this many channels"),
    "floor": (float, "share of its channels that every layer keeps at least"),
    "exclude": (str, "layers that are left whole: names or patterns, separated by commas"),
    "alpha": (float, "SPR: ridge (alpha) against the price of a channel (1 - alpha)"),
    "m_scale": (float, "SPR: box of a layer over its largest trained weight"),
    "optimizer": (str, "sgd, nesterov or adamw"),
    "lr": (float, "first learning rate"),
    "finetune_lr": (float, "first learning rate after removal"),
    "schedule": (str, "of the learning rate in each phase: cosine, constant, steps, or for example steps=0.5/0.75:0.2"),
    "finetune_schedule": (
        str,
        "after removal; default: that of --schedule; continue: one curve from --lr over both phases, and removal as soon as a "
        "budget is met",
    ),
    "finetune_optimizer": (str, "after removal; default: that of --optimizer"),
    "warmup": (float, "share of a phase in which the learning rate rises"),
    "momentum": (float, "of sgd and nesterov"),
    "weight_decay": (float, "ordinary weight decay"),
    "batch_size": (int, "images a step"),
    "accumulate": (int, "parts in which a batch is computed, for want of memory"),
    "clip": (float, "largest norm of the gradient"),
    "label_smoothing": (float, "share of the labels spread over all classes"),
    "distill": (float, "share of the loss taken by the dense network's answers"),
    "ema": (float, "decay of averaged weights in the dense phase and the fine-tuning; 0 = off"),
    "cutout": (int, "pixels of a square blanked out of each training image; 0 = off"),
    "calibration": (int, "layerwise: training images the layers are fitted to"),
    "layer_seconds": (float, "layerwise: time limit of the exact solver for each layer"),
    "norm": (str, "magnitude: l1 or l2 norm of a channel"),
    "masks": (Path, "masks: file of another run's channels, RUN/masks.json"),
    "bn_batches": (int, "training batches that measure batch normalisation again after removal"),
    "width": (int, "channels of the first stage (CIFAR ResNets)"),
    "shortcut": (str, "A (subsample and pad) or B (1x1 convolution) (CIFAR ResNets)"),
    "image_size": (int, "pixels of a side (imagefolder)"),
    "workers": (int, "processes that read images (imagefolder)"),
    "seed": (int, "same seed, same bits on one CPU"),
    "precision": (str, "float32, or bfloat16 (autocast, float32 weights)"),
    "device": (str, "cpu or cuda"),
    "capture": (
        bool,
        "whole training steps as CUDA graphs (with --device cuda and --implementation fused or fused_step)",
    ),
    "tensorboard": (bool, "write TensorBoard files into the run folder too"),
}


def with_options(
    function: Callable[..., None], swept: bool = False, without: Collection[str] = ()
) -> Callable[..., None]:
    """`function(..., **given)` as a command with every flag of OPTIONS that it has not itself, but for those of `without`;
    flags that are left out arrive as None.

    swept: flags arrive as they were written, so that one may hold a list of values (but for those without a value).
    """
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    left_out = {p.name for p in own} | set(without)
    shared = [
        _parameter(name, str if swept and kind is not bool else kind, text)
        for name, (kind, text) in OPTIONS.items()
        if name not in left_out
    ]
    function.__signature__ = inspect.Signature([*own, *shared])
    function.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return function


def _parameter(name: str, kind: Any, text: str) -> inspect.Parameter:
    names = ["--" + name.replace("_", "-")] if kind is bool else []
    annotation = Annotated[kind | None, typer.Option(*names, help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
