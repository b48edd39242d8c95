"""How fast is our exact group selection, against other exact solvers on the same program?

python -m benchmarks.exact_solvers [--sizes 1,4,9] [--groups 8,16,32,64] [--levels easy,hard] [--seeds 0,1,2]
    [--solvers branch,scip,gurobi,el0ps,l0bnb,highs] [--rounds 3] [--time-limit 60] [--peers-python PATH] [--out FOLDER]

In every round of a cell the solvers run one after the other, one thread each; a solver that needs more than SLOW seconds
runs once. Ours is timed from the call to the answer, certificate included; peers by their search alone, model written and
code compiled. Every answer is valued by the problem, once as it is and once refitted on its groups, the better counts.
A run already in FOLDER/runs.jsonl is not repeated. El0ps and l0bnb know groups of one only; Gurobi's free licence few groups.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from benchmarks.environment import command_line, environment, keep
from benchmarks.exact_entrants import Solve, solve_here, solve_in_peer, solve_in_scip, value_answer
from benchmarks.exact_records import OURS, Record, read_records, table, write_records
from benchmarks.peer_process import Peer, write_instance
from benchmarks.solver_instances import RIDGES, Cell, make_instance
from perspective.errors import InputError

SLOW = 10.0
PEERS = ("gurobi", "el0ps", "l0bnb")
GROUPS_OF_ONE = ("el0ps", "l0bnb")
SOLVERS = (OURS, "scip", *PEERS, "highs")


def measure_cell(cell: Cell, solvers: dict[str, Solve], records: list[Record], options: argparse.Namespace) -> None:
    """All rounds of one cell, kept after every run."""
    done, path = {r.key for r in records}, options.out / "runs.jsonl"
    asked = [name for name in solvers if cell.size == 1 or name not in GROUPS_OF_ONE]
    wanted = [(k, name) for k in range(options.rounds) for name in asked if (cell, name, k) not in done]
    if not wanted:
        return
    problem = make_instance(cell)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "instance.npz"
        write_instance(problem, data)
        for k, name in wanted:
            if any(r.seconds > SLOW or _refused(r) for r in records if (r.cell, r.solver) == (cell, name)):
                continue
            found = solvers[name](problem, data, options.gap, options.time_limit)
            weights = found.pop("weights")
            objective = value_answer(problem, weights)
            records.append(
                Record(
                    **vars(cell),
                    solver=name,
                    round=k,
                    gap=options.gap,
                    time_limit=options.time_limit,
                    objective=objective,
                    **found,
                )
            )
            write_records(path, records)
            print(f"{cell} round {k} {name}: {found['status']} {found['seconds']:.3f} s, {objective}", file=sys.stderr)


def main() -> None:
    """Parse, warm up, measure what is missing, print the table, keep it."""
    options = _parse()
    options.out.mkdir(parents=True, exist_ok=True)
    records = read_records(options.out / "runs.jsonl")
    if any((r.gap, r.time_limit) != (options.gap, options.time_limit) for r in records):
        raise InputError(f"{options.out} holds runs with another gap or time limit; choose another --out")
    peers = [Peer(name, options.peers_python) for name in PEERS if name in options.solvers]
    solvers: dict[str, Solve] = {}
    for name in options.solvers:
        if name in (OURS, "highs"):
            solvers[name] = solve_here(name, options.strengthen if name == OURS else None)
        elif name == "scip":
            solvers[name] = solve_in_scip
    for peer in peers:
        if peer.absent:
            print(f"{peer.name} takes no part: {peer.absent}; see --peers-python", file=sys.stderr)
        else:
            solvers[peer.name] = solve_in_peer(peer)
    solvers = {name: solvers[name] for name in options.solvers if name in solvers}
    try:
        _warm_up([solvers[name] for name in solvers if name not in PEERS])
        for p, size, level, seed in product(options.groups, options.sizes, options.levels, options.seeds):
            measure_cell(Cell(size, p, level, seed), solvers, records, options)
    finally:
        for peer in peers:
            peer.close()
    text = table(records)
    print(text)
    packages = ("numpy", "scipy", "numba", "highspy")
    keep(options.out, text, environment(command_line("benchmarks.exact_solvers"), packages))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact_solvers", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=_numbers, default=(1, 4, 9))
    parser.add_argument("--groups", type=_numbers, default=(8, 16, 32, 64))
    parser.add_argument("--levels", type=_one_of(tuple(RIDGES)), default=tuple(RIDGES))
    parser.add_argument("--seeds", type=_numbers, default=(0, 1, 2))
    parser.add_argument("--solvers", type=_one_of(SOLVERS), default=SOLVERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gap", type=float, default=1e-4)
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for every solver")
    parser.add_argument("--strengthen", help="passed to our branch and bound")
    parser.add_argument("--peers-python", default=sys.executable, help="the Python that has gurobipy, el0ps, l0bnb")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / f"{today}_exact_solvers")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _one_of(valid: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in valid]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; valid: {', '.join(valid)}")
        return names

    return parse


def _refused(record: Record) -> bool:
    return record.objective is None


def _warm_up(solvers: Sequence[Solve]) -> None:
    """Compiled kernels and lazy imports, untimed; several group sizes, because kernels may be compiled for each."""
    for size in (1, 4):
        for solve in solvers:
            solve(make_instance(Cell(size, 8, "easy", 99)), Path(), 1e-4, 20.0)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
