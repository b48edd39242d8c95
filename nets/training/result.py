"""The end of a run: the network saved, the test split looked at for the only time, result.json and the report written."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from nets.datasets.images import Images
from nets.gauge import Budget, Gauge
from nets.groups import ChannelGroups, channel_groups
from nets.measure import measure
from nets.recipes import describe_recipe
from nets.report import write_report
from nets.saving import save_model
from nets.settings import as_json
from nets.training.evaluate import accuracy
from nets.training.phase import Run
from nets.training.run_folder import read_json, write_json


def finish(
    run: Run, dense: nn.Module, smaller: nn.Module | None, bounds: dict[str, float] | None = None
) -> dict[str, Any]:
    """Save the network, look at the test split for the first and only time, write result.json and the report.

    smaller: the pruned network, or None where nothing was pruned. bounds: M of each layer. Returns result.json's content.
    """
    settings, out, data = run.settings, run.out, run.data
    if not run.ranks.is_main:
        run.ranks.meet()
        return read_json(out / "result.json")
    final = dense if smaller is None else smaller
    if not (out / "model").is_dir():
        save_model(final, out / "model")
    sizes = {"dense": _figures(dense, data), "pruned": _figures(final, data)}
    budget = settings.budget_asked
    gauge = Gauge(budget or Budget("macs", 1.0), dense, data.example_inputs)
    lines = [line for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if line]
    result = {
        "recipe": describe_recipe(as_json(settings)),
        "net": settings.net,
        "data": settings.data,
        "method": settings.method,
        "seed": settings.seed,
        **sizes,
        "budget": {
            "kind": gauge.budget.kind,
            "asked": None if budget is None else budget.share,
            "reached": gauge.share(final),
        },
        "equality": {"max_abs_logit_difference": run.facts.get("difference", 0.0)},
        "strength": run.facts.get("strength"),
        "alpha": settings.alpha if bounds else None,
        "bounds": bounds or {},
        "zeroed_by_budget": run.facts.get("zeroed_by_budget", 0),
        "choices": run.facts.get("choices", []),
        "findings": run.facts.get("findings", {}),
        "zero_channels_left": run.facts.get("stuck", 0),
        "layers": run.facts.get("layers") or channels_by_layer(channel_groups(final, data.example_inputs), final),
        "validation_accuracy": sizes["pruned"]["validation_accuracy"],
        "seconds": _seconds(lines, run.facts.get("calibrate_seconds")),
        "environment": read_json(out / "config.json")["environment"],
    }
    write_json(out / "result.json", result)
    write_report(out)
    run.ranks.meet()
    return result


def reopen(out: Path) -> dict[str, Any]:
    """A finished run's result.json; its report is written where a kill came before it."""
    if not (out / "report.html").is_file():
        write_report(out)
    return read_json(out / "result.json")


def _figures(model: nn.Module, data: Images) -> dict[str, float]:
    model = model.to(data.device)
    size = measure(model, data.example_inputs)
    return {
        "test_accuracy": accuracy(model, data, data.test),
        "validation_accuracy": accuracy(model, data, data.validation),
        "macs": size.macs,
        "params": size.params,
        "channels": size.channels,
    }


def _seconds(lines: list[str], calibrate: float | None) -> dict[str, float]:
    """By phase, and their sum. calibrate: of choosing channels without training (since the last interruption), or None."""
    seconds: dict[str, float] = {} if calibrate is None else {"calibrate": calibrate}
    for line in map(json.loads, lines):
        seconds[line["phase"]] = seconds.get(line["phase"], 0.0) + line["seconds"]
    return {**seconds, "total": sum(seconds.values())}


def channels_by_layer(groups: ChannelGroups, smaller: nn.Module) -> list[dict[str, Any]]:
    """Channels of every convolution before and after removal; a removed branch has none left."""
    modules = dict(smaller.named_modules())
    after = {name: module.out_channels for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    return [
        {"name": layer.name, "before": layer.channels, "after": after.get(layer.name, 0)} for layer in groups.layers
    ]
