"""`perspective verify` and `perspective solve`: a layer and a declaration in; the chain of bounds, or the exact choice, out.

With --json standard output holds one JSON object and nothing else; progress goes to standard error.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from perspective.errors import CheckFailed, InputError
from perspective.files import write_text
from solvers.chain import BoundChain, bound_chain
from solvers.declared import Declaration, Declared, declare_problem
from solvers.exact import solve_exact
from solvers.layer_file import read_layer
from solvers.result import Result, Status
from solvers.toy import STRENGTH, make_toy_layer

COST, PRICE, BOUND = "alpha*s**2", "1-alpha", "M"

File = Annotated[
    Path | None,
    typer.Argument(help="An .npz with inputs, targets, groups; left out: a toy layer of handwritten digits"),
]
Cost = Annotated[str | None, typer.Option(help=f'Cost of one weight, s = |w|; left out: "{COST}" with the box {BOUND}')]
Price = Annotated[str, typer.Option(help="Price of keeping a group")]
Bound = Annotated[str | None, typer.Option(help="Box |w| <= BOUND; leave out, or say none, for none")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A parameter: alpha=0.5 (repeatable)")]
Strength = Annotated[float, typer.Option(help="Multiplies the whole price structure")]
Seed = Annotated[int, typer.Option(help="Of the toy layer: which images and digits")]
Groups = Annotated[int, typer.Option(help="Of the toy layer: number of pixel groups")]
TimeLimit = Annotated[float, typer.Option(help="Seconds for the exact program")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output")]
Out = Annotated[Path | None, typer.Option(help="Write that JSON object to this file too")]


def verify(
    file: File = None,
    cost: Cost = None,
    price: Price = PRICE,
    bound: Bound = None,
    settings: Settings = None,
    strength: Strength = STRENGTH,
    seed: Seed = 0,
    groups: Groups = 8,
    gap: Annotated[float, typer.Option(help="Relative gap of the exact solve")] = 1e-6,
    time_limit: TimeLimit = 60.0,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Show and check big-M relaxation <= perspective cone = projected relaxation <= exact optimum on one layer."""
    _refuse_unwritable(out)
    declared = _declared(file, cost, price, bound, settings or (), strength, seed, groups)
    with _working("verifying the chain of bounds"):
        chain = bound_chain(declared.problem, gap=gap, time_limit=time_limit)
    _deliver(chain_json(chain, declared), as_json, out)
    if not as_json:
        _print_chain(chain, declared)


