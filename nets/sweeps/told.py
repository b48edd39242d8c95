"""What a reader of a comparison's table must know of its protocol, in sentences."""

from collections.abc import Mapping

from nets.sweeps.own_flags import describe_own
from nets.sweeps.protocol import Protocol, after_removal, filled, kind_of


def describe_protocol(protocol: Protocol) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    e, f = protocol.epochs, protocol.finetune_epochs
    at_once = [method for method in protocol.methods if not kind_of(method).regularises]
    phases = f"{e} under its penalty and {f} after removal"
    phases += "".join(
        f"; {method}: {' and '.join(map(str, protocol.split(method)))}"
        for method, flags in protocol.own.items()
        if "epochs" in flags
    )
    if at_once:
        phases += f"; {', '.join(at_once)}: all {protocol.total} after removal, for want of such a phase"
    if protocol.weights is None:
        dense = f"One dense network for each seed, trained {protocol.dense_epochs} epochs; all methods prune that one."
    else:
        dense = (
            f"The dense network is {protocol.weights.name}, the same for every seed: seeds differ in the order of the images, "
            "their augmentation and what a method draws, not in the network. If it has been trained on images of the validation "
            "split, validation flatters what keeps more of it."
        )
    flags = ", ".join(f"{name} {value}" for name, value in protocol.shared.items() if name != "data_dir")
    return [
        f"Every method trains {protocol.total} epochs after the dense network: {phases}.",
        dense,
        "The validation split is the same in every cell, and no choice looks at the test split: it is measured once, after the "
        "last epoch.",
        f"Flags of every cell: {flags}.",
        describe_rates(protocol),
        describe_shares(protocol),
        *describe_own(protocol.own),
    ]


def describe_rates(protocol: Protocol) -> str:
    """Which optimizer and first rate each method trains with."""
    told = {}
    for method in protocol.methods:
        run = filled(protocol, method, {**after_removal(protocol, method), **protocol.own.get(method, {})})
        after = f"{run.optimizer_of('finetune')} from {run.lr_after_removal:g}"
        if not kind_of(method).regularises:
            told[method] = f"{after} in one schedule"
            continue
        before = f"{run.optimizer_of('regularise')} from {run.lr:g}"
        if run.continues:
            told[method] = f"{before}, {run.optimizer_of('finetune')} after removal, in one schedule"
        else:
            told[method] = f"{before}, then {after} in a schedule of its own"
    return "Learning rates: " + _methods_alike(told)


def describe_shares(protocol: Protocol) -> str:
    """How a budget is shared out among the layers."""
    told = {}
    for method in protocol.methods:
        asked = {**protocol.shared, **protocol.own.get(method, {})}.get("allocation")
        told[method] = "its own choice" if kind_of(method).calibrates else str(asked or kind_of(method).allocation)
    return "Shares of the layers (--allocation): " + _methods_alike(told)


def _methods_alike(told: Mapping[str, str]) -> str:
    """ "spr, greg2: words; magnitude: other words." """
    alike: dict[str, list[str]] = {}
    for method, words in told.items():
        alike.setdefault(words, []).append(method)
    return "; ".join(f"{', '.join(methods)}: {words}" for words, methods in alike.items()) + "."
