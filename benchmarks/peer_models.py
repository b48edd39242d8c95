"""The other solvers, each with the same program; a process of its own, so that their pins need not agree with ours.

    python peer_models.py gurobi|el0ps|l0bnb

Imports numpy and one peer, nothing of this repository. Reads one JSON object a line on standard input, {"data": FILE.npz,
"gap": g, "time_limit": t}, and answers one a line: {"status", "weights", "lower_bound", "seconds", "nodes"}. FILE.npz holds
X (n, d), y (n,), groups (d,), ridge, price, bound:  min ||X w - y||^2 + ridge ||w||^2 + price #groups, |w| <= bound.
seconds count the peer's own search, not the writing of its model nor the compilation, which a small solve does first.
"""

import functools
import json
import sys
import time
import types
from typing import Any

import numpy as np


def solve_gurobi(data: Any, gap: float, time_limit: float) -> dict[str, Any]:
    """Perspective form with one rotated cone a group, and the Gram matrix: the free licence counts every variable."""
    import gurobipy as gp

    X, y, groups = data["X"], data["y"], data["groups"]
    ridge, price, bound = (float(data[name]) for name in ("ridge", "price", "bound"))
    p = int(groups.max()) + 1
    with gp.Env(empty=True) as environment:
        environment.setParam("OutputFlag", 0)
        environment.start()
        with gp.Model(env=environment) as model:
            for name, setting in (("MIPGap", gap), ("TimeLimit", time_limit), ("Threads", 1)):
                model.setParam(name, setting)
            w = model.addMVar(len(groups), lb=-bound, ub=bound)
            z = model.addMVar(p, vtype="B")
            t = model.addMVar(p, lb=0.0)
            for j in range(p):
                members = np.flatnonzero(groups == j)
                part = w[members]
                model.addConstr(part @ part <= t[j] * z[j])
                for i in members:
                    model.addConstr(w[i] <= bound * z[j])
                    model.addConstr(-w[i] <= bound * z[j])
            loss = w @ (X.T @ X) @ w - 2 * (X.T @ y) @ w + float(y @ y)
            model.setObjective(loss + ridge * t.sum() + price * z.sum())
            begin = time.perf_counter()
            try:
                model.optimize()
            except gp.GurobiError as error:
                if "size-limited" in str(error):
                    return answer("too large for the free licence")
                raise
            seconds = time.perf_counter() - begin
            status = {gp.GRB.OPTIMAL: "optimal", gp.GRB.TIME_LIMIT: "time_limit"}.get(model.Status, "failed")
            weights = w.X * (z.X >= 0.5)[groups] if model.SolCount else None
            return answer(status, weights, model.ObjBound, seconds, int(model.NodeCount))


def solve_el0ps(data: Any, gap: float, time_limit: float) -> dict[str, Any]:
    """Groups of one; half of our objective. El0ps returns no bound."""
    sys.modules.setdefault("mpi4py", None)  # absent MPI libraries break its import
    import pybnb
    from el0ps.datafit import Leastsquares
    from el0ps.penalty import BigmL2norm
    from el0ps.solver import BnbSolver

    if not isinstance(pybnb.Solver, functools.partial):
        pybnb.Solver = functools.partial(pybnb.Solver, comm=None)  # serial
    solver = BnbSolver(relative_gap=gap, time_limit=time_limit)
    terms = Leastsquares(data["y"]), BigmL2norm(float(data["bound"]), float(data["ridge"]) / 2)
    begin = time.perf_counter()
    result = solver.solve(*terms, np.asfortranarray(data["X"]), float(data["price"]) / 2)
    return answer(result.status.value, result.x, None, time.perf_counter() - begin, int(result.iter_count))


def solve_l0bnb(data: Any, gap: float, time_limit: float) -> dict[str, Any]:
    """Groups of one; half of our objective. Its bound is what its own gap says."""
    vars(np)["Inf"] = np.inf  # removed in numpy 2, which it was not written for
    from l0bnb import BNBTree

    tree = BNBTree(np.asfortranarray(data["X"]), data["y"])
    begin = time.perf_counter()
    found = tree.solve(
        float(data["price"]) / 2, float(data["ridge"]) / 2, float(data["bound"]), gap_tol=gap, time_limit=time_limit
    )
    seconds = time.perf_counter() - begin
    status = "optimal" if found.gap <= gap else "time_limit" if seconds >= time_limit else "optimal"
    bound = 2 * float(found.cost) * (1 - float(found.gap)) if found.gap <= 1 else None
    return answer(status, found.beta, bound, seconds, int(tree.number_of_nodes))


def answer(
    status: str, weights: Any = None, lower_bound: float | None = None, seconds: float = 0.0, nodes: int = 0
) -> dict[str, Any]:
    """Plain numbers only; NaN and infinities become None."""
    finite = lower_bound is not None and np.isfinite(lower_bound)
    return {
        "status": status,
        "weights": None if weights is None else np.asarray(weights, dtype=float).tolist(),
        "lower_bound": float(lower_bound) if lower_bound is not None and finite else None,
        "seconds": seconds,
        "nodes": nodes,
    }


def rehearse() -> Any:
    """A tiny instance whose solve compiles what has to be compiled."""
    random = np.random.default_rng(0)
    X = random.standard_normal((40, 8))
    y = X[:, 0] - X[:, 3] + 0.3 * random.standard_normal(40)
    return types.MappingProxyType({"X": X, "y": y, "groups": np.arange(8), "ridge": 2.0, "price": 3.0, "bound": 3.0})


PEERS = {"gurobi": solve_gurobi, "el0ps": solve_el0ps, "l0bnb": solve_l0bnb}


def main() -> None:
    """Rehearse, say {"ready": version}, answer lines until standard input ends; whatever a peer prints goes to stderr."""
    from importlib.metadata import version

    name, out = sys.argv[1], sys.stdout
    sys.stdout = sys.stderr
    try:
        PEERS[name](rehearse(), 1e-4, 60.0)
        ready = {"ready": version({"gurobi": "gurobipy"}.get(name, name))}
    except Exception as error:  # any failure of a peer is its reason for not taking part
        ready = {"absent": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    print(json.dumps(ready), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            with np.load(asked["data"]) as data:
                reply = PEERS[name](data, asked["gap"], asked["time_limit"])
        except Exception as error:
            reply = answer(f"failed: {type(error).__name__}: {error}")
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()
