"""What does the prox cost, beside copying the same bytes, torch's own optimizer step, and a training step without it?

python -m benchmarks.prox [--device cuda] [--rounds 15] [--largest 1e8] [--peer] [--only prox|step|train|scaling] [--out FOLDER]

Everything in one line of a table is timed interleaved, one after the other in every round; a ratio is the median over
rounds of the ratio within a round. Networks are torchvision's ResNet-50 (its 53 convolutions with their BN pairs, 26,560
groups) and this project's ResNet-20, both with random weights; SPR, M half the largest weight of each layer. On a GPU
every work is captured in a CUDA graph (an eager call, marked so, also waits for Python), and times are the device's.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import clock
from benchmarks.environment import command_line, environment, keep
from benchmarks.prox_device import Work, captured, kernels, machine, seconds_of
from benchmarks.prox_peer import peer_prox, peer_step
from benchmarks.prox_scaling import measure_scaling, scaling_tables
from nets.groups import ChannelGroups, channel_groups
from nets.optimizer import Proximal
from nets.prox import prox_rows, prox_step
from nets.resnet import resnet20
from perspective import derive
from perspective.catalogue.spr import spr

SPR = derive(spr())
ALPHA, RATE, SAMPLE = 0.3, 0.1, 2
PEER = "torchao.prototype.pat, group lasso"


@dataclass(frozen=True)
class Subject:
    """A network, its groups, and what the prox needs."""

    name: str
    model: nn.Module
    images: torch.Tensor
    groups: ChannelGroups
    regularisers: dict[str, Any]

    @property
    def steps(self) -> dict[str, float]:
        """tau of lambda 1: lr n_g / N."""
        return {layer.name: RATE * layer.n / self.groups.total for layer in self.groups.layers}


def resnet(name: str, device: torch.device, batch: int = 128) -> Subject:
    """ResNet-50, or ResNet-20 with a batch of images of 32 x 32."""
    torch.manual_seed(0)
    if name == "ResNet-50":
        from torchvision.models import resnet50

        model, images = resnet50(), torch.zeros(1, 3, 64, 64)
    else:
        model, images = resnet20(), torch.randn(batch, 3, 32, 32)
    groups = channel_groups(model, images[:1])
    model.to(device)
    largest = {layer.name: max(float(p.detach().abs().max()) for p in layer.parameters) for layer in groups.layers}
    boxes = {name: SPR.bind(alpha=ALPHA, M=0.5 * size) for name, size in largest.items()}
    return Subject(name, model, images.to(device), groups, boxes)


def interleave(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, np.ndarray]:
    """Seconds of every round, after one untimed call of each."""
    for work in works.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work, device))
    return {name: np.array(times) for name, times in seconds.items()}


def rows(seconds: dict[str, np.ndarray], base: str, note: dict[str, str] | None = None) -> list[str]:
    """Table rows: milliseconds and ratio to `base`, median (smallest - largest)."""
    found = []
    for name, times in seconds.items():
        ratio = times / seconds[base]
        found.append(f"| {name} | {_spread(times * 1e3, 2)} | {_spread(ratio, 3)} | {(note or {}).get(name, '')} |")
    return found


HEAD = ("| | ms | of the first row | goal |", "|---|---|---|---|")


def prox_table(rounds: int, peer: bool, device: torch.device) -> list[str]:
    """The prox of ResNet-50's groups beside the copy of as many bytes."""
    lines = []
    for subject in (resnet("ResNet-50", device), resnet("ResNet-20", device)):
        groups, source = subject.groups, torch.randn(subject.groups.total, device=device)
        target = torch.empty_like(source)

        def fused(subject: Subject = subject) -> None:
            prox_step(subject.groups, subject.steps, subject.regularisers, "fused")

        works: dict[str, Work] = {"copy": captured(lambda s=source, t=target: t.copy_(s), device)}
        works["fused"] = captured(fused, device)
        if device.type == "cuda":
            works["fused, eager"] = fused
        if peer:
            works[PEER] = peer_prox(subject.model, RATE)
        seconds = interleave(works, rounds, device)
        notes = {
            "fused": "<= 1.3 (ResNet-50)" if device.type == "cuda" else "<= 8 (ResNet-50)",
            "flat": "interleaved by itself",
        }
        if subject.name != "ResNet-50" or device.type == "cuda":  # some 200 tensor operations: seconds on one core
            flat: Work = lambda s=subject: prox_step(s.groups, s.steps, s.regularisers, "flat")  # noqa: E731
            seconds |= interleave({"flat": flat}, rounds, device)
        if device.type == "cpu":
            seconds["loop"] = np.full(rounds, loop_seconds(subject))
            notes["loop"] = f"timed once, {SAMPLE} groups of each layer, scaled up"
        lines += [f"\n### Prox of {subject.name}: {groups.total:,} numbers, {_channels(groups):,} groups\n", *HEAD]
        lines += rows(seconds, "copy", notes)
        launched = kernels(fused, device)
        if launched:
            lines.append(
                f"\nfused, eager: {len(launched)} launches, {sum(t for _, t in launched):.1f} us on the device (goal for "
            )
            lines[-1] += "ResNet-20: 1 launch, 10 us): " + ", ".join(f"{name} {t:.1f}" for name, t in launched)
        if peer:
            ratio = seconds[PEER] / seconds["fused"]
            lines.append(
                f"\ntorchao's step / fused: {_spread(ratio, 2)} (goal >= {30 if device.type == 'cuda' else 10})"
            )
    return lines


