"""The whole run: ordinary training, regularised training, physical removal, fine-tuning, one look at the test split.

Read `train` from top to bottom. Phases that a checkpoint has passed are taken from the run folder.
"""

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nets.batches import steps_per_epoch
from nets.budget import channels_for_budget, check_reachable, share_left, zero_channels
from nets.checkpoint import read_checkpoint
from nets.data import Dataset, load_data
from nets.dense import dense_network, fresh_network, load_dense, on_cpu, placed
from nets.groups import ChannelGroups, channel_groups
from nets.measure import measure
from nets.methods import Method, choose_method
from nets.phase import Run, plain_optimizer, train_phase
from nets.progress import EpochBars
from nets.removal import remove_channels
from nets.result import channels_by_layer, finish
from nets.run_folder import cut_metrics, describe_environment, prepare_folder, read_json, write_json
from nets.saving import describe, rebuild
from nets.schedule import learning_rate, total_rate
from nets.settings import RECIPES, Settings, as_json
from perspective.errors import CheckFailed, InputError

TOLERANCE = 1e-4  # float32: largest difference of logits that removal may cause


def train(settings: Settings, out: Path, resume: bool = False) -> dict[str, Any]:
    """Do what `settings` asks, in the folder `out`; returns the content of result.json.

    With `resume`, continue from the last checkpoint to the same weights (bit for bit on a CPU with the same number
    of threads); a finished run is not repeated. InputError: bad input; CheckFailed: training diverged or removal
    changed the network's answers.
    """
    out = Path(out)
    if resume and (out / "result.json").is_file():
        return read_json(out / "result.json")
    method = choose_method(settings.method, settings.alpha, settings.m_scale)
    _refuse_contradictions(settings, method)
    with _deterministic(settings, out if resume else None) as device, EpochBars() as bars:
        data = load_data(settings.data, None if settings.data_dir is None else Path(settings.data_dir)).to(device)
        source = None
        if settings.dense is not None and not (out / "dense").is_dir():
            source = load_dense(Path(settings.dense), settings, data)
        example = data.example_inputs.cpu()
        budget = settings.budget_asked
        if budget is not None:  # before any training: what can be reached depends on the shape only
            shape = fresh_network(settings, data, "dense") if source is None else source
            check_reachable(shape, channel_groups(shape, example), example, budget)
        run = _open(settings, out, resume, data, device, bars)

        dense = dense_network(run, source)
        if not method.prunes:
            return finish(run, dense, None)
        dense_size = measure(dense.cpu(), example)
        dense_groups = channel_groups(dense, example)
        prepared = method.prepare(dense_groups.snapshot())

        if run.is_past("regularise"):
            smaller = rebuild(run.facts["shape"])
        else:
            model = copy.deepcopy(dense) if settings.command == "prune" else fresh_network(settings, data, "regularise")
            model = placed(model, settings, device)
            groups = channel_groups(model, data.example_inputs)
            if method.regularises:
                strength = _strength(run, method, dense, dense_groups, prepared, example)
                optimizer = method.wrap(plain_optimizer(model, settings, settings.lr), groups, prepared, strength)

                def fits_budget() -> bool:
                    if budget is None:
                        return False
                    now = share_left(*on_cpu(model, groups), example, budget, getattr(dense_size, budget.kind), [])
                    return now <= budget.share

                done = train_phase(
                    run, "regularise", model, optimizer, groups, settings.epochs, settings.lr, fits_budget
                )
                run.facts["regularise_epochs"] = done
            model, groups = on_cpu(model, groups)
            if budget is not None:
                whole = getattr(dense_size, budget.kind)
                taken, _ = channels_for_budget(model, groups, example, budget, whole, method.scores(groups, prepared))
                zero_channels(groups, taken)
                run.facts["zeroed_by_budget"] = len(taken)
            if not any(groups.surviving().values()):
                used = f"strength {run.facts.get('strength', 0):.4g}"
                raise CheckFailed(f"{used} removed every channel of the network; start again with a smaller --strength")
            smaller, difference = remove_channels(model, example)
            if not difference <= TOLERANCE:
                raise CheckFailed(
                    f"removing the zero channels changed the logits by {difference:.3g}, more than {TOLERANCE:g}; "
                    "the network holds a layer that removal does not handle exactly"
                )
            run.facts["difference"] = difference
            run.facts["layers"] = channels_by_layer(groups, smaller)
            run.facts["shape"] = describe(smaller)

        smaller = placed(smaller, settings, device)
        epochs, lr = _finetuning(run, method)
        groups = channel_groups(smaller, data.example_inputs)
        train_phase(run, "finetune", smaller, plain_optimizer(smaller, settings, lr), groups, epochs, lr)
        return finish(run, dense, smaller, bounds={name: r.bound for name, r in prepared.items()})