def solve(
    file: File = None,
    cost: Cost = None,
    price: Price = PRICE,
    bound: Bound = None,
    settings: Settings = None,
    strength: Strength = STRENGTH,
    seed: Seed = 0,
    groups: Groups = 8,
    backend: Annotated[str, typer.Option(help="branch, highs or enumerate")] = "branch",
    gap: Annotated[float, typer.Option(help="Relative gap to prove")] = 1e-4,
    time_limit: TimeLimit = 60.0,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Choose the groups to keep exactly, with a certificate of how far from optimal the choice can be."""
    _refuse_unwritable(out)
    declared = _declared(file, cost, price, bound, settings or (), strength, seed, groups)
    with _working(f"solving with {backend}"):
        result = solve_exact(declared.problem, gap=gap, time_limit=time_limit, backend=backend)
    answer = result_json(result, declared)
    _deliver(answer, as_json, out)
    if not as_json:
        _print_result(answer, declared)
    if not answer["certificate_holds"]:
        raise CheckFailed("the certificate of the bound does not hold")


def verify_toy(seed: int) -> dict[str, Any]:
    """The JSON object of `perspective verify --seed SEED`: the chain on a toy layer, checked."""
    declared = _declared(None, None, PRICE, None, (), STRENGTH, seed, 8)
    return chain_json(bound_chain(declared.problem), declared)


def demo_verify(path: Path) -> None:
    """The demo's step: verify the toy layer, show the table on standard error, write the JSON object to `path`."""
    declared = _declared(None, None, PRICE, None, (), STRENGTH, 0, 8)
    with _working("verifying the chain of bounds"):
        chain = bound_chain(declared.problem)
    write_text(path, json.dumps(chain_json(chain, declared), indent=2) + "\n")
    _print_chain(chain, declared, stderr=True)


def chain_json(chain: BoundChain, declared: Declared) -> dict[str, Any]:
    """The published JSON object of a chain; `bound_chain` has checked its certificate."""
    return {
        "big_m": chain.big_m,
        "cone": chain.cone,
        "projected": chain.projected,
        "exact": chain.exact,
        "lower_bound": chain.lower_bound,
        "gap_closed": chain.gap_closed,
        "status": str(chain.status),
        "indicators": list(chain.indicators),
        "seconds": chain.seconds,
        "certificate_holds": True,
        "parameters": dict(declared.parameters),
    }


def result_json(result: Result, declared: Declared) -> dict[str, Any]:
    """The published JSON object of an exact solve; CheckFailed where the solver gave no point."""
    if result.indicators is None or result.certificate is None:
        raise CheckFailed(f"{result.backend} gave no answer: {result.status}")
    try:
        result.certificate.check(declared.problem)
        holds = True
    except CheckFailed as error:
        print(f"perspective: {error}", file=sys.stderr)
        holds = False
    return {
        "status": str(result.status),
        "objective": result.objective,
        "lower_bound": result.lower_bound,
        "gap": result.gap,
        "indicators": [int(y) for y in result.indicators],
        "seconds": result.seconds,
        "nodes": result.nodes,
        "backend": result.backend,
        "certificate_holds": holds,
        "parameters": dict(declared.parameters),
    }


def _declared(
    file: Path | None,
    cost: str | None,
    price: str,
    bound: str | None,
    settings: Sequence[str],
    strength: float,
    seed: int,
    groups: int,
) -> Declared:
    inputs, targets, labels = make_toy_layer(seed, groups) if file is None else read_layer(file)
    box = BOUND if cost is None and bound is None else bound
    declared = declare_problem(inputs, targets, labels, Declaration(cost or COST, price, box, settings, strength))
    if file is not None and declared.chosen:  # the toy layer's numbers are part of the toy
        values = ", ".join(f"{name} = {declared.parameters[name]:.6g}" for name in declared.chosen)
        print(f"perspective: chosen here: {values}; use --set NAME=NUMBER to choose otherwise", file=sys.stderr)
    return declared


def _refuse_unwritable(out: Path | None) -> None:
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise InputError(f"cannot write {out}: its folder does not exist, or it is one; choose another --out")


@contextmanager
def _working(what: str) -> Iterator[None]:
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _deliver(answer: dict[str, Any], as_json: bool, out: Path | None) -> None:
    text = json.dumps(answer, allow_nan=False)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)


def _print_chain(chain: BoundChain, declared: Declared, stderr: bool = False) -> None:
    from rich.table import Table

    table = Table(title="Bounds on the best choice of groups", caption=_caption(declared))
    table.add_column("program")
    table.add_column("value", justify="right")
    table.add_column("below the best point", justify="right")
    rows = (
        ("big-M relaxation", chain.big_m),
        ("perspective cone (Clarabel)", chain.cone),
        ("projected regulariser (own method)", chain.projected),
        ("proved by the certificate", chain.lower_bound),
        ("best point" if chain.status is not Status.OPTIMAL else "exact optimum (HiGHS)", chain.exact),
    )
    for name, value in rows:
        below = (chain.exact - value) / max(1e-12, abs(chain.exact))
        table.add_row(name, f"{value:.8g}", f"{100 * max(below, 0.0):.3f} %")
    kept = f"keeps {sum(chain.indicators)} of {len(chain.indicators)} groups: {_numbers(chain.indicators)}"
    share = f"{100 * chain.gap_closed:.1f} % of the root gap closed by the perspective"
    _console(stderr).print(table)
    _console(stderr).print(f"{share}; status {chain.status}; {kept}; {chain.seconds:.1f} s", highlight=False)


def _print_result(answer: dict[str, Any], declared: Declared) -> None:
    from rich.table import Table

    table = Table(title="The best choice of groups", caption=_caption(declared), show_header=False)
    for name in ("status", "objective", "lower_bound", "gap", "nodes", "backend", "seconds", "certificate_holds"):
        value = answer[name]
        table.add_row(name.replace("_", " "), f"{value:.8g}" if isinstance(value, float) else str(value))
    table.add_row("groups kept", _numbers(answer["indicators"]))
    _console(False).print(table)


def _numbers(indicators: Sequence[int]) -> str:
    return " ".join(str(j) for j, kept in enumerate(indicators) if kept) or "none"


def _caption(declared: Declared) -> str:
    problem = declared.problem
    size = f"{len(problem.X)} samples, {problem.X.shape[1]} inputs in {problem.n_groups} groups"
    size += f", {problem.targets2d.shape[1]} output(s), strength {problem.strength:g}"
    values = ", ".join(
        f"{name} = {value:.4g}{' (chosen here)' if name in declared.chosen else ''}"
        for name, value in declared.parameters.items()
    )
    return size + ("\n" + values if values else "")


def _console(stderr: bool) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)
