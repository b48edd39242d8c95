"""`perspective solve` and `verify` on a folder of layers, the new flags, and the plot of bounds over time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import make_layer

from perspective import CheckFailed, InputError
from perspective.bounds_picture import bounds_picture
from solvers import commands
from solvers.answers import MOST_POINTS, thin_history
from solvers.commands import solve, verify
from solvers.result import Result, Status

DECLARED: dict[str, Any] = {"settings": ["alpha=0.5", "M=2"], "strength": 3.0}


def save(path: Path, seed: int, **changed: Any) -> None:
    problem = make_layer(seed, sizes=(1, 2, 1), outputs=2)
    arrays = {"inputs": problem.X, "targets": problem.Y, "groups": problem.labels, **changed}
    np.savez(path, **arrays)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in (0, 1):
        save(tmp_path / f"layer{seed}.npz", seed)
    (tmp_path / "readme.txt").write_text("no layer")
    return tmp_path


@pytest.mark.parametrize("command", [solve, verify])
def test_a_folder_gives_what_each_file_gives(
    command: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(file=folder, as_json=True, out=tmp_path / "all.json", **DECLARED)
    answer = json.loads(capsys.readouterr().out)
    assert answer == json.loads((tmp_path / "all.json").read_text())
    assert [a["file"] for a in answer["problems"]] == ["layer0.npz", "layer1.npz"]
    for one in answer["problems"]:
        command(file=folder / one["file"], as_json=True, **DECLARED)
        alone = json.loads(capsys.readouterr().out)
        for name in alone.keys() - {"seconds", "history", "nodes"}:
            assert one[name] == alone[name]


@pytest.mark.parametrize("command", [solve, verify])
def test_a_failing_file_costs_its_own_row_only(command: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder / "bad.npz", 0, groups=np.arange(2))
    (folder / "half.npz").write_bytes((folder / "layer0.npz").read_bytes()[:200])
    with pytest.raises(CheckFailed, match=r"2 of 4 problems failed: bad\.npz, half\.npz"):
        command(file=folder, as_json=True, **DECLARED)
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [("error" in p) for p in problems] == [True, True, False, False]
    assert "one label per input feature" in problems[0]["error"]
    with pytest.raises(CheckFailed, match="2 of 4"):
        command(file=folder, **DECLARED)
    table = capsys.readouterr().out
    assert "one label per input feature" in table
    assert "layer1.npz" in table


def test_a_certificate_that_does_not_hold_is_a_failed_row(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = commands.solve_exact

    def lying(*arguments: Any, **named: Any) -> Any:
        from dataclasses import replace

        result = exact(*arguments, **named)
        return replace(result, certificate=replace(result.certificate, bound=result.objective * 2))

    monkeypatch.setattr(commands, "solve_exact", lying)
    with pytest.raises(CheckFailed, match="2 of 2 problems failed"):
        solve(file=folder, as_json=True, **DECLARED)
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [p["certificate_holds"] for p in problems] == [False, False]


def test_flags_that_fit_no_file_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--set beta=NUMBER"):
        solve(file=folder, cost="beta*s**2")
    for flags in ({"backend": "cplex"}, {"strengthen": "much"}):
        with pytest.raises(InputError, match="valid ones"):
            solve(file=folder, **flags)
    with pytest.raises(InputError, match="one problem"):
        solve(file=folder, plot=tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.npz"):
        verify(file=tmp_path / "empty")
    with pytest.raises(InputError, match="unknown loss"):
        solve(file=folder / "layer0.npz", loss="cubic")
    with pytest.raises(InputError, match="at_most"):
        solve(file=folder / "layer0.npz", at_most=0)
    for name, words in (("a.pdf", r"\.png or \.svg"), ("nowhere/a.png", "choose another --plot")):
        with pytest.raises(InputError, match=words):
            solve(file=folder / "layer0.npz", plot=tmp_path / name)


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_plot_is_a_picture(
    folder: Path, tmp_path: Path, name: str, begins: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    solve(file=folder / "layer0.npz", plot=tmp_path / name, as_json=True, **DECLARED)
    assert json.loads(capsys.readouterr().out)["status"] == "optimal"
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begins)
    assert len(content) > 5_000
    assert not list(tmp_path.glob(".*"))


def test_at_most_bounds_the_number_of_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cheap = {"settings": ["alpha=0.5", "M=2"], "strength": 1e-3}
    solve(file=folder / "layer0.npz", as_json=True, **cheap)
    free = json.loads(capsys.readouterr().out)
    solve(file=folder / "layer0.npz", at_most=1, as_json=True, **cheap)
    held = json.loads(capsys.readouterr().out)
    assert sum(free["indicators"]) > 1 == sum(held["indicators"])
    assert held["objective"] > free["objective"]
    assert held["certificate_holds"] is True


@pytest.mark.parametrize("loss", ["absolute", "hinge", "logistic"])
def test_other_losses_choose_a_box_that_cuts_nothing_off(
    loss: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = make_layer(1, sizes=(1, 2, 1))
    save(tmp_path / "signs.npz", 1, inputs=problem.X, groups=problem.labels, targets=np.sign(problem.Y))
    values = []
    for box in (None, "none"):
        solve(file=tmp_path / "signs.npz", loss=loss, cost="alpha*s**2", bound=box or "M", gap=1e-6, as_json=True)
        values.append(json.loads(capsys.readouterr().out)["objective"])
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def result_with(history: Any) -> Result:
    return Result(Status.OPTIMAL, 3.0, 2.5, None, None, 9.0, 1, "branch", None, history=history)


def test_a_history_keeps_its_end_and_is_never_long() -> None:
    points = [(0.01 * k, 10.0 - 0.01 * k, float("-inf") if k == 0 else 0.01 * k) for k in range(700)]
    thin = thin_history(result_with(tuple(points)))
    assert 100 <= len(thin) <= MOST_POINTS
    assert thin[0] == [0.0, 10.0, None]
    assert thin[-1] == [9.0, 3.0, 2.5]
    assert thin_history(result_with(())) == [[9.0, 3.0, 2.5]]


def test_the_picture_says_what_is_left() -> None:
    picture = bounds_picture([[0.0, 5.0, None], [1.0, 4.0, 2.0], [3.0, 4.0, 3.0]], "layer")
    assert "25 % left after 3 s" in picture.caption
    assert picture.uri.startswith("data:image/svg+xml")
    lines = [line.get_xydata().tolist() for line in picture.axes.get_lines()]
    assert lines[0] == [[0.0, 125.0], [1.0, 100.0], [3.0, 100.0]]
    assert lines[2] == [[1.0, 50.0], [3.0, 75.0]]
