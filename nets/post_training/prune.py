"""Pruning without training: layer after layer the exact choice of channels, then least squares, on some training images.

1. how many channels each layer keeps: one error, the divergence of the network's answers from the dense network's, is measured
   for every layer alone at some counts; the least sum under the budget is found exactly (`allocation.py`)
2. from the first layer to the last, with everything before it pruned already
   - the writer is refitted to the dense network's answers (its inputs have changed)
   - which input channels the reader keeps: the exact solver on min ||X W - Y||^2 + ridge ||W||^2 (`layerwise.py`)
   - the reader is refitted on them; Y is what the dense network has behind the addition less what the pruned one adds there
3. the classifier is refitted to the dense network's scores, and the channels that nobody reads are removed
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets.layerwise import SolvedChoice, choose_channels
from nets.post_training.budget import choose_counts, share_of, zero_writer
from nets.post_training.classifier import refit_classifier
from nets.post_training.plan import Plan
from nets.post_training.reconstruct import RIDGE, fit_behind_relu, read_fit, write_fit
from nets.post_training.site_choice import as_problem, keep_last, measure_error, rank_channels
from nets.post_training.site_rows import Samples, channel_columns, sample_reader, sample_writer
from nets.post_training.sites import Site, find_norm, find_sites
from nets.post_training.state import Progress, read_progress, write_progress
from nets.post_training.stream import Stream
from nets.removal import remove_channels
from perspective.errors import CheckFailed, InputError

ROUNDS = 4  # of majorisation behind a ReLU
TOLERANCE = 1e-3  # of the largest logit: what removal may change


@final
@dataclass(frozen=True)
class LayerReport:
    """One layer. kept: its input channels; objective, greedy, lower_bound: of the channel choice (None where no solver ran);
    error_before, error_after: ||answers - targets||^2 / ||targets - mean||^2 with the trained and with the refitted weights."""

    name: str
    channels: int
    kept: tuple[int, ...]
    objective: float | None
    greedy: float | None
    lower_bound: float | None
    status: str
    error_before: float
    error_after: float
    seconds: float

    @property
    def gap(self) -> float | None:
        """(objective - lower_bound) / objective, or None where no solver ran."""
        if self.objective is None or self.lower_bound is None:
            return None
        return (self.objective - self.lower_bound) / max(1e-12, abs(self.objective))


@final
@dataclass(frozen=True, eq=False)
class PostTraining:
    """model: physically smaller, in evaluation mode; masked: the same network before removal; difference: largest difference of
    their logits; share: what is left of the budget's kind."""

    model: nn.Module
    masked: nn.Module
    layers: tuple[LayerReport, ...]
    share: float
    difference: float


