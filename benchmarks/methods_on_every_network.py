"""Does every pruning method meet a budget on every network, by the way a user goes, and what does it say where it does not fit?

python -m benchmarks.methods_on_every_network [--only-net resnet20,vit_b_16] [--only-method spr,lq] --out FOLDER

A cell is `nets.train.train` with the settings of `perspective prune --weights FILE --method NAME --budget macs=0.5`: a folder of
a few images at the smallest size of SIZES that the network takes, one epoch of three steps, no fine-tuning. The dense network has
random weights and statistics (benchmarks/half_zeroed.py), so accuracies mean nothing; what counts is the budget, the largest
change of a logit by the removal, and that nothing crashes or becomes NaN. A budget that a network cannot reach is asked again
at the least that the refusal names. Rows are kept in FOLDER/rows.json; a cell that is there is not run again.
"""

import argparse
import json
import math
import re
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.environment import command_line, environment, keep
from benchmarks.half_zeroed import disturb, pictures
from nets.budget import zero_channels
from nets.data import load_data
from nets.groups import channel_groups
from nets.methods import ALL
from nets.methods.masks import write_masks
from nets.networks import build
from nets.saving import load
from nets.settings import new_settings
from nets.train import train
from perspective.errors import CheckFailed, InputError
from perspective.files import write_text

NETS = (  # name, or name and option of the shortcuts; in the order of what a cell costs
    *(
        "resnet20",
        "resnet20 B",
        "mobilenet_v3_small",
        "resnet56",
        "resnet56 B",
        "mobilenet_v2",
        "resnet18",
        "resnet18_cifar",
    ),
    *("regnet_x_400mf", "regnet_y_400mf", "efficientnet_b0", "vgg16_bn", "resnet50", "convnext_tiny", "vit_b_16"),
)
COUPLED = ("magnitude", "greg1", "spr")  # the methods that are also asked with --coupled
WITHOUT_ADDITIONS = ("vgg16_bn",)
SIZES = (16, 32, 64)
CLASSES, IMAGES, BATCH = 3, 8, 8  # images of a class in a split
METHODS = tuple(kind.name for kind in ALL if kind.prunes)


@final
@dataclass(frozen=True)
class Row:
    """One cell. groups: their number; asked, reached: shares of the MACs; refused: the sentence of a refusal; finding: what is
    wrong with the cell, "" where nothing is."""

    net: str
    method: str
    coupled: bool
    size: int = 0
    groups: int = 0
    asked: float = 0.0
    reached: float = 0.0
    difference: float = 0.0
    seconds: float = 0.0
    refused: str = ""
    finding: str = ""

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.net, self.method, self.coupled


@final
@dataclass(frozen=True)
class Start:
    """What all cells of a network share. weights: file of the dense network; flags: of the command line."""

    size: int
    weights: Path
    flags: dict[str, Any]


def prepare(net: str, folder: Path) -> Start:
    """Images of the smallest size that the network takes, and its weights."""
    name, _, shortcut = net.partition(" ")
    for size in SIZES:
        torch.manual_seed(0)
        try:
            model = build(name, CLASSES, 3, shortcut=shortcut or None, image_size=size)
        except InputError:
            continue
        break
    else:
        raise InputError(f"{name} takes no images of {SIZES} pixels; add a size")
    data = folder / f"images{size}"
    write_images(data, size)
    shown = load_data("imagefolder", data, size, workers=0).pick_training_images(range(CLASSES * IMAGES))
    disturb(model, shown, torch.Generator().manual_seed(2))
    weights = folder / f"{net}.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    flags = {"net": name, "data": "imagefolder", "data_dir": str(data), "image_size": size, "workers": 0}
    flags |= {"dense": str(weights), "epochs": 1, "finetune_epochs": 0, "batch_size": BATCH, "lr": 1e-3}
    flags |= {"calibration": CLASSES * IMAGES, "layer_seconds": 0.5}
    return Start(size, weights, flags | ({"shortcut": shortcut} if shortcut else {}))


def write_images(folder: Path, size: int) -> None:
    """folder/SPLIT/CLASS/*.png, random pictures."""
    for number, split in enumerate(("train", "val", "test")):
        shown = pictures(CLASSES * IMAGES, size, seed=10 + number)
        for k, picture in enumerate(shown.mul(60).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()):
            place = folder / split / f"class{k % CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(picture)).save(place / f"{k}.png")


