"""`perspective verify` and `perspective solve`: a layer and a declaration in; the chain of bounds, or the exact choice, out.

With --json standard output holds one JSON object and nothing else; progress goes to standard error. A folder of layers gives
{"problems": [...]}, one entry a file.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from perspective.errors import CheckFailed, InputError
from perspective.files import write_text
from solvers.answers import chain_json, result_json
from solvers.bounds_plot import plot_bounds, refuse_plot
from solvers.chain import bound_chain
from solvers.declared import Declaration, Declared, declare_problem, read_declaration
from solvers.exact import BACKENDS, STRENGTHENINGS, solve_exact
from solvers.layer_file import read_layer
from solvers.problem_folder import answer_each, problem_files, refuse_failures
from solvers.result import Result
from solvers.tables import SOLVE_COLUMNS, VERIFY_COLUMNS, print_chain, print_folder, print_result
from solvers.toy import STRENGTH, make_toy_layer

COST, PRICE, BOUND = "alpha*s**2", "1-alpha", "M"

File = Annotated[
    Path | None,
    typer.Argument(
        help="An .npz with inputs, targets, groups, or a folder of them; left out: a toy layer of handwritten digits"
    ),
]
Cost = Annotated[str | None, typer.Option(help=f'Cost of one weight, s = |w|; left out: "{COST}" with the box {BOUND}')]
Price = Annotated[str, typer.Option(help="Price of keeping a group")]
Bound = Annotated[str | None, typer.Option(help="Box |w| <= BOUND; leave out, or say none, for none")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A parameter: alpha=0.5 (repeatable)")]
Strength = Annotated[float, typer.Option(help="Multiplies the whole price structure")]
Loss = Annotated[str, typer.Option(help="squared, absolute, logistic, hinge or relu")]
AtMost = Annotated[int | None, typer.Option(help="Keep at most this many groups, besides their price")]
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
    loss: Loss = "squared",
    at_most: AtMost = None,
    seed: Seed = 0,
    groups: Groups = 8,
    gap: Annotated[float, typer.Option(help="Relative gap of the exact solve")] = 1e-6,
    time_limit: TimeLimit = 60.0,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Show and check big-M relaxation <= perspective cone = projected relaxation <= exact optimum on one layer."""
    _refuse_unwritable(out)
    declaration = _declaration(file, cost, price, bound, settings, strength, loss, at_most)
    if file is not None and file.is_dir():

        def answer(path: Path) -> dict[str, Any]:
            declared = _declare(path, declaration, seed, groups)
            with _working(f"verifying the chain of bounds of {path.name}"):
                return chain_json(bound_chain(declared.problem, gap=gap, time_limit=time_limit), declared)

        answers = answer_each(problem_files(file), answer)
        _deliver({"problems": answers}, as_json, out)
        if not as_json:
            print_folder(answers, VERIFY_COLUMNS, "Bounds on the best choice of groups")
        refuse_failures(answers)
        return
    declared = _declare(file, declaration, seed, groups)
    with _working("verifying the chain of bounds"):
        chain = bound_chain(declared.problem, gap=gap, time_limit=time_limit)
    _deliver(chain_json(chain, declared), as_json, out)
    if not as_json:
        print_chain(chain, declared)


def solve(
    file: File = None,
    cost: Cost = None,
    price: Price = PRICE,
    bound: Bound = None,
    settings: Settings = None,
    strength: Strength = STRENGTH,
    loss: Loss = "squared",
    at_most: AtMost = None,
    seed: Seed = 0,
    groups: Groups = 8,
    backend: Annotated[
        str | None, typer.Option(help="branch, highs, scip or enumerate; left out: what suits the loss")
    ] = None,
    strengthen: Annotated[
        str | None, typer.Option(help="Of branch: none, uniform, sdp or blocks; left out: its own choice")
    ] = None,
    gap: Annotated[float, typer.Option(help="Relative gap to prove")] = 1e-4,
    time_limit: TimeLimit = 60.0,
    as_json: AsJson = False,
    out: Out = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the bounds over time: a .png or .svg (one problem)")] = None,
) -> None:
    """Choose the groups to keep exactly, with a certificate of how far from optimal the choice can be."""
    _refuse_unwritable(out)
    if plot is not None:
        refuse_plot(plot)
    declaration = _declaration(file, cost, price, bound, settings, strength, loss, at_most)
    options = {k: v for k, v in (("backend", backend), ("strengthen", strengthen)) if v is not None}

    def solved(declared: Declared, name: str) -> Result:
        with _working(f"solving {name} with {backend or 'the exact solver'}"):
            return solve_exact(declared.problem, gap=gap, time_limit=time_limit, **options)

    for name, value, choices in (("backend", backend, BACKENDS), ("strengthen", strengthen, STRENGTHENINGS)):
        if value not in (None, *choices):
            raise InputError(f"unknown {name} {value!r}; valid ones: {', '.join(choices)}")
    if file is not None and file.is_dir():
        if plot is not None:
            raise InputError("--plot draws one problem; give one .npz file instead of a folder")

        def answer(path: Path) -> dict[str, Any]:
            declared = _declare(path, declaration, seed, groups)
            return result_json(solved(declared, path.name), declared)

        answers = answer_each(problem_files(file), answer)
        _deliver({"problems": answers}, as_json, out)
        if not as_json:
            print_folder(answers, SOLVE_COLUMNS, "The best choice of groups")
        refuse_failures(answers)
        return
    declared = _declare(file, declaration, seed, groups)
    result = solved(declared, "the layer" if file is None else file.name)
    single = result_json(result, declared)
    _deliver(single, as_json, out)
    if plot is not None:
        plot_bounds(result, plot)
    if not as_json:
        print_result(single, declared)
    if not single["certificate_holds"]:
        raise CheckFailed("the certificate of the bound does not hold")


def verify_toy(seed: int) -> dict[str, Any]:
    """The JSON object of `perspective verify --seed SEED`: the chain on a toy layer, checked."""
    declared = _declare(None, Declaration(COST, PRICE, BOUND, (), STRENGTH), seed, 8)
    return chain_json(bound_chain(declared.problem), declared)


def demo_verify(path: Path) -> None:
    """The demo's step: verify the toy layer, show the table on standard error, write the JSON object to `path`."""
    declared = _declare(None, Declaration(COST, PRICE, BOUND, (), STRENGTH), 0, 8)
    with _working("verifying the chain of bounds"):
        chain = bound_chain(declared.problem)
    write_text(path, json.dumps(chain_json(chain, declared), indent=2) + "\n")
    print_chain(chain, declared, stderr=True)


def _declaration(
    file: Path | None,
    cost: str | None,
    price: str,
    bound: str | None,
    settings: list[str] | None,
    strength: float,
    loss: str,
    at_most: int | None,
) -> Declaration:
    box = BOUND if cost is None and bound is None else bound
    declaration = Declaration(cost or COST, price, box, tuple(settings or ()), strength, loss, at_most)
    if file is not None and file.is_dir():
        read_declaration(declaration)  # a wrong flag is one sentence, not one for each file
    return declaration


def _declare(file: Path | None, declaration: Declaration, seed: int, groups: int) -> Declared:
    inputs, targets, labels = make_toy_layer(seed, groups) if file is None else read_layer(file)
    declared = declare_problem(inputs, targets, labels, declaration)
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