def prune_post_training(
    model: nn.Module,
    images: Tensor,
    plan: Plan,
    *,
    example_inputs: Tensor,
    curves: Sequence[NDArray[np.float64]] | None = None,
    progress: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> PostTraining:
    """Prune a copy of `model` (on the CPU) to the budget, from below, with the normalised training images alone: no labels.

    curves: what `measure_curves` found earlier, for other budgets on the same images. progress is told a sentence a step.
    folder: where finished layers are kept; a rerun with the same model, images and plan continues behind the last one, to the
    same bits. InputError for a budget out of reach and networks without such layers; CheckFailed where removal changed the
    answers or the budget is passed.
    """
    say = progress or (lambda _: None)
    if len(images) == 0:
        raise InputError("pruning after training needs calibration images; give at least one")
    dense, pruned = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    sites, nodes = find_sites(dense, example_inputs, plan.excluded)
    done = read_progress(folder, pruned, images, plan)
    if done is None:
        counts = choose_counts(dense, images, sites, nodes, plan, example_inputs, say, curves)
        done = Progress(counts, ())
        write_progress(folder, model, pruned, images, plan, done)
    streams = Stream(dense, nodes, images), Stream(pruned, nodes, images)
    for index, site in enumerate(sites):
        if index < len(done.layers):
            continue
        report = _prune_site(site, index, done.counts[index], *streams, plan)
        done = Progress(done.counts, (*done.layers, asdict(report)))
        write_progress(folder, model, pruned, images, plan, done)
        say(
            f"{site.name}: {len(report.kept)} of {site.channels} channels, error {report.error_before:.3g} before and "
            f"{report.error_after:.3g} after least squares, {report.status}, {report.seconds:.1f} s"
        )
    if plan.repair == "stream" and any(len(entry["kept"]) < entry["channels"] for entry in done.layers):
        refit_classifier(dense, pruned, images, nodes)
    smaller, difference = remove_channels(pruned, example_inputs)
    with torch.no_grad():
        scale = max(1.0, float(pruned(example_inputs).abs().max()))
    if not difference <= TOLERANCE * scale:
        raise CheckFailed(
            f"removing the zero channels changed the logits by {difference:.3g}; the network has a layer it cannot remove from"
        )
    share = share_of(model, smaller, example_inputs, plan.budget.kind)
    if not share <= plan.budget.share + 1e-9:
        raise CheckFailed(f"{share:.4f} of the {plan.budget.kind} are left, more than the budget {plan.budget.share:g}")
    layers = tuple(LayerReport(**{**entry, "kept": tuple(entry["kept"])}) for entry in done.layers)
    return PostTraining(smaller, pruned, layers, share, difference)


def _prune_site(site: Site, index: int, count: int, dense: Stream, pruned: Stream, plan: Plan) -> LayerReport:
    """Choose, refit and zero, in the pruned network; both streams end just before the site's writer."""
    modules = dict(pruned.model.named_modules())
    dense.advance(site.writer.node)
    pruned.advance(site.writer.node)
    seed = (plan.seed, index)
    if plan.repair == "stream" and index > 0:
        _refit_writer(site, modules, sample_writer(site.writer, dense, pruned, plan.positions, seed))
    samples = sample_reader(site, dense, pruned, plan.positions, seed, plan.repair == "stream")
    reader, norm = modules[site.reader.name], find_norm(modules, site.reader)
    groups = channel_columns(reader, site.channels)
    kept, found = _choose(site, count, samples, groups, modules, plan)
    trained, columns = read_fit(reader, norm), kept[groups]
    masked = type(trained)(np.where(columns[:, None], trained.weights, 0.0), trained.shift)
    before = after = measure_error(samples, masked)
    if plan.repair != "none":
        fit = fit_behind_relu(
            samples.rows,
            samples.targets,
            samples.added,
            trained,
            columns,
            ROUNDS * samples.rectified * (plan.repair == "stream"),
        )
        write_fit(reader, norm, fit, samples.rows)
        after = measure_error(samples, fit)
    zero_writer(modules, site.writer, ~kept)
    exact = plan.choice == "exact" and found is not None
    return LayerReport(
        name=site.name,
        channels=site.channels,
        kept=tuple(int(k) for k in np.flatnonzero(kept)),
        objective=found.objective if exact else None,
        greedy=found.greedy if exact else None,
        lower_bound=found.lower_bound if exact else None,
        status=found.status if exact else plan.choice,
        error_before=before,
        error_after=after,
        seconds=found.seconds if exact else 0.0,
    )


def _refit_writer(site: Site, modules: dict[str, nn.Module], samples: Samples) -> None:
    """The writer's answers on the pruned network's inputs, fitted to the dense network's."""
    layer, norm = modules[site.writer.name], find_norm(modules, site.writer)
    if norm is None and layer.bias is None:
        return  # nowhere to put a shift
    trained = read_fit(layer, norm)
    every = np.ones(len(trained.weights), dtype=bool)
    fit = fit_behind_relu(samples.rows, samples.targets, None, trained, every, ROUNDS * samples.rectified)
    write_fit(layer, norm, fit, samples.rows)


def _choose(
    site: Site, count: int, samples: Samples, groups: NDArray[np.int64], modules: dict[str, nn.Module], plan: Plan
) -> tuple[NDArray[np.bool_], SolvedChoice | None]:
    """(channels,) which input channels stay; the solver's own account of it where it ran."""
    if count == site.channels:
        return np.ones(count, dtype=bool), None
    problem = partial(as_problem, samples)
    if plan.choice != "exact":
        order = rank_channels(plan.choice, site, modules, problem, groups, samples.rows.ridge)
        return keep_last(order, count), None
    found = choose_channels(*problem(), groups, count, ridge=RIDGE, gap=plan.gap, time_limit=plan.time_limit)
    kept = found.kept.copy()
    for channel in reversed(found.order):  # the solver leaves out what adds nothing; the budget is to be used
        if np.count_nonzero(kept) < count:
            kept[channel] = True
    return kept, found
