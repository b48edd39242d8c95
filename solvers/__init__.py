"""Exact and relaxed group selection for one layer, with certificates. Solvers are imported only when they are asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.chain import BoundChain, bound_chain
    from solvers.exact import solve_exact
    from solvers.gdp import to_pyomo
    from solvers.path import PathPoint, solution_path
    from solvers.problem import LayerProblem
    from solvers.relax import solve_relaxation
    from solvers.result import Certificate, Leaf, Result, Status

__all__ = [
    "BoundChain",
    "Certificate",
    "LayerProblem",
    "Leaf",
    "PathPoint",
    "Result",
    "Status",
    "bound_chain",
    "solution_path",
    "solve_exact",
    "solve_relaxation",
    "to_pyomo",
]

_HOME = {
    "BoundChain": "chain",
    "Certificate": "result",
    "LayerProblem": "problem",
    "Leaf": "result",
    "PathPoint": "path",
    "Result": "result",
    "Status": "result",
    "bound_chain": "chain",
    "solution_path": "path",
    "solve_exact": "exact",
    "solve_relaxation": "relax",
    "to_pyomo": "gdp",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'solvers' has no attribute {name!r}")
    return getattr(import_module(f"solvers.{_HOME[name]}"), name)