def examine(net: str, method: str, coupled: bool, start: Start, folder: Path) -> Row:
    """Run the cell, a second time where the budget is out of reach; a row whatever happens."""
    row = Row(net, method, coupled, start.size)
    flags = {**start.flags, "method": method, "coupled": coupled}
    begin, share = time.perf_counter(), 0.5
    try:
        if method == "masks":
            flags["masks"] = str(three_quarters(start, coupled, folder / "masks.json"))
        try:
            result = train(new_settings("prune", {**flags, "budget": "macs=0.5"}), folder / "run")
        except InputError as error:
            found = re.search(r"ask for (?:between|at least) ([0-9.]+)", str(error))
            if found is None:
                raise
            share = float(found[1].rstrip("."))
            result = train(new_settings("prune", {**flags, "budget": f"macs={share:g}"}), folder / "again")
        finding = judge(result, load((folder / "again" if share > 0.5 else folder / "run") / "model"))
    except InputError as error:
        sentence = str(error)
        return replace(
            row, refused=sentence, finding="more than one line" if "\n" in sentence else "", seconds=_since(begin)
        )
    except CheckFailed as error:
        return replace(row, asked=share, finding=f"check failed: {error}", seconds=_since(begin))
    except Exception as error:  # whatever it is, it is what this table is looking for
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"crash: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return replace(row, asked=share, finding=" ".join(said.split()), seconds=_since(begin))
    return replace(
        row,
        groups=sum(layer["before"] for layer in result["layers"]),
        asked=share,
        reached=result["budget"]["reached"],
        difference=result["equality"]["max_abs_logit_difference"],
        seconds=_since(begin),
        finding=finding,
    )


def judge(result: dict[str, Any], model: torch.nn.Module) -> str:
    """What is wrong with a finished run: a number that is none, or a budget that is exceeded or missed by more than 1 %."""
    budget = result["budget"]
    numbers = (budget["reached"], result["equality"]["max_abs_logit_difference"], result["pruned"]["test_accuracy"])
    if not all(map(math.isfinite, numbers)) or not all(bool(t.isfinite().all()) for t in model.state_dict().values()):
        return "NaN"
    if budget["reached"] > budget["asked"] * (1 + 1e-9):
        return "budget exceeded"
    return "budget missed" if budget["reached"] < 0.99 * budget["asked"] else ""


def three_quarters(start: Start, coupled: bool, path: Path) -> Path:
    """masks.json of a run that took every fourth channel of each layer."""
    flags = start.flags
    model = build(flags["net"], CLASSES, 3, shortcut=flags.get("shortcut"), image_size=start.size)
    groups = channel_groups(model, pictures(2, start.size, seed=1), coupled)
    zero_channels(groups, [(layer.name, k) for layer in groups.layers for k in range(3, layer.channels, 4)])
    write_masks(path, groups)
    return path


def table(rows: Sequence[Row]) -> str:
    """Markdown: what is wrong first, then a row for each cell."""
    wrong = [row for row in rows if row.finding]
    met = sum(not row.finding and not row.refused for row in rows)
    lines = [
        f"{len(rows)} cells: {met} met their budget, {sum(bool(row.refused) for row in rows)} were refused with a sentence, "
        f"{len(wrong)} findings.",
        *(
            ["", *(f"- {row.net}, {row.method}{', coupled' * row.coupled}: {row.finding}" for row in wrong)]
            if wrong
            else []
        ),
        "",
        "| network | pixels | method | groups | number | MACs asked | reached | difference | seconds |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        kind = "coupled" if row.coupled else "paper's"
        said = row.refused or row.finding
        shown = f"{row.asked:g} | {row.reached:.4f} | {row.difference:.1e}" if not said else f"| {said} |"
        number = str(row.groups) if row.groups else ""
        lines.append(f"| {row.net} | {row.size} | {row.method} | {kind} | {number} | {shown} | {row.seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The cells that are asked for and not there yet; the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-net", default=",".join(NETS))
    parser.add_argument("--only-method", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = asked.out / "rows.json"
    rows = [Row(**entry) for entry in json.loads(kept.read_text())] if kept.is_file() else []
    methods = asked.only_method.split(",")
    for net in asked.only_net.split(","):
        cells = [(net, method, False) for method in METHODS if method in methods]
        if net not in WITHOUT_ADDITIONS:
            cells += [(net, method, True) for method in COUPLED if method in methods]
        missing = [cell for cell in cells if cell not in {row.key for row in rows}]
        with tempfile.TemporaryDirectory() as scratch:
            start = prepare(net, Path(scratch)) if missing else None
            for number, cell in enumerate(missing):
                assert start is not None
                folder = Path(scratch) / str(number)
                folder.mkdir()
                rows.append(examine(*cell, start, folder))
                rows.sort(key=lambda row: (NETS.index(row.net), row.coupled, METHODS.index(row.method)))
                write_text(kept, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
                surroundings = environment(
                    command_line("benchmarks.methods_on_every_network"), ("torch", "torchvision")
                )
                keep(asked.out, table(rows), surroundings)
                done = next(row for row in rows if row.key == cell)
                print(table([done]).splitlines()[-1], flush=True)


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 1)


if __name__ == "__main__":
    main()
