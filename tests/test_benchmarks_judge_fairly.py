"""The comparison of exact solvers: instances are what they say, wrong answers of anyone are marked, ratios count both."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.exact_entrants import value_answer
from benchmarks.exact_records import Record, is_wrong, judge, read_records, table, write_records
from benchmarks.peer_process import Peer
from benchmarks.solver_instances import Cell, make_instance
from solvers import solve_exact

CELL = Cell(1, 8, "easy", 0)
GOOD = Record(1, 8, "easy", 0, "branch", 0, 1e-4, 60.0, "optimal", 100.0, 99.995, 0.1, 3)


def test_an_instance_has_the_ridge_price_and_box_it_says() -> None:
    easy, hard = (make_instance(Cell(4, 16, level, 1)) for level in ("easy", "hard"))
    assert np.array_equal(easy.X, hard.X)
    assert np.array_equal(easy.Y, hard.Y)
    for problem, ridge in ((easy, 20.0), (hard, 4.0)):
        w = np.random.default_rng(0).standard_normal(64) * 1e-3
        penalty = problem.objective(w) - np.sum((problem.X @ w - problem.Y) ** 2)
        price = (penalty - ridge * np.sum(w**2)) / 16
        # an estimate of the price's noise, 2 sigma^2 (s + 2 ln p), from the variance of the targets: 5 + 1 parts, 1 of noise
        assert price == pytest.approx(np.var(problem.Y) / 6 * 2 * (4 + 2 * np.log(16)), rel=0.25)
        fitted = np.linalg.lstsq(
            np.vstack([problem.X, np.sqrt(ridge) * np.eye(64)]), np.append(problem.Y, np.zeros(64)), rcond=None
        )[0]
        assert problem.regulariser.bound == pytest.approx(3 * np.max(np.abs(fitted)))
    correlation = np.corrcoef(easy.X[:, :-1].ravel(), easy.X[:, 1:].ravel())[0, 1]
    assert correlation == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, False),
        ({"objective": 100.009}, False),  # within the gap
        ({"objective": 100.02}, True),  # "optimal", worse than the gap allows
        ({"objective": 100.02, "status": "time_limit"}, False),
        ({"lower_bound": 100.001, "status": "time_limit"}, True),  # a bound above a known point
        ({"objective": None}, True),
    ],
)
def test_a_wrong_answer_is_marked(change: dict, wrong: bool) -> None:
    assert is_wrong(replace(GOOD, **change), 100.0) is wrong


def test_a_ratio_counts_only_what_both_prove() -> None:
    slow = replace(GOOD, solver="scip", seconds=10.0)
    other = replace(GOOD, seed=1)
    stopped = replace(other, solver="scip", status="time_limit", lower_bound=50.0, seconds=60.0)
    liar = replace(GOOD, solver="liar", objective=101.0, seconds=1e-6)
    records = [GOOD, slow, other, stopped, liar]
    assert judge(records)[CELL, "liar"][0] == "WRONG"
    text = table(records)
    assert "scip / branch: both prove 1 of 2 cells, 100x in geometric mean (100 - 100); only branch proves 1" in text
    assert "liar / branch: both prove 0 of 1 cells; only branch proves 1, only liar 0; WRONG 1." in text
    assert "left 50 %" in text
    assert "branch WRONG: never" in text


def test_an_answer_is_valued_by_the_problem_or_refitted_on_its_groups() -> None:
    problem = make_instance(CELL)
    best = solve_exact(problem, backend="enumerate")
    assert value_answer(problem, best.weights) == pytest.approx(best.objective, rel=1e-9)
    assert value_answer(problem, best.weights * 1.01) == pytest.approx(best.objective, rel=1e-9)
    assert value_answer(problem, np.zeros(8)) == problem.objective(np.zeros(8))
    assert value_answer(problem, None) is None
    assert value_answer(problem, np.full(8, np.nan)) is None


def test_a_peer_that_cannot_start_says_why() -> None:
    peer = Peer("no such solver", sys.executable)
    assert "KeyError" in peer.absent
    assert peer.version == ""


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert read_records(path) == []
    write_records(path, [GOOD, replace(GOOD, objective=None, lower_bound=None)])
    assert read_records(path)[0] == GOOD
    assert json.loads(path.read_text().splitlines()[0]) == asdict(GOOD)
