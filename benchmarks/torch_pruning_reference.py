"""Torch-Pruning's group-norm pruner under the protocol of `perspective compare --methods`, so that one table has both.

    python -m benchmarks.torch_pruning_reference COMPARISON [--sparse] --out FOLDER

COMPARISON is the folder of such a comparison; FOLDER gets a run for each of its budgets and seeds, pruned from the same dense
networks, to the same budget, trained for the same number of epochs by the same loop, and a page with all runs of both. A run
that is finished is not repeated; one that was interrupted begins again.

The pruner: GroupNormPruner with GroupMagnitudeImportance(p=2), ranked over the whole network, in 400 small steps until the
budget is met, no layer below the comparison's floor: as in Torch-Pruning's own scripts. --sparse: first E epochs under its
regulariser (reg 1e-4, alpha 16, its defaults), then F after removal; without it, all E + F after removal; at the comparison's
rates, as any of its methods without flags of its own. Only the first convolution of each block of a CIFAR ResNet loses
channels: its graph does not know what an option-A shortcut does to the other ones' indices. Its choice of channels is taken
over and removed by `remove_channels`; the outputs of both small networks must agree.
"""

import argparse
import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nets.budget import Gauge, zero_channels
from nets.flow.difference import largest_difference
from nets.gauge import Budget
from nets.groups import channel_groups
from nets.measure import measure
from nets.removal import remove_channels
from nets.reports.compare import compare_runs
from nets.reports.compare_report import write_comparison
from nets.reports.means_table import Asked, means_table
from nets.resnet import BasicBlock
from nets.settings import RECIPES, Settings, as_json, new_settings
from nets.training.dense import load_dense, load_images, on_cpu, placed
from nets.training.phase import Run, train_phase
from nets.training.progress import EpochBars
from nets.training.regularise import teacher_of
from nets.training.result import channels_by_layer, finish
from nets.training.run_folder import describe_environment, prepare_folder, read_json, write_json
from nets.training.statistics import reestimate_statistics
from perspective.errors import CheckFailed, InputError

STEPS = 400
TOLERANCE = 1e-4


def make_pruner(model: nn.Module, example: Tensor, floor: float) -> Any:
    """Torch-Pruning's group-norm pruner on `model`, which it will change; only the blocks' first convolutions lose channels."""
    import torch_pruning as tp

    inner = {id(module.conv1) for module in model.modules() if isinstance(module, BasicBlock)}
    if not inner:
        raise InputError("this reference prunes CIFAR ResNets; compare one of resnet20 to resnet110 with it")
    layers = (nn.Conv2d, nn.Linear)
    return tp.pruner.GroupNormPruner(
        model,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=1.0 - floor,
        iterative_steps=STEPS,
        ignored_layers=[m for m in model.modules() if isinstance(m, layers) and id(m) not in inner],
        in_channel_groups={},  # its defaults are shared by all pruners of a process
        out_channel_groups={},
        num_heads={},
    )