def loop_seconds(subject: Subject) -> float:
    """The float64 loop over SAMPLE groups of each layer, scaled to all."""
    total = 0.0
    for layer in subject.groups.layers:
        few = subject.groups.rows(layer)[:SAMPLE]
        start = clock.seconds()
        prox_rows(few, subject.steps[layer.name], subject.regularisers[layer.name], "loop")
        total += (clock.seconds() - start) * layer.channels / len(few)
    return total


def step_table(rounds: int, peer: bool, device: torch.device) -> list[str]:
    """Whole optimizer steps of ResNet-50: the proximal ones beside torch's own without any prox."""
    lines = []
    for kind, options in (("SGD", {"momentum": 0.9, "weight_decay": 1e-4}), ("AdamW", {"weight_decay": 1e-2})):
        for rate in (1e-9, 1e-2):  # at the first the weights stay what they are, at the second they move
            works: dict[str, Work] = {}
            for name in ("fused, no prox", "foreach, no prox", "fused_step", "fused"):
                given = {**options, "lr": rate}
                if kind == "AdamW" and device.type == "cuda":
                    given["capturable"] = True
                works[name] = captured(_stepper(resnet("ResNet-50", device), kind, name, given), device)
            if peer and kind == "SGD":
                subject = _with_gradients(resnet("ResNet-50", device))
                works[PEER] = peer_step(subject.model, rate, **options)
            seconds = interleave(works, rounds, device)
            lines += [f"\n### {kind} step of ResNet-50, lr {rate:g}, torch {kind}(fused=True) first\n", *HEAD]
            lines += rows(seconds, "fused, no prox", {"fused_step": "<= 1.10" if device.type == "cuda" else "<= 2"})
    return lines


def _stepper(subject: Subject, kind: str, name: str, options: dict[str, Any]) -> Callable[[], Any]:
    _with_gradients(subject)
    mode = {"fused, no prox": {"fused": True}, "foreach, no prox": {"foreach": True}}.get(name, {"fused": True})
    mode = {} if name == "fused_step" else mode
    inner = getattr(torch.optim, kind)(subject.model.parameters(), **options, **mode)
    if name.endswith("no prox"):
        return inner.step
    return Proximal(inner, subject.groups, subject.regularisers, 1.0, implementation=name).step


def _with_gradients(subject: Subject) -> Subject:
    generator = torch.Generator().manual_seed(1)
    for parameter in subject.model.parameters():
        parameter.grad = (1e-3 * torch.randn(parameter.shape, generator=generator)).to(parameter.device)
    return subject


def train_table(rounds: int, device: torch.device, batch: int = 128) -> list[str]:
    """Whole training steps (forward, backward, optimizer): ResNet-20 at 32 x 32, on a GPU ResNet-50 at 224 x 224 too."""
    lines = []
    for name in ("ResNet-20", "ResNet-50") if device.type == "cuda" else ("ResNet-20",):
        works: dict[str, Work] = {}
        for kind in ("foreach, no prox", "fused_step", "fused", "flat"):
            if kind != "flat" or device.type == "cpu":  # flat looks at the device, so it cannot be captured
                works[kind] = captured(_trainer(resnet(name, device, batch), kind), device)
        seconds = interleave(works, 3 * rounds, device)
        notes = {kind: "<= 1.03" for kind in ("fused_step", "fused")}
        lines += [
            f"\n### Training step of {name}, batch {batch if name == 'ResNet-20' else 64} (forward, backward, SGD)\n",
            *HEAD,
        ]
        lines += rows(seconds, "foreach, no prox", notes)
    return lines


def _trainer(subject: Subject, kind: str) -> Work:
    images = subject.images
    if subject.name == "ResNet-50":
        images = torch.randn(64, 3, 224, 224, device=images.device)
    labels = torch.arange(len(images), device=images.device) % 10
    mode = {} if kind == "fused_step" else {"foreach": True}
    inner = torch.optim.SGD(subject.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **mode)
    optimizer: Any = inner
    if kind != "foreach, no prox":
        optimizer = Proximal(inner, subject.groups, subject.regularisers, 0.5, implementation=kind)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(subject.model(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Parse, measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prox", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--largest", type=float, default=1e8, help="numbers in the largest case of the scaling")
    parser.add_argument("--peer", action="store_true", help="also torchao (pip install torchao)")
    parser.add_argument("--only", choices=("prox", "step", "train", "scaling"))
    parser.add_argument("--out", type=Path, help="folder for table.md, environment.md and scaling.svg")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda, but torch sees no GPU; leave it out to measure the CPU")
    device = torch.device(options.device)
    parts = {
        "prox": lambda: prox_table(options.rounds, options.peer, device),
        "step": lambda: step_table(options.rounds, options.peer, device),
        "train": lambda: train_table(options.rounds, device),
        "scaling": lambda: scaling_tables(measure_scaling(options.largest, options.rounds, device), options.out),
    }
    lines = [f"Medians of {options.rounds} interleaved rounds (smallest - largest); {machine(device)}."]
    for name, part in parts.items():
        if options.only in (None, name):
            lines += (found := part())
            print("\n".join(found), flush=True)
    text = "\n".join(lines)
    if options.out is not None:
        keep(
            options.out, text, environment(command_line("benchmarks.prox"), ("torch", "numba", "numpy", "torchvision"))
        )


def _channels(groups: ChannelGroups) -> int:
    return sum(layer.channels for layer in groups.layers)


def _spread(values: np.ndarray, digits: int) -> str:
    low, middle, high = (f"{x:.{digits}f}" for x in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low} - {high})"


if __name__ == "__main__":
    main()
