"""`perspective verify` and `solve`: the published JSON on toy layers and files, one sentence for bad input."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_cases import make_layer

from perspective import CheckFailed, InputError
from solvers import commands
from solvers.commands import demo_verify, solve, verify, verify_toy

VERIFY = {"big_m", "cone", "projected", "exact", "lower_bound", "gap_closed", "status", "indicators", "seconds"}
SOLVE = {"status", "objective", "lower_bound", "gap", "indicators", "seconds", "nodes", "backend", "certificate_holds"}
SOLVE |= {"parameters", "notes", "history"}


@pytest.fixture(scope="module")
def layer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem = make_layer(3, outputs=2)
    path = tmp_path_factory.mktemp("layers") / "layer.npz"
    np.savez(path, inputs=problem.X, targets=problem.Y, groups=problem.labels)
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perspective", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_verify_prints_one_json_object_for_a_file(layer_file: Path, tmp_path: Path) -> None:
    flags = ["--cost", "alpha*s**2", "--price", "1-alpha", "--bound", "M", "--set", "alpha=0.5", "--set", "M=2.0"]
    out = tmp_path / "chain.json"
    done = run("verify", str(layer_file), *flags, "--strength", "3.0", "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) >= VERIFY
    assert answer["big_m"] <= answer["cone"] * (1 + 1e-5)
    assert answer["cone"] == pytest.approx(answer["projected"], rel=1e-5)
    assert answer["projected"] <= answer["exact"] * (1 + 1e-5)
    assert json.loads(out.read_text()) == answer


def test_bad_input_is_status_two_and_one_sentence(tmp_path: Path) -> None:
    done = run("verify", str(tmp_path / "nowhere.npz"), "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "there is no file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_toy_layer_is_strictly_ordered(seed: int) -> None:
    answer = verify_toy(seed)
    slack = 1e-5 * answer["exact"]
    assert answer["big_m"] < answer["projected"] - slack
    assert answer["cone"] == pytest.approx(answer["projected"], abs=slack)
    assert answer["projected"] < answer["exact"] - slack
    assert 0 < sum(answer["indicators"]) < len(answer["indicators"])
    assert 0.2 < answer["gap_closed"] < 1
    assert answer["status"] == "optimal"
    assert answer["lower_bound"] <= answer["exact"] <= answer["lower_bound"] * (1 + 1e-5)


@pytest.mark.parametrize("backend", ["branch", "highs", "enumerate"])
def test_solve_prints_one_json_object(layer_file: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    solve(file=layer_file, backend=backend, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == SOLVE
    assert answer["status"] == "optimal"
    assert answer["backend"] == backend
    assert answer["certificate_holds"] is True
    assert answer["gap"] <= 1e-4


def test_tables_say_what_was_chosen(layer_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(file=layer_file)
    text = capsys.readouterr().out
    assert "alpha = 0.5 (chosen here)" in text
    assert "M = " in text
    assert "root gap closed" in text
    solve(file=layer_file, settings=["M=2", "alpha=0.25"])
    text = capsys.readouterr().out
    assert "chosen here" not in text
    assert "groups kept" in text


@pytest.mark.parametrize("command", [verify, solve])
def test_numbers_chosen_for_a_file_are_said(command: Any, layer_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(file=layer_file, cost="alpha*s**2", bound="M", as_json=True)
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["parameters"]["alpha"] == 0.5
    assert answer["parameters"]["M"] > 0
    said = [line for line in printed.err.splitlines() if "chosen here: alpha = 0.5, M = " in line]
    assert len(said) == 1
    assert f"M = {answer['parameters']['M']:.6g};" in said[0]
    command(file=layer_file, cost="alpha*s**2", bound="M", settings=["alpha=0.25", "M=2"], as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parameters"] == {"alpha": 0.25, "M": 2.0}
    assert "chosen here" not in printed.err


def test_a_time_limit_shows_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    solve(time_limit=1e-4, gap=1e-8, as_json=True)
    assert json.loads(capsys.readouterr().out)["status"] == "time_limit"


def test_the_demo_writes_the_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo_verify(tmp_path / "bound_chain.json")
    assert set(json.loads((tmp_path / "bound_chain.json").read_text())) >= VERIFY
    assert capsys.readouterr().out == ""


def test_a_certificate_that_fails_is_a_failed_check(
    layer_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = commands.solve_exact

    def lying(*arguments: Any, **named: Any) -> Any:
        from dataclasses import replace

        result = exact(*arguments, **named)
        return replace(result, certificate=replace(result.certificate, bound=result.objective * 2))

    monkeypatch.setattr(commands, "solve_exact", lying)
    with pytest.raises(CheckFailed, match="certificate"):
        solve(file=layer_file, as_json=True)
    assert json.loads(capsys.readouterr().out)["certificate_holds"] is False


def arrays() -> dict[str, Any]:
    return {"inputs": np.eye(3), "targets": np.ones(3), "groups": np.arange(3)}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inputs": np.full((3, 3), np.nan)}, "inputs contain NaN"),
        ({"targets": np.ones(2)}, "targets must have shape"),
        ({"groups": np.arange(2)}, "one label per input feature"),
        ({"groups": np.array([0.5, 1, 2])}, "groups must be integers"),
        ({"inputs": np.array([["a", "b"]])}, "array of numbers"),
        ({"targets": np.array([None, 1, 2])}, "cannot be read"),
    ],
)
def test_bad_arrays_are_refused(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{**arrays(), **changed})
    with pytest.raises(InputError, match=words):
        verify(file=tmp_path / "bad.npz")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez(good, **arrays())
    whole = good.read_bytes()
    for name, content in {
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello",
        "hole": whole[:200] + whole[260:],
    }.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(InputError):
            solve(file=tmp_path / f"{name}.npz")
    np.savez(tmp_path / "less.npz", inputs=np.eye(3))
    with pytest.raises(InputError, match="lacks the array 'targets'"):
        solve(file=tmp_path / "less.npz")
    np.save(tmp_path / "one.npy", np.eye(3))
    with pytest.raises(InputError, match=r"not an \.npz"):
        solve(file=tmp_path / "one.npy")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"settings": ["alpha"]}, "for example --set alpha=0.5"),
        ({"settings": ["alpha=half"]}, "for example --set alpha=0.5"),
        ({"settings": ["alpha=0.5", "alpha=0.6"]}, "alpha twice"),
        ({"settings": ["alpha=2"]}, "price"),
        ({"settings": ["M=-1"]}, "must be positive"),
        ({"settings": ["gamma=1"]}, "gamma"),
        ({"cost": "alpha*s**2 + beta*s"}, "--set beta=NUMBER"),
        ({"cost": "import os"}, "formula"),
        ({"strength": -1.0}, "strength must be"),
        ({"seed": -1}, "--seed"),
        ({"groups": 0}, "--groups"),
        ({"out": Path("/nowhere/at/all.json")}, "choose another --out"),
    ],
)
def test_bad_flags_are_refused(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        verify(**flags)


def test_importing_the_package_imports_no_solver() -> None:
    script = (
        "import sys, solvers; print([m for m in ('cvxpy', 'highspy', 'pyomo', 'torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
