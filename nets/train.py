"""The whole run: ordinary training, regularised training, physical removal, fine-tuning, one look at the test split.

Read `train` from top to bottom. Phases that a checkpoint has passed are taken from the run folder.
"""

import copy
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nets.budget import (
    Gauge,
    check_reachable,
    zero_channels,
)
from nets.checkpoint import read_checkpoint
from nets.groups import channel_groups
from nets.limits import select
from nets.measure import measure
from nets.methods import Layerwise, Method, choose_method
from nets.methods.masks import write_masks
from nets.methods.method import Network
from nets.removal import is_rounding, remove_channels
from nets.saving import describe, rebuild
from nets.settings import RECIPES, Settings, as_json, flag
from nets.training.dense import dense_network, fresh_network, load_dense, load_images, on_cpu, placed
from nets.training.phase import MakeOptimizer, Run, train_phase
from nets.training.progress import EpochBars
from nets.training.ranks import Ranks, joined_ranks
from nets.training.regularise import allocated, prunable_groups, regularise, taken_by_budget, teacher_of
from nets.training.result import channels_by_layer, finish, reopen
from nets.training.run_folder import (
    clear_left_over,
    cut_metrics,
    describe_environment,
    prepare_folder,
    read_json,
    write_json,
)
from nets.training.statistics import reestimate_statistics
from perspective.errors import CheckFailed, InputError

TOLERANCE = 1e-4  # float32: a larger difference of logits by removal must be shown to be rounding


def train(
    settings: Settings, out: Path, resume: bool = False, make_optimizer: MakeOptimizer | None = None
) -> dict[str, Any]:
    """Do what `settings` asks, in the folder `out`; returns the content of result.json.

    With `resume`, continue from the last checkpoint to the same weights (bit for bit on a CPU with the same number
    of threads); a finished run is not repeated. make_optimizer(parameters, lr): any torch optimizer instead of the one the
    settings name. InputError: bad input; CheckFailed: training diverged or removal changed the network's answers.
    """
    out = Path(out)
    if resume and (out / "result.json").is_file():
        return reopen(out)
    method = choose_method(settings.method, as_json(settings))
    _refuse_contradictions(settings, method)
    with (
        joined_ranks(settings.device) as ranks,
        _deterministic(settings, out if resume else None, ranks) as device,
        EpochBars(ranks.is_main) as bars,
    ):
        data = load_images(settings).to(device)
        source = None
        if settings.dense is not None and not (out / "dense").is_dir():
            source = load_dense(Path(settings.dense), settings, data)
        example = data.example_inputs.cpu()
        budget = settings.budget_asked
        if method.prunes or settings.exclude is not None:  # before any training: the shape alone decides
            shape = fresh_network(settings, data, "dense") if source is None else source
            groups = select(channel_groups(shape, example, settings.coupled), settings.limits)
            for sentence in groups.left_whole() if settings.coupled else ():
                bars.say(sentence)
            gauge = None if budget is None else Gauge(budget, shape, example)
            method.refuse_unfit(shape, groups, gauge)
            if gauge is not None and not method.calibrates:
                ranks.settle(lambda: check_reachable(shape, groups, gauge, settings.limits))
        run = _open(Run(settings, out, data, device, bars, None, {}, make_optimizer, ranks), resume)

        dense = dense_network(run, source)
        if not method.prunes:
            return finish(run, dense, None)
        whole, whole_groups = on_cpu(dense, prunable_groups(run, dense))
        prepared = method.prepare(whole_groups.snapshot())

        if run.is_past("regularise"):
            smaller = rebuild(run.facts["shape"])
        elif isinstance(method, Layerwise):
            smaller = _calibrate(run, method, whole)
        else:
            anew = settings.command == "train" and method.regularises  # else what is pruned is the trained network
            model = fresh_network(settings, data, "regularise") if anew else copy.deepcopy(dense)
            model = placed(model, settings, device)
            optimizer = None
            if method.regularises:
                optimizer = regularise(run, method, model, dense, (whole, whole_groups), prepared)
            groups = prunable_groups(run, model)
            scores = method.conclude(optimizer, groups, prepared)
            smaller = _remove(run, method, on_cpu(model, groups), (whole, whole_groups), scores)

        smaller = placed(smaller, settings, device)
        reestimate_statistics(smaller, run)
        epochs, lr, done = _finetuning(run, method)
        groups = channel_groups(smaller, data.example_inputs)
        train_phase(
            run,
            "finetune",
            smaller,
            run.optimizer(smaller, lr, "finetune"),
            groups,
            epochs,
            lr,
            behind=done,
            teacher=teacher_of(run, dense),
        )
        return finish(run, dense, smaller, bounds=_boxes(prepared))


def _boxes(prepared: Mapping[str, Any]) -> dict[str, float]:
    """M by layer, of the methods that have a box (group lasso has none)."""
    return {name: r.bound for name, r in prepared.items() if r.bound is not None}


def _calibrate(run: Run, method: Layerwise, whole: nn.Module) -> nn.Module:
    """The smaller network of a method that prunes by training images alone; a resumed run goes on behind the last layer."""
    settings = run.settings
    assert settings.budget_asked is not None  # refused at the start otherwise
    start = time.perf_counter()
    images = run.data.training_images(min(settings.calibration, len(run.data.train)), settings.seed).cpu()
    found = method.prune(
        *(whole, images, settings.budget_asked, run.data.example_inputs.cpu(), settings.seed),
        progress=run.bars.say,
        folder=run.out / "calibration" if run.ranks.is_main else None,
    )
    run.facts["calibrate_seconds"] = time.perf_counter() - start
    run.facts["difference"] = found.difference
    run.facts["layers"] = channels_by_layer(channel_groups(whole, run.data.example_inputs.cpu()), found.model)
    run.facts["shape"] = describe(found.model)
    run.facts["choices"] = [asdict(layer) for layer in found.layers]
    return found.model


