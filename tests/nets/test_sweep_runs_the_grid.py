"""Law: a sweep is its runs one by one; it goes on where it was interrupted, and a cell that fails is a row that says why."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from called_commands import called
from hypothesis import given, settings
from hypothesis import strategies as st
from several_processes import ROOT, environment

from nets.commands.sweep import sweep
from nets.saving import load
from nets.settings import as_json, new_settings
from nets.sweeps import cells as sweep_cells
from nets.sweeps.cells import Outcome, Plan, run_cells
from nets.sweeps.grid import lay_out
from nets.train import train
from perspective import CheckFailed, InputError

NUMBERS = st.lists(st.floats(0, 1e3).map(lambda x: round(x, 3)), min_size=1, max_size=4, unique=True)


@given(strength=NUMBERS, alpha=NUMBERS, seeds=st.lists(st.integers(0, 99), min_size=2, max_size=3, unique=True))
@settings(max_examples=40, deadline=None)
def test_the_cells_are_the_product_of_the_axes(strength, alpha, seeds):
    text = {name: ",".join(map(str, values)) for name, values in [("strength", strength), ("alpha", alpha)]}
    cells = lay_out("train", {**text, "seed": " , ".join(map(str, seeds)), "net": "resnet20", "coupled": True}, None)
    found = [(cell.settings["strength"], cell.settings["alpha"], cell.settings["seed"]) for cell in cells]
    assert found == [(s, a, k) for s in strength for a in alpha for k in seeds]
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.settings["net"] == "resnet20"
        assert cell.settings["coupled"] is True
        assert "/" not in cell.name
        words = cell.arguments((), Path("x"), resume=True)
        assert words[words.index("--seed") + 1] == str(cell.settings["seed"])
        assert words[-3:] == ["--out", "x", "--resume"]
        assert "--coupled" in words


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"net": "resnet20"}, "nothing is swept"),
        ({"seed": "0,1.5"}, "'1.5' is not a whole number"),
        ({"seed": "0,,1"}, "'' is not a whole number"),
        ({"strength": "1,1.0"}, "gives 1.0 twice"),
        ({"net": "resnet20,"}, "'' is not a word"),
        ({"net": "a/b,a:b"}, "share a run folder"),
    ],
)
def test_a_grid_that_is_none_is_refused(flags, sentence):
    with pytest.raises(InputError, match=sentence):
        lay_out("train", flags, None)


def test_commas_of_patterns_are_no_axis():
    cells = lay_out("train", {"exclude": "conv1,layer1.*", "budget": "macs=0.5,macs=0.3"}, None)
    assert [(cell.name, cell.settings["exclude"]) for cell in cells] == [
        ("budget-macs=0.5", "conv1,layer1.*"),
        ("budget-macs=0.3", "conv1,layer1.*"),
    ]


call = called(sweep, raises=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["grow", "--seed", "0,1"], "choose train or prune"),
        (["train", "somewhere", "--seed", "0,1"], "takes no run folder"),
        (["prune", "--seed", "0,1"], "needs a trained network"),
        (["train", "--seed", "0,1", "--devices", "cuda:0,cuda:0"], "different GPUs"),
        (["train", "--seed", "0,1", "--devices", "gpu"], "different GPUs"),
        (["train", "--seed", "0,1", "--devices", "cpu", "--device", "cpu"], "not both"),
        (["train", "--seed", "0,1", "--jobs", "0"], "at least 1"),
    ],
)
def test_bad_usage_is_one_sentence(tmp_path, arguments, sentence):
    outcome = call(*arguments, "--out", tmp_path / "grid")
    assert isinstance(outcome.exception, InputError)
    assert sentence in str(outcome.exception)
    assert not (tmp_path / "grid").exists()


class Child:
    """A process that never trains: it notes how it was started and ends when as many as `jobs` live at the same time."""

    def __init__(self, words, env, **_):
        self.words, self.env = words, env
        Child.alive.append(self)
        Child.most = max(Child.most, len(Child.alive))
        Child.together.append({child.env.get("CUDA_VISIBLE_DEVICES") for child in Child.alive})

    @classmethod
    def live(cls, monkeypatch, jobs):
        started = []
        cls.alive, cls.most, cls.together, cls.barrier = [], 0, [], threading.Barrier(jobs)
        monkeypatch.setattr(
            sweep_cells.subprocess, "Popen", lambda *a, **k: started.append(cls(*a, **k)) or started[-1]
        )
        return started

    def wait(self):
        if self in Child.alive:
            Child.barrier.wait(60)
            Child.alive.remove(self)
            Child.barrier.wait(60)
        return 0

    def poll(self):
        return 0


def test_jobs_share_cores_and_devices(tmp_path, monkeypatch):
    started = Child.live(monkeypatch, jobs=2)
    monkeypatch.setattr(sweep_cells.os, "sched_getaffinity", lambda _: set(range(9)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    cells = lay_out("train", {"seed": "0,1,2,3,4,5"}, None)
    told = []
    assert run_cells(cells, Plan(tmp_path, (), 2, ("cuda:0", "cuda:1")), told.append) == [Outcome(c, "") for c in cells]
    assert Child.most == 2
    assert {"4", "7"} in Child.together
    assert {child.env["OMP_NUM_THREADS"] for child in started} == {"4"}
    assert {outcome.cell.name for outcome in told} == {cell.name for cell in cells}
    assert not any("--resume" in child.words for child in started)
    with pytest.raises(InputError, match="shows 2 GPUs"):
        run_cells(cells, Plan(tmp_path, (), 1, ("cuda:2",)), told.append)


GRID = [
    *(
        "--net",
        "resnet20",
        "--width",
        "3",
        "--data",
        "digits",
        "--method",
        "spr",
        "--epochs",
        "1",
        "--finetune-epochs",
        "1",
    ),
    *("--batch-size", "512", "--strength", "200,300,-1"),
]


def test_a_sweep_is_its_runs_one_by_one(tmp_path):
    """Three cells: one that another process runs already, one that trains, one that is refused; then once more."""
    out = tmp_path / "grid"
    busy = out / "strength-200.log"
    out.mkdir()
    with sweep_cells._locked(busy):
        first = call("train", *GRID, "--out", out, "--jobs", "2", "--json")
    assert isinstance(first.exception, CheckFailed)
    assert "2 of 3 cells" in str(first.exception)
    object_ = json.loads(first.stdout)
    assert [cell["axes"] for cell in object_["cells"]] == [{"strength": s} for s in ("200", "300", "-1")]
    assert [cell["failed"] for cell in object_["cells"]] == [
        "another sweep is running this cell; wait for it to end",
        "",
        "--strength is -1.0; it must be a finite number >= 0",
    ]
    assert [row["status"] for row in object_["rows"]] == ["broken", "finished", "broken"]
    assert "finite number" in object_["rows"][2]["note"]
    given = {"net": "resnet20", "width": 3, "data": "digits", "method": "spr", "epochs": 1, "finetune_epochs": 1}
    train(new_settings("train", {**given, "batch_size": 512, "strength": 300.0}), tmp_path / "alone")
    alone, cell = (load(folder / "model").state_dict() for folder in (tmp_path / "alone", out / "strength-300"))
    assert all(torch.equal(alone[name], cell[name]) for name in alone)
    assert (out / "compare.html").is_file()

    # another flag is not another run of the same name; a finished cell is not repeated
    finished = (out / "strength-300" / "result.json").stat().st_mtime_ns
    with sweep_cells._locked(busy):
        other = call("train", *GRID[:-1], "300,200", "--lr", "0.05", "--out", out)
    assert "was started with --lr 0.1, not 0.05" in other.stdout
    again = call("train", *GRID[:-1], "300,200", "--out", out)
    assert again.exit_code == 0, again.exception
    assert "page: " in again.stdout
    assert (out / "strength-300" / "result.json").stat().st_mtime_ns == finished
    assert "strength-300: done before" in again.stderr
    assert "strength-200: done\n" in again.stderr


def test_an_interrupted_cell_goes_on(tmp_path, monkeypatch):
    started = Child.live(monkeypatch, jobs=1)
    cells = lay_out("train", {"seed": "0,1", "net": "resnet20", "data": "digits"}, None)
    begun = tmp_path / cells[0].name
    begun.mkdir()
    config = as_json(new_settings("train", {"net": "resnet20", "data": "digits", "method": "spr", "seed": 0}))
    (begun / "config.json").write_text(json.dumps(config))
    assert [outcome.sentence for outcome in run_cells(cells, Plan(tmp_path, (), 1), lambda _: None)] == ["", ""]
    assert [child.words[-1] == "--resume" for child in started] == [True, False]


SWEEPING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background of a script ignores it
from nets.sweeps import cells as sweep_cells
from perspective.__main__ import main
real = sweep_cells.subprocess.Popen
cell = "import signal, sys; signal.signal(signal.SIGINT, HANDLER); print('up', flush=True); signal.pause()"
sweep_cells.GRACE = 1.0
def popen(words, **given):
    child = real([sys.executable, "-c", cell], **{**given, "stdout": -1})
    child.stdout.readline()
    print("up", flush=True)
    return child
sweep_cells.subprocess.Popen = popen
main()
"""


