"""Every prunable layer of a trained network, certified: sample, write one problem a layer, solve in processes, tell.

The folder OUT holds config.json, problems/NAME.npz, layers/NAME.json (written when that layer is done), result.json and
report.html. A rerun takes over every layer whose settings, weights and images are the same, and solves the others.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from nets.certification.calibration import prunable_layers, watch_inputs
from nets.certification.layer_rows import layer_rows, reduce_rows, sample_rows
from nets.certification.progress import LayerBars
from nets.certification.report import write_certify_report
from nets.layerwise import BACKENDS, STRENGTHENINGS, Ask, LayerJob, run_jobs, write_problem
from nets.training.run_folder import describe_environment, read_json, write_json
from perspective.errors import CheckFailed, InputError

FORMAT = 1  # of a layer's JSON; part of its identity


@final
@dataclass(frozen=True)
class CertifySettings:
    """ask: the price or count. images, positions: how many training images, and output positions of each. gap, time_limit
    (seconds): of each layer; strengthen, backend: of the exact solver, None for its own choice; layers: names, or () for
    all; processes: layers at a time."""

    ask: Ask
    images: int = 1000
    positions: int = 20
    gap: float = 1e-3
    time_limit: float = 120.0
    strengthen: str | None = None
    backend: str | None = None
    layers: tuple[str, ...] = ()
    processes: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("positions", 1), ("processes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} is {getattr(self, name)}; it must be at least {least}")
        if not 1e-8 <= self.gap < 1:
            raise InputError(f"--gap is {self.gap}; it must be between 1e-8 and 1")
        for name, choices in (("backend", BACKENDS), ("strengthen", STRENGTHENINGS)):
            if getattr(self, name) not in (None, *choices):
                raise InputError(f"unknown --{name} {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not 0 < self.time_limit < float("inf"):
            raise InputError(f"--time-limit is {self.time_limit}; it must be a positive number of seconds")

    @property
    def options(self) -> dict[str, str]:
        """Keyword arguments of the exact solver that were given."""
        given = {"backend": self.backend, "strengthen": self.strengthen}
        return {name: value for name, value in given.items() if value is not None}


def certify(
    model: nn.Module, images: Tensor, settings: CertifySettings, out: Path, description: Mapping[str, Any]
) -> dict[str, Any]:
    """Certify the layers of `model` on `images` (normalised, on the CPU); returns the content of result.json.

    description: what the result repeats (net, data, weights). A layer that fails is an entry with "error"; the others stand.
    InputError for unknown layers and a folder that holds something else.
    """
    begin = time.perf_counter()
    _prepare(out, {"command": "certify", **description, **asdict(settings)})
    names = _choose(prunable_layers(model, images[:2]), settings.layers)
    identities = _identities(model, images, settings, names)
    paths = {name: out / "layers" / f"{name}.json" for name in names}
    finished = {name: found for name in names if (found := _finished(paths[name], identities[name])) is not None}
    todo = [name for name in names if name not in finished]
    outcomes: dict[str, dict[str, Any]] = dict(finished)
    with LayerBars(len(names), len(finished)) as bars:
        if finished:
            bars.say(f"{len(finished)} of {len(names)} layers are finished already: {', '.join(finished)}")
        jobs, refused = _write_jobs(model, images, settings, out, todo, identities)
        outcomes |= refused
        for outcome in run_jobs(jobs, settings.processes, bars.start, lambda o: bars.finish(o.name, _note(o))):
            outcomes[outcome.name] = outcome.content or {"name": outcome.name, "error": outcome.error}
    result = {
        "command": "certify",
        **description,
        "settings": asdict(settings),
        "layers": [outcomes[name] for name in names],
        "seconds": time.perf_counter() - begin,
        "environment": describe_environment(torch.device("cpu")),
    }
    write_json(out / "result.json", result)
    write_certify_report(out)
    return result


def refuse_failures(result: Mapping[str, Any]) -> None:
    """CheckFailed naming the layers that have no certified choice."""
    failed = [layer["name"] for layer in result["layers"] if "error" in layer]
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {len(result['layers'])} layers have no certified choice: {', '.join(failed)}"
        )


def _prepare(out: Path, config: Mapping[str, Any]) -> None:
    """OUT and its two folders; InputError where it holds anything but an earlier certification."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        present = any(out.iterdir())
        if present and not (out / "config.json").is_file():
            raise InputError(f"the output folder {out} is not empty; choose another --out")
        if present and read_json(out / "config.json").get("command") != "certify":
            raise InputError(f"the output folder {out} holds another kind of run; choose another --out")
        for name in ("problems", "layers"):
            (out / name).mkdir(exist_ok=True)
        write_json(out / "config.json", config)
    except OSError as error:
        raise InputError(
            f"the output folder {out} cannot be written ({error.strerror}); choose another --out"
        ) from error