def _remove(run: Run, method: Method, pruned: Network, whole: Network, scores: Mapping[str, Tensor]) -> nn.Module:
    """Zero what the budget still asks for, then take every zero channel out; the largest change of a logit is checked."""
    (model, groups), settings, example = pruned, run.settings, run.data.example_inputs.cpu()
    if settings.budget_asked is not None:
        gauge = Gauge(settings.budget_asked, whole[0], example)
        taken = taken_by_budget(run, (model, groups), gauge, allocated(run, method, whole[0], scores))
        zero_channels(groups, taken)
        run.facts["zeroed_by_budget"] = len(taken)
    if not any(groups.surviving().values()):
        raise CheckFailed(
            f"method {method.name} (strength {run.facts.get('strength')}) removed every channel of the network; start again with "
            "a smaller --strength"
        )
    if run.ranks.is_main:
        write_masks(run.out / "masks.json", groups)
    run.facts["findings"] = method.findings(whole, pruned, example)
    smaller, difference = remove_channels(model, example)
    if not difference <= TOLERANCE and not is_rounding(model, example):
        raise CheckFailed(
            f"removing the zero channels changed the logits by {difference:.3g}, more than {TOLERANCE:g}; "
            "the network holds a layer that removal does not handle exactly"
        )
    if measure(smaller, example).macs == 0 or not any(isinstance(m, nn.Conv2d) for m in smaller.modules()):
        raise CheckFailed(
            "a layer that every path goes through has lost all of its channels, so the network answers the same to every "
            "image; start again with a smaller --strength, or with a --budget"
        )
    run.facts["difference"] = difference
    run.facts["layers"] = channels_by_layer(groups, smaller)
    run.facts["shape"] = describe(smaller)
    run.facts["stuck"] = smaller.removal.stuck
    return smaller


def _open(run: Run, resume: bool) -> Run:
    """The run folder made or read (by rank 0 made, by all read), and what its last checkpoint says."""
    out = run.out

    def prepare() -> None:
        if resume:
            clear_left_over(out)
            return
        prepare_folder(out)
        write_json(out / "config.json", {**as_json(run.settings), "environment": describe_environment(run.device)})

    run.ranks.settle(prepare)
    snapshot, warnings = read_checkpoint(out / "checkpoint")
    for warning in warnings:
        run.bars.say(warning)
    run.ranks.settle(lambda: cut_metrics(out / "metrics.jsonl", 0 if snapshot is None else snapshot.metrics))
    return replace(run, snapshot=snapshot, facts={} if snapshot is None else dict(snapshot.facts))


def _finetuning(run: Run, method: Method) -> tuple[int, float, int]:
    """Epochs, first learning rate (of a shared schedule: its own) and regularised epochs done: a phase that met its budget
    early hands its epochs and its rate over."""
    settings = run.settings
    if not method.regularises:
        return settings.finetune_epochs, settings.lr_after_removal, 0
    done = run.facts["regularise_epochs"]
    if settings.continues:
        return settings.finetune_epochs + settings.epochs - done, settings.lr_after_removal, done
    reached = settings.rates(settings.lr).rate(done, settings.epochs) if done < settings.epochs else 0.0
    return settings.finetune_epochs + settings.epochs - done, max(settings.finetune_lr, reached), done


def _refuse_contradictions(settings: Settings, method: Method) -> None:
    if not method.prunes and (settings.command == "prune" or settings.budget is not None):
        raise InputError("method none prunes nothing; choose another --method, or train without --budget")
    if method.prunes and not method.makes_zeros and settings.budget is None:
        raise InputError(
            f"method {settings.method} makes no zeros by itself; add --budget, for example --budget macs=0.5"
        )
    # a paper's recipe may be tried with another method
    if method.prunes and not method.weighs and settings.recipe is None:
        for name in ("strength", "growth"):
            if getattr(settings, name) is not None:
                raise InputError(
                    f"method {method.name} has no penalty that a strength multiplies; leave {flag(name)} out"
                )
    if settings.capture and method.regularises and not method.follows:
        raise InputError(
            f"method {method.name} changes its steps as they go, which a captured graph would not see; leave --capture out"
        )
    for name, absent in (("coupled", False), ("round_to", 1)):
        if method.calibrates and getattr(settings, name) != absent:
            raise InputError(
                f"method {settings.method} goes by the channels that one layer writes and one reads; leave {flag(name)} out"
            )


@contextmanager
def _deterministic(settings: Settings, resumed: Path | None, ranks: Ranks) -> Iterator[torch.device]:
    """Deterministic kernels, and the recipe's thread count or the one a resumed run was started with; put back
    afterwards."""
    if settings.device == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device cuda, but torch sees no GPU; use --device cpu")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, were = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    wanted = RECIPES[settings.data].threads
    if resumed is not None:
        wanted = read_json(resumed / "config.json")["environment"]["threads"]
    if wanted is not None:
        torch.set_num_threads(wanted)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # NaN into every new tensor: a tenth of a step on the CPU
    )
    try:
        yield torch.device(settings.device, ranks.local) if settings.device == "cuda" else torch.device("cpu")
    finally:
        torch.use_deterministic_algorithms(were)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.set_num_threads(threads)