def choose_channels(
    model: nn.Module, example: Tensor, budget: Budget, floor: float
) -> tuple[list[tuple[str, int]], nn.Module]:
    """(layer, channel) of all channels that Torch-Pruning takes until at most the budget is left, and its small network; `model`
    is not changed. CheckFailed where it does not get there."""
    gauge = Gauge(budget, model, example)
    small = copy.deepcopy(model)
    pruner = make_pruner(small, example, floor)
    names = {module: name for name, module in small.named_modules()}
    left = {name: list(range(m.out_channels)) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    taken: list[tuple[str, int]] = []
    for _ in range(STEPS):
        before = len(taken)
        for group in pruner.step(interactive=True):
            if not pruner.DG.check_pruning_group(group):
                continue
            dependency, places = group[0]
            name = names[dependency.target.module]
            gone = {left[name][place] for place in places}
            taken += [(name, channel) for channel in sorted(gone)]
            left[name] = [channel for channel in left[name] if channel not in gone]
            group.prune()
        if len(taken) > before and gauge.share(small) <= budget.share:
            return taken, small
    raise CheckFailed(
        f"Torch-Pruning left {gauge.share(small):.3g} of the {budget.kind}, more than {budget.share:g}; ask for more"
    )


def prune_by_reference(model: nn.Module, example: Tensor, budget: Budget, floor: float) -> tuple[nn.Module, float]:
    """(the small network, made by `remove_channels` of Torch-Pruning's channels, largest difference from the masked one).

    CheckFailed where Torch-Pruning's own small network answers differently or has another size.
    """
    taken, theirs = choose_channels(model, example, budget, floor)
    masked = copy.deepcopy(model)
    zero_channels(channel_groups(masked, example), taken)
    ours, difference = remove_channels(masked, example)
    apart = largest_difference(theirs.eval(), copy.deepcopy(ours).eval(), (example,))
    if not apart <= TOLERANCE or measure(theirs, example) != measure(ours, example):
        raise CheckFailed(
            f"Torch-Pruning's network and ours, without the same {len(taken)} channels, differ by {apart:.3g} in their outputs, "
            f"or in size ({measure(theirs, example)}, {measure(ours, example)})"
        )
    return ours, difference


def run_cell(settings: Settings, out: Path, sparse: bool) -> dict[str, Any]:
    """One run folder, as `perspective prune` would write it; settings.method is only a name. Returns result.json's content."""
    threads = RECIPES[settings.data].threads
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    device = torch.device(settings.device)
    data = load_images(settings).to(device)
    prepare_folder(out)
    write_json(out / "config.json", {**as_json(settings), "environment": describe_environment(device)})
    with EpochBars() as bars:
        run = Run(settings, out, data, device, bars, None, {})
        dense = placed(load_dense(Path(str(settings.dense)), settings, data), settings, device)
        model, example = copy.deepcopy(dense), data.example_inputs
        if sparse:
            pruner = make_pruner(model, example, settings.floor)
            optimizer = run.optimizer(model, settings.lr)
            optimizer.register_step_pre_hook(lambda *_: pruner.regularize(model))
            groups = channel_groups(model, example)
            teacher = teacher_of(run, dense)
            train_phase(run, "regularise", model, optimizer, groups, settings.epochs, settings.lr, teacher=teacher)
        assert settings.budget_asked is not None
        plain, _ = on_cpu(model, channel_groups(model, example))
        smaller, run.facts["difference"] = prune_by_reference(
            plain.eval(), example.cpu(), settings.budget_asked, settings.floor
        )
        run.facts["layers"] = channels_by_layer(channel_groups(plain, example.cpu()), smaller)
        smaller = placed(smaller, settings, device)
        reestimate_statistics(smaller, run)
        lr = settings.lr_after_removal
        train_phase(
            run,
            "finetune",
            smaller,
            run.optimizer(smaller, lr, "finetune"),
            channel_groups(smaller, example),
            settings.finetune_epochs,
            lr,
            behind=settings.epochs if sparse else 0,
            teacher=teacher_of(run, dense),
        )
        return finish(run, dense, smaller)


def lay_out(comparison: Path, sparse: bool) -> dict[str, Settings]:
    """By run folder: what each budget and seed of the comparison asks for, as its cells were started."""
    content = read_json(comparison / "compare.json")
    if "protocol" not in content:
        raise InputError(f"{comparison} is no comparison of methods; make one with perspective compare --methods")
    protocol, method = content["protocol"], "torch-pruning-sparse" if sparse else "torch-pruning"
    after = protocol["finetune_epochs"] if sparse else protocol["total_epochs"]
    found = {}
    for cell in content["cells"]:  # any method's: budget, seed and dense network are the same for all
        common = {name: cell["settings"][name] for name in ("dense", "budget", "seed")}
        flags = {
            **protocol["shared"],
            **common,
            "method": method,
            "epochs": protocol["epochs"],
            "finetune_epochs": after,
        }
        found[f"method-{method}_budget-{flags['budget']}_seed-{flags['seed']}"] = new_settings("prune", flags)
    return found


def main() -> None:
    """Run what is missing, then one table and one page of the comparison's runs and these."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument("--sparse", action="store_true", help="E epochs under Torch-Pruning's regulariser first")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cells = lay_out(options.comparison, options.sparse)
    for name, settings in cells.items():
        folder = options.out / name
        if (folder / "result.json").is_file():
            continue
        if folder.is_dir():
            shutil.rmtree(folder)
        print(name, file=sys.stderr)
        run_cell(settings, folder, options.sparse)
    content = read_json(options.comparison / "compare.json")
    theirs = [(c["name"], c["axes"], c["failed"]) for c in content["cells"]]
    folders = [options.comparison / name for name, _, _ in theirs] + [options.out / name for name in cells]
    asked = [Asked(axes["method"], axes["budget"], failed) for _, axes, failed in theirs]
    asked += [Asked(settings.method, str(settings.budget), "") for settings in cells.values()]
    failures = {options.comparison / name: failed for name, _, failed in theirs if failed}
    both = compare_runs(folders, failures)
    table = means_table(both, asked)
    told = (
        "torch-pruning: Torch-Pruning's group-norm pruner, first convolutions of blocks only; trained by the same loop."
    )
    write_comparison(both, options.out, [*content["protocol"]["told"], told], None, {"table": table})
    print(table)


if __name__ == "__main__":
    try:
        main()
    except (InputError, CheckFailed) as error:
        sys.exit(f"torch_pruning_reference: {error}")