@pytest.mark.parametrize("handler", ["lambda *_: sys.exit(130)", "signal.SIG_IGN"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_stops_its_cells_and_starts_no_others(number, handler, tmp_path):
    """SIGTERM as well, which batch systems send; and cells that ignore SIGINT, as those of background jobs do."""
    words = ["sweep", "train", "--seed", "0,1,2,3", "--jobs", "2", "--out", str(tmp_path / "grid")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": environment()}
    with subprocess.Popen([sys.executable, "-c", SWEEPING.replace("HANDLER", handler), *words], **pipes) as sweeping:
        try:
            assert [sweeping.stdout.readline() for _ in range(2)] == ["up\n", "up\n"]
            sweeping.send_signal(number)
            out, err = sweeping.communicate(timeout=60)
        finally:
            sweeping.kill()  # a sweep that does not stop fails here instead of being waited for
    assert (sweeping.returncode, out) == (130, "")
    assert "start the same sweep again" in err
    assert "Traceback" not in err
    for log in sorted((tmp_path / "grid").glob("*.log")):
        with sweep_cells._locked(log) as free:
            assert free is not None  # no cell lives on


def test_a_cell_that_is_killed_is_a_row_that_says_so(tmp_path):
    cells = lay_out("train", {"seed": "0,1"}, None)
    real = subprocess.Popen
    codes = ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError('x')"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sweep_cells.subprocess, "Popen", lambda words, **k: real([sys.executable, "-c", codes.pop(0)], **k)
        )
        outcomes = run_cells(cells, Plan(tmp_path, (), 1), lambda _: None)
    assert "SIGKILL" in outcomes[0].sentence
    assert "exit status 1; see" in outcomes[1].sentence


@pytest.mark.parametrize(
    "words", [["prune", "nowhere"], ["train", "--dense", "nowhere"], ["prune", "--weights", "nowhere"]]
)
def test_a_missing_source_is_one_sentence_before_any_cell(words, tmp_path):
    given = ["--net", "resnet20", "--data", "digits", "--alpha", "0.1,0.2", "--out", str(tmp_path / "grid")]
    answer = subprocess.run(
        [sys.executable, "-m", "perspective", "sweep", *words, *given],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 2
    assert len(answer.stderr.strip().splitlines()) == 1
    assert "nothing at nowhere" in answer.stderr
    assert not (tmp_path / "grid").exists()
