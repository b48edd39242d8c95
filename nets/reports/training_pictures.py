"""Pictures of one run: accuracy and loss by epoch, channels that survive, channels kept, accuracy against size."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from perspective.drawing import BLUE, GREEN, INK, ORANGE, PALE, Picture, drawing

PHASES = {"dense": "ordinary", "regularise": "with penalty", "finetune": "fine-tuning"}


def accuracy_picture(lines: Sequence[Mapping[str, Any]]) -> Picture:
    """Training and validation accuracy by epoch."""
    with drawing(
        "Accuracy while training",
        "Share of right answers after each epoch, on the pictures it learns from and on pictures set aside to watch it. "
        "The test pictures play no part here.",
        "Training and validation accuracy in per cent by epoch",
    ) as picture:
        ax = picture.axes
        _curve(ax, lines, "train_accuracy", PALE, "training")
        _curve(ax, lines, "validation_accuracy", BLUE, "validation")
        _finish(ax, lines, "accuracy (%)")
    return picture


def loss_picture(lines: Sequence[Mapping[str, Any]]) -> Picture:
    """Training loss and weighted penalty by epoch."""
    with drawing(
        "Loss while training",
        "How wrong the network is on what it learns from (cross-entropy), and the penalty on its channels before it "
        "is multiplied by its strength.",
        "Training loss and penalty by epoch",
    ) as picture:
        ax = picture.axes
        _curve(ax, lines, "train_loss", ORANGE, "loss")
        _curve(ax, lines, "penalty", GREEN, "penalty (mean over channels)")
        _finish(ax, lines, "loss, penalty")
        ax.set_ylim(bottom=0)
    return picture


def surviving_picture(lines: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Heat map: share of each layer's channels that are not zero, by epoch; None where none died or nothing is known."""
    rows = [line for line in lines if line.get("surviving")]
    if not rows:
        return None
    layers = list(dict.fromkeys(name for line in rows for name in line["surviving"]))
    full: dict[str, int] = {}
    for line in rows:
        for name, count in {**line["surviving"], **line.get("channels", {})}.items():
            full[name] = max(full.get(name, 0), int(count))
    share = [[100 * line["surviving"].get(name, 0) / max(full[name], 1) for line in rows] for name in layers]
    if min(min(row) for row in share) == 100:
        return None  # nothing died: a picture of one colour
    with drawing(
        "Channels that survive",
        "One row a layer, from the input at the top to the output at the bottom; one column an epoch. "
        "Dark: all channels at work; pale: channels that have become exactly zero.",
        "Heat map of the share of surviving channels per layer and epoch",
        height=_tall(layers),
    ) as picture:
        ax = picture.axes
        extent = (0.5, len(rows) + 0.5, len(layers) - 0.5, -0.5)
        image = ax.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=100, interpolation="nearest", extent=extent)
        image.axes.figure.colorbar(image, ax=ax, label="surviving (%)", shrink=0.8)
        ax.grid(visible=False)
        _phase_marks(ax, rows, names=False)
        _layer_names(ax, layers)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def layers_picture(layers: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Bars: channels of each layer before and after; None without layers."""
    if not layers:
        return None
    names = [str(layer["name"]) for layer in layers]
    before, after = ([int(layer[key]) for layer in layers] for key in ("before", "after"))
    with drawing(
        "Channels kept, layer by layer",
        "The whole bar is the layer as it was, the dark part what is left of it. "
        "A layer without a dark part has been taken out altogether.",
        f"Channels per layer before and after: {sum(after)} of {sum(before)} in all",
        height=_tall(names),
    ) as picture:
        ax = picture.axes
        rows = np.arange(len(names))
        ax.barh(rows, before, color="#DCE6EE", height=0.72, label="before")
        ax.barh(rows, after, color=BLUE, height=0.72, label="kept")
        if len(names) <= 60:
            for row, (old, new) in enumerate(zip(before, after, strict=True)):
                place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
                ax.annotate(f"{new} of {old}", (old, row), **place, fontsize=8.5, color=INK)
        _layer_names(ax, names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1.22 * max([*before, 1]))
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("output channels")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return picture


def size_picture(result: Mapping[str, Any], key: str, unit: str) -> Picture:
    """Test accuracy against MACs or parameters (millions): the dense network and the pruned one."""
    dense, pruned = result["dense"], result["pruned"]
    x, y = [dense[key] / 1e6, pruned[key] / 1e6], [dense["test_accuracy"], pruned["test_accuracy"]]
    with drawing(
        f"Accuracy against {unit}",
        "Further left is smaller, higher is better. Test pictures, which no choice in this run ever saw.",
        f"Test accuracy against {unit}: dense {y[0]:.2f} % at {x[0]:.3g} million, pruned {y[1]:.2f} % at {x[1]:.3g} million",
    ) as picture:
        ax = picture.axes
        same = pruned[key] == dense[key]
        if not same:
            arrow = {"arrowstyle": "-|>", "color": PALE, "shrinkA": 7, "shrinkB": 7, "lw": 1.3}
            ax.annotate("", (x[1], y[1]), (x[0], y[0]), arrowprops=arrow)
        for k, (name, color) in enumerate((("dense", INK), ("pruned", BLUE))):
            if k and same:
                continue
            ax.plot([x[k]], [y[k]], "o", color=color, ms=10)
            label = f"{name}\n{y[k]:.2f} %, {x[k]:.3g} M"
            right = x[k] > 0.6 * x[0]
            up = k == 0 or y[1] > y[0]  # clear of the arrow
            offset = {"xytext": (-9 if right else 9, 9 if up else -30), "textcoords": "offset points"}
            ax.annotate(label, (x[k], y[k]), **offset, ha="right" if right else "left", color=color, fontsize=9.5)
        ax.set_xlim(0, 1.1 * x[0])
        low, high = min(y), max(y)
        pad = max(1.0, high - low)
        ax.set_ylim(max(0, low - 1.2 * pad), min(100 + 0.6 * pad, high + 1.5 * pad))
        ax.set_yticks([tick for tick in ax.get_yticks() if ax.get_ylim()[0] <= tick <= min(100, ax.get_ylim()[1])])
        ax.set_xlabel(f"{unit} (millions)")
        ax.set_ylabel("test accuracy (%)")
    return picture


def _curve(ax: Axes, lines: Sequence[Mapping[str, Any]], key: str, color: str, label: str) -> None:
    """One line per phase; values that are missing leave a gap, a penalty of zero (outside its phase) is not drawn."""
    values = np.array([_number(line.get(key)) for line in lines])
    if key == "penalty":
        values[values == 0] = math.nan
    begins = _begins(lines)
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        if np.isfinite(values[begin:end]).any():
            marker = "o" if end - begin < 3 else None
            ax.plot(range(begin + 1, end + 1), values[begin:end], color=color, label=label, marker=marker, ms=4)
            label = "_"  # one entry in the legend


def _finish(ax: Axes, lines: Sequence[Mapping[str, Any]], label: str) -> None:
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    ax.set_xlim(0.5, len(lines) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _phase_marks(ax, lines, names=True)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="best")


def _phase_marks(ax: Axes, lines: Sequence[Mapping[str, Any]], names: bool) -> None:
    """A thin line where a phase begins, its name above the axes."""
    begins = _begins(lines)
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        if begin:
            ax.axvline(begin + 0.5, color=INK, lw=0.9, ls=(0, (2, 2)))
        phase = str(lines[begin].get("phase", ""))
        if names and end - begin > 0.08 * len(lines):
            middle = (begin + end + 1) / 2
            where = ax.get_xaxis_transform()
            ax.text(middle, 1.02, PHASES.get(phase, phase), transform=where, ha="center", color=INK, fontsize=9.5)


def _begins(lines: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where a new phase begins."""
    return [k for k, line in enumerate(lines) if k == 0 or line.get("phase") != lines[k - 1].get("phase")]


def _layer_names(ax: Axes, names: Sequence[str]) -> None:
    every = 1 if len(names) <= 60 else 4
    ax.set_yticks(range(0, len(names), every), list(names)[::every], fontsize=8)


def _tall(names: Sequence[str]) -> float:
    return 1.2 + 0.2 * min(len(names), 60)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