def _open(settings: Settings, out: Path, resume: bool, data: Dataset, device: torch.device, bars: EpochBars) -> Run:
    if not resume:
        prepare_folder(out)
        write_json(out / "config.json", {**as_json(settings), "environment": describe_environment(device)})
    snapshot, warnings = read_checkpoint(out / "checkpoint")
    for warning in warnings:
        bars.say(warning)
    facts = {} if snapshot is None else dict(snapshot.facts)
    cut_metrics(out / "metrics.jsonl", 0 if snapshot is None else snapshot.metrics)
    return Run(settings, out, data, device, bars, snapshot, facts)


def _strength(
    run: Run, method: Method, dense: nn.Module, groups: ChannelGroups, prepared: Mapping[str, Any], example: Tensor
) -> float:
    """The lambda asked for; or the one whose shrinkage over the phase brings just the budget's channels to zero, by the
    thresholds of the trained network; or the recipe's."""
    settings, budget = run.settings, run.settings.budget_asked
    if "strength" in run.facts:
        return run.facts["strength"]
    reach = total_rate(settings.lr, settings.epochs * steps_per_epoch(run.data, settings.batch_size))
    if settings.strength is not None:
        strength = settings.strength
    elif budget is not None:
        whole = getattr(measure(dense, example), budget.kind)
        _, last = channels_for_budget(dense, groups, example, budget, whole, method.scores(groups, prepared))
        strength = last / reach
    else:
        strength = RECIPES[settings.data].shrinkage / reach
    run.bars.say(f"strength {strength:.4g}; sum of lr * strength over the phase {strength * reach:.4g}")
    run.facts["strength"] = strength
    return strength


def _finetuning(run: Run, method: Method) -> tuple[int, float]:
    """Epochs and first learning rate: a regularised phase that met its budget early hands its epochs and its rate
    over."""
    settings = run.settings
    if not method.regularises:
        return settings.finetune_epochs, settings.finetune_lr
    done = run.facts["regularise_epochs"]
    reached = learning_rate(settings.lr, done, settings.epochs) if done < settings.epochs else 0.0
    return settings.finetune_epochs + settings.epochs - done, max(settings.finetune_lr, reached)


def _refuse_contradictions(settings: Settings, method: Method) -> None:
    if not method.prunes and (settings.command == "prune" or settings.budget is not None):
        raise InputError("method none prunes nothing; choose another --method, or train without --budget")
    if method.prunes and not method.regularises and settings.budget is None:
        raise InputError(
            f"method {settings.method} makes no zeros by itself; add --budget, for example --budget macs=0.5"
        )


@contextmanager
def _deterministic(settings: Settings, resumed: Path | None) -> Iterator[torch.device]:
    """Deterministic kernels, and the recipe's thread count or the one a resumed run was started with; put back
    afterwards."""
    if settings.device == "cuda":
        if not torch.cuda.is_available():
            raise InputError("--device cuda, but torch sees no GPU; use --device cpu")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, were = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    wanted = RECIPES[settings.data].threads
    if resumed is not None:
        wanted = read_json(resumed / "config.json")["environment"]["threads"]
    if wanted is not None:
        torch.set_num_threads(wanted)
    torch.use_deterministic_algorithms(True)
    try:
        yield torch.device(settings.device)
    finally:
        torch.use_deterministic_algorithms(were)
        torch.set_num_threads(threads)
