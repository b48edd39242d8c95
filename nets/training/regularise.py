"""The phase of training under the penalty: lambda as asked for, or driven so that a budget's channels are zero at its end."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from nets.budget import Budget, Gauge, channels_for_budget, even, share_left
from nets.datasets.batches import steps_per_epoch
from nets.groups import ChannelGroups, channel_groups
from nets.limits import select
from nets.methods import Method
from nets.methods.phase_plan import PhasePlan
from nets.optimizer import Proximal
from nets.settings import RECIPES
from nets.training.controller import Controller
from nets.training.dense import on_cpu, placed
from nets.training.phase import Run, train_phase
from nets.training.schedule import linear_growth
from nets.training.sensitivity import IMAGES, Sensitivity, measure_sensitivity, priced
from perspective.errors import InputError


def regularise(
    run: Run,
    method: Method,
    model: nn.Module,
    dense: nn.Module,
    whole: tuple[nn.Module, ChannelGroups],
    prepared: Mapping[str, Any],
) -> Optimizer:
    """The phase under the method: until its epochs are over or the budget is met. Returns the method's optimizer."""
    settings, budget, example = run.settings, run.settings.budget_asked, run.data.example_inputs.cpu()
    groups = prunable_groups(run, model)
    strength, targets = _strength(run, method, whole, prepared)
    steps = steps_per_epoch(run.data, settings.batch_size)
    schedule = settings.rates(settings.lr)
    asked = None if budget is None else Gauge(budget, whole[0], example)

    wrapped = False

    def choose(scores: Mapping[str, Tensor]) -> list[tuple[str, int]]:
        assert asked is not None  # PhasePlan.budgeted says so first
        if not wrapped and "chosen" in run.facts:  # a resumed run's: a measured latency would say something else today
            return [(name, channel) for name, channel in run.facts["chosen"]]
        taken = taken_by_budget(run, on_cpu(model, groups), asked, allocated(run, method, whole[0], scores))
        if not wrapped:
            run.facts["chosen"] = taken
        return taken

    plan = PhasePlan(model, strength, settings.epochs, steps, schedule, asked, choose)
    optimizer = method.wrap(run.optimizer(model, settings.lr), groups, prepared, plan)
    wrapped = True
    strength = run.facts["strength"] = getattr(optimizer, "strength", None)  # before a checkpoint puts a later one back

    def set_prices(epoch: int) -> None:
        if targets is not None and isinstance(optimizer, Proximal):
            optimizer.prices = Controller(groups, prepared, targets, schedule, settings.epochs, steps).prices(epoch)
        elif settings.growth == "linear" and strength is not None:  # the same total as a constant one
            optimizer.strength = strength * linear_growth(schedule, epoch, settings.epochs)

    def fits_budget() -> bool:
        recovers_here = targets is not None and not settings.continues  # survivors need this phase's rates to the end
        if asked is None or recovers_here:
            return False
        return run.ranks.settle(lambda: share_left(*on_cpu(model, groups), asked, []) <= asked.budget.share)

    def count() -> dict[str, float]:
        return {"macs_left": share_left(*on_cpu(model, groups), Gauge(Budget("macs", 1.0), whole[0], example), [])}

    run.facts["regularise_epochs"] = train_phase(
        *(run, "regularise", model, optimizer, groups, settings.epochs, settings.lr),
        teacher=teacher_of(run, dense),
        before_epoch=set_prices,
        is_enough=fits_budget,
        count=count,
    )
    return optimizer


def _strength(
    run: Run, method: Method, whole: tuple[nn.Module, ChannelGroups], prepared: Mapping[str, Any]
) -> tuple[float | None, dict[str, int] | None]:
    """The lambda asked for; or the one whose shrinkage over the phase brings just the budget's channels to zero, by the
    thresholds of the trained network; or the recipe's. With growth by the budget, 1 and the channels each layer loses."""
    settings, budget = run.settings, run.settings.budget_asked
    if not method.follows:
        if settings.growth == "budget":
            raise InputError(f"method {method.name} has no prices that follow a budget; leave --growth out")
        return settings.strength, None
    if "strength" in run.facts:
        return run.facts["strength"], run.facts["targets"]
    steps = settings.epochs * steps_per_epoch(run.data, settings.batch_size)
    reach, targets = settings.rates(settings.lr).total(0, steps, steps), None
    strength = RECIPES[settings.data].shrinkage / reach if settings.strength is None else settings.strength
    if budget is not None and settings.strength is None:
        gauge = Gauge(budget, whole[0], run.data.example_inputs.cpu())
        scores = method.scores(whole[1], prepared)
        taken = taken_by_budget(run, whole, gauge, allocated(run, method, whole[0], scores))
        if settings.growth in (None, "budget"):
            targets = {layer.name: sum(name == layer.name for name, _ in taken) for layer in whole[1].layers}
            strength = 1.0
        else:
            strength = max((float(scores[name][k]) for name, k in taken), default=0.0) / reach
    elif settings.growth == "budget":
        raise InputError(f"method {settings.method} has no thresholds to follow a budget by; leave --growth out")
    told = f"strength {strength:.4g}; sum of lr * strength over the phase {strength * reach:.4g}"
    run.bars.say(
        told if targets is None else f"{sum(targets.values())} channels are to be zero at the end of the phase"
    )
    run.facts["strength"], run.facts["targets"] = strength, targets
    return strength, targets


def taken_by_budget(
    run: Run, network: tuple[nn.Module, ChannelGroups], gauge: Gauge, scores: dict[str, Tensor]
) -> list[tuple[str, int]]:
    """The budget's channels; rank 0 chooses for all, for latencies differ from process to process."""
    taken = run.ranks.settle(lambda: channels_for_budget(*network, gauge, scores, run.settings.limits))
    return [(name, channel) for name, channel in taken]


def allocated(run: Run, method: Method, dense: nn.Module, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How a budget compares channels of different layers: as asked for, or as the method's scores are meant. For errors, the
    dense network's sensitivity is measured once a run."""
    wanted = run.settings.allocation or method.allocation
    if wanted != "error":
        return dict(scores) if wanted == "price" else even(scores)
    budget = run.settings.budget_asked
    if budget is None:
        raise InputError("--allocation error shares out a budget; add one, for example --budget macs=0.5")
    if "sensitivity" not in run.facts:
        run.bars.say("measuring how the answers depend on each layer")
        images = run.data.training_images(min(IMAGES, len(run.data.train)), run.settings.seed).to(run.device)
        groups = select(channel_groups(dense, run.data.example_inputs.cpu(), run.settings.coupled), run.settings.limits)

        def measured() -> dict[str, Any]:
            found = measure_sensitivity(dense, groups, images, budget, run.settings.precision)
            return {name: asdict(one) for name, one in found.items()}

        run.facts["sensitivity"] = run.ranks.settle(measured)
    known = {name: Sensitivity(tuple(s["errors"]), s["saved"]) for name, s in run.facts["sensitivity"].items()}
    return priced(scores, known)


def prunable_groups(run: Run, model: nn.Module) -> ChannelGroups:
    """The groups that may be pruned."""
    return select(channel_groups(model, run.data.example_inputs, run.settings.coupled), run.settings.limits)


def teacher_of(run: Run, dense: nn.Module) -> nn.Module | None:
    if not run.settings.distill:
        return None
    return placed(copy.deepcopy(dense), run.settings, run.device).eval().requires_grad_(False)
