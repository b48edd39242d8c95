"""A comparison's write-up pairs the methods by seed and budget, and names no folder of the machine it was made on."""

import pytest

from benchmarks.comparison import against, row, without_folders


def cell(method: str, budget: str, seed: int, failed: str = "") -> dict:
    name = f"method-{method}_budget-{budget}_seed-{seed}"
    return {
        "name": name,
        "axes": {"method": method, "budget": budget, "seed": str(seed)},
        "failed": failed,
        "epochs": 10,
    }


def result(accuracy: float) -> dict:
    pruned = {"test_accuracy": accuracy, "macs": 50, "params": 60}
    return {
        **{"dense": {"test_accuracy": 91.0, "macs": 100, "params": 100}, "pruned": pruned},
        **{"validation_accuracy": 90.0, "seconds": {"total": 7.0}},
    }


CELLS = [cell(m, "macs=0.5", s) for m in ("spr", "magnitude") for s in (0, 1)] + [
    cell("spr", "macs=0.3", 0, "diverged")
]
RESULTS = {c["name"]: result(a) for c, a in zip(CELLS[:4], (90.0, 89.0, 89.5, 89.25), strict=True)}


def test_differences_are_those_of_the_same_seed_and_budget() -> None:
    """Seed 0: 90 - 89.5, seed 1: 89 - 89.25; their deviation is that of (.5, -.25), not of the accuracies."""
    assert against(CELLS, RESULTS) == ["- spr, macs=0.5: +0.12 ± 0.53 (2 seed(s))"]
    assert against(CELLS[:2], RESULTS) == ["- no magnitude in this comparison"]


def test_a_cell_without_a_result_is_a_row_that_says_why() -> None:
    assert "diverged" in row(CELLS[4], RESULTS)
    assert row(CELLS[0], RESULTS) == ("| spr | macs=0.5 | 0 | 90.00 | 90.00 | +0.50 | 50.0 | 60.0 | 10 | 7 |")
    assert row(CELLS[4], RESULTS).count("|") == row(CELLS[0], RESULTS).count("|")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"out": "/a/b/run-1"}', '{"out": "run-1"}'),
        ("prune --weights /a/b/net.th --out=/c/d", "prune --weights net.th --out=d"),
        ("method-spr_budget-macs=0.5 is 1/2", "method-spr_budget-macs=0.5 is 1/2"),
    ],
)
def test_no_folder_of_the_machine_is_left(text: str, left: str) -> None:
    assert without_folders(text) == left