def _choose(prunable: Mapping[str, int], asked: Sequence[str]) -> list[str]:
    if not prunable:
        raise InputError("no layer of this network has input channels of its own (every one is shared by an addition)")
    unknown = [name for name in asked if name not in prunable]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no prunable layer; choose among {', '.join(prunable)}")
    return [name for name in prunable if not asked or name in asked]


def _identities(model: nn.Module, images: Tensor, settings: CertifySettings, names: Sequence[str]) -> dict[str, str]:
    """One digest a layer, over everything its JSON depends on: weights, images, settings; not over how many processes."""
    digest = hashlib.sha256(str(FORMAT).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(np.ascontiguousarray(images.numpy()).tobytes())
    relevant = {key: value for key, value in asdict(settings).items() if key not in ("layers", "processes")}
    digest.update(json.dumps(relevant, sort_keys=True).encode())
    return {name: hashlib.sha256(digest.digest() + name.encode()).hexdigest() for name in names}


def _finished(path: Path, identity: str) -> dict[str, Any] | None:
    """An earlier answer to the same question, or None; a damaged file is none."""
    try:
        content = read_json(path)
    except InputError:
        return None
    return content if content.get("identity") == identity and "status" in content else None


def _write_jobs(
    model: nn.Module,
    images: Tensor,
    settings: CertifySettings,
    out: Path,
    names: Sequence[str],
    identities: Mapping[str, str],
) -> tuple[list[LayerJob], dict[str, dict[str, Any]]]:
    """One pass of the images through the network, sampled on the way; a job for each layer, or why there is none."""
    modules = dict(model.named_modules())
    generators = {name: np.random.default_rng(settings.seed) for name in names}
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for batch in watch_inputs(model, images, names) if names else ():
        for name in names:
            rows[name].append(sample_rows(modules[name], batch[name], settings.positions, generators[name]))
    jobs = []
    refused: dict[str, dict[str, Any]] = {}
    channels = prunable_layers(model, images[:2])
    for name in names:
        try:
            whole = layer_rows(modules[name], np.concatenate(rows.pop(name)), channels[name])
        except InputError as error:
            refused[name] = {"name": name, "error": str(error)}
            continue
        data = reduce_rows(whole)
        write_problem(out / "problems" / f"{name}.npz", data)
        facts = {"identity": identities[name], "samples": data.samples, "features": data.inputs.shape[1]}
        jobs.append(
            LayerJob(
                name,
                out / "problems" / f"{name}.npz",
                out / "layers" / f"{name}.json",
                settings.ask,
                settings.gap,
                settings.time_limit,
                settings.options,
                facts,
            )
        )
    return jobs, refused


def _note(outcome: Any) -> str:
    if outcome.content is None:
        return f"failed: {outcome.error}"
    content = outcome.content
    return f"{content['kept']} of {content['channels']} channels, gap {100 * content['gap']:.2g} %, {content['seconds']:.1f} s"
