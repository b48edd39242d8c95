"""Law: a comparison's cells start from the same dense bits; it goes on where it was killed, to the same numbers; each cell
runs alone to the same numbers; a failure is a row. (What cells are asked to do: test_methods_are_compared_alike.)"""

import json
import shlex
import shutil

import pytest
import torch
from called_commands import called
from forked_cells import Forked, be_perspective
from several_processes import SERVER

from nets.commands.compare import compare
from nets.saving import load
from nets.sweeps import cells as sweep_cells
from nets.sweeps.cells import Outcome
from perspective import CheckFailed, InputError

call = called(compare, raises=False)

# digits, narrow, few epochs
SMALL = ["--net", "resnet20", "--width", 3, "--data", "digits", "--batch-size", 512, "--epochs", 1, "--jobs", 1]
RUN = ["--methods", "spr,magnitude", "--budget", "macs=0.5", "--seeds", 2, "--dense-epochs", 1, *SMALL]
NAMES = [f"method-{method}_budget-macs=0.5_seed-{seed}" for method in ("spr", "magnitude") for seed in (0, 1)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a comparison that nobody killed."""
    out = tmp_path_factory.mktemp("compare") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_cells.subprocess, "Popen", Forked)
        outcome = call(*RUN, "--out", out, "--json")
    assert outcome.exit_code == 0, outcome.exception
    assert json.loads(outcome.stdout) == json.loads((out / "compare.json").read_text())
    return out


def numbers(out):
    """Every row of the table, without the seconds and where it lies."""
    rows = json.loads((out / "compare.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if key not in ("run", "seconds")} for row in rows]


def same_bits(one, other):
    first, second = load(one).state_dict(), load(other).state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def copied(comparison, out):
    """The same comparison in another folder: its cells start from the networks there."""
    shutil.copytree(comparison, out)
    for name in NAMES:
        change(out / name / "config.json", "dense", value=str((out / f"dense_seed-{name[-1]}").resolve()))
    return out


def change(path, *keys, value):
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_the_cells_kept_to_the_protocol(undisturbed):
    content = json.loads((undisturbed / "compare.json").read_text())
    assert [cell["name"] for cell in content["cells"]] == NAMES
    for name in NAMES:
        phases = [json.loads(line)["phase"] for line in (undisturbed / name / "metrics.jsonl").read_text().splitlines()]
        assert phases == (["regularise", "finetune"] if "spr" in name else ["finetune", "finetune"])
        assert same_bits(undisturbed / name / "dense", undisturbed / f"dense_seed-{name[-1]}" / "model")
    assert not same_bits(undisturbed / "dense_seed-0" / "model", undisturbed / "dense_seed-1" / "model")
    assert all(cell["epochs"] == 2 and not cell["failed"] for cell in content["cells"])
    assert [group["seeds"] for group in content["groups"]] == [[0, 1], [0, 1]]
    lines = content["table"].splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| spr", "| magnitude"]
    accuracies = [row["pruned_accuracy"] for row in content["rows"][:2]]
    assert f"{sum(accuracies) / 2:.2f} ± " in lines[2]
    page = (undisturbed / "compare.html").read_text()
    for words in (*content["protocol"]["told"], *NAMES, "1 under its penalty and 1 after removal", "<img"):
        assert words in page


def test_a_cell_runs_alone_from_its_recorded_command(undisturbed, tmp_path):
    cells = json.loads((undisturbed / "compare.json").read_text())["cells"]
    command = (undisturbed / NAMES[0] / "command.txt").read_text().strip()
    assert command == cells[0]["command"]
    threads, program, *words = shlex.split(command)
    assert (threads[:16], program, words[0]) == ("OMP_NUM_THREADS=", "perspective", "prune")
    place = words.index("--out") + 1
    assert words[place] == str((undisturbed / NAMES[0]).resolve())
    words[place] = str(tmp_path / "alone")
    process = SERVER.Process(target=be_perspective, args=(words, str(tmp_path / "log"), None))
    process.start()
    process.join(240)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert same_bits(tmp_path / "alone" / "model", undisturbed / NAMES[0] / "model")
    one, other = (json.loads((f / "result.json").read_text()) for f in (tmp_path / "alone", undisturbed / NAMES[0]))
    assert {k: v for k, v in one.items() if k not in ("seconds", "environment")} == {
        k: v for k, v in other.items() if k not in ("seconds", "environment")
    }


def test_a_killed_comparison_goes_on_to_the_same_numbers(undisturbed, tmp_path, monkeypatch):
    """A cell dies between its phases; called again, only that one runs."""
    monkeypatch.setattr(sweep_cells.subprocess, "Popen", Forked)
    out = copied(undisturbed, tmp_path / "out")
    shutil.rmtree(out / NAMES[0])  # the others were finished before the kill
    monkeypatch.setattr(Forked, "die", {NAMES[0]: "nets.train.remove_channels"})
    first = call(*RUN, "--out", out)
    assert isinstance(first.exception, CheckFailed)
    assert "1 of 4 cells" in str(first.exception)
    content = json.loads((out / "compare.json").read_text())
    assert [row["status"] for row in content["rows"]] == ["broken", "finished", "finished", "finished"]
    assert [(row["method"], row["seed"]) for row in content["rows"]] == [
        ("spr", 0), ("spr", 1), ("magnitude", 0), ("magnitude", 1)
    ]  # fmt: skip
    assert "SIGKILL" in content["rows"][0]["note"]
    assert "1 of 2 failed: ended by SIGKILL" in content["table"]
    assert [group["seeds"] for group in content["groups"]] == [[1], [0, 1]]  # what failed is in no mean
    assert "SIGKILL" in (out / "compare.html").read_text()
    monkeypatch.setattr(Forked, "die", {})
    monkeypatch.setattr(Forked, "started", [])
    kept = (out / NAMES[1] / "result.json").stat().st_mtime_ns
    again = call(*RUN, "--out", out)
    assert again.exit_code == 0, again.exception
    assert [words[-1] for words in Forked.started] == ["--resume"]
    assert (out / NAMES[1] / "result.json").stat().st_mtime_ns == kept
    assert f"{NAMES[1]}: done before" in again.stderr
    assert numbers(out) == numbers(undisturbed)


def test_a_cell_that_ended_without_its_report_gets_it_and_is_not_trained_again(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_cells.subprocess, "Popen", Forked)
    monkeypatch.setattr(Forked, "started", [])
    monkeypatch.setattr(Forked, "die", {NAMES[1]: "nets.training.result.write_report"})
    out = copied(undisturbed, tmp_path / "out")
    shutil.rmtree(out / NAMES[1])
    first = call(*RUN, "--out", out)
    assert "1 of 4 cells" in str(first.exception)
    assert (out / NAMES[1] / "result.json").is_file()
    assert not (out / NAMES[1] / "report.html").exists()
    monkeypatch.setattr(Forked, "die", {})
    kept = (out / NAMES[1] / "result.json").stat().st_mtime_ns
    again = call(*RUN, "--out", out)
    assert again.exit_code == 0, again.exception
    assert (out / NAMES[1] / "report.html").is_file()
    assert (out / NAMES[1] / "result.json").stat().st_mtime_ns == kept
    assert [words[-1] == "--resume" for words in Forked.started] == [False, True]  # nothing else was started
    assert numbers(out) == numbers(undisturbed)


# ---- cells that ended, but not as the protocol asks


def drop_an_epoch(cell):
    lines = (cell / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cell / "metrics.jsonl").write_text("".join(lines[:-1]))


TAMPERED = {
    "an epoch less": (drop_an_epoch, "trained 1 epochs, not 2"),
    "another network": (lambda c: change(c / "dense" / "manifest.json", "sha256", value="0"), "another dense network"),
    "above its budget": (lambda c: change(c / "result.json", "budget", "reached", value=0.51), "0.51 of the macs"),
    "no dense network": (lambda c: shutil.rmtree(c / "dense"), "its dense network is gone"),
    "other flags": (lambda c: change(c / "config.json", "lr", value=0.05), "was started with --lr 0.05, not 0.02"),
}


@pytest.mark.parametrize("name", sorted(TAMPERED))
def test_a_cell_that_is_not_comparable_is_a_row_and_in_no_mean(undisturbed, tmp_path, name):
    out = copied(undisturbed, tmp_path / "out")
    tamper, sentence = TAMPERED[name]
    tamper(out / NAMES[3])
    outcome = call(*RUN, "--lr", 0.02, "--out", out)  # every cell is done before: nothing runs
    assert isinstance(outcome.exception, CheckFailed)
    rows = json.loads((out / "compare.json").read_text())["rows"]
    assert [row["status"] for row in rows] == ["finished", "finished", "finished", "broken"]
    assert sentence in rows[3]["note"]
    assert "1 of 2 failed" in outcome.stdout
    groups = json.loads((out / "compare.json").read_text())["groups"]
    assert [group["seeds"] for group in groups] == [[0, 1], [0]]


def test_a_dense_network_that_failed_is_said_in_the_rows_of_its_seed(tmp_path, monkeypatch):
    started = []

    def run_cells(cells, plan, tell):
        started.extend(cell.name for cell in cells)
        words = {"dense_seed-0": "", "dense_seed-1": "no memory"}
        return [Outcome(cell, words.get(cell.name, "too tired")) for cell in cells]

    monkeypatch.setattr("nets.sweeps.compare_cells.run_cells", run_cells)
    outcome = call(*RUN, "--out", tmp_path / "out", "--json")
    assert "4 of 4 cells" in str(outcome.exception)
    rows = json.loads(outcome.stdout)["rows"]
    assert [row["note"] for row in rows] == ["too tired", "its dense network failed: no memory"] * 2
    assert [(row["net"], row["method"], row["seed"]) for row in rows[:2]] == [
        ("resnet20", "spr", 0),
        ("resnet20", "spr", 1),
    ]
    assert started == ["dense_seed-0", "dense_seed-1", NAMES[0], NAMES[2]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "cifar10", "--data-dir", "empty"], "empty"),
        (["--weights", "whole", "--net", "resnet20", "--data", "digits", "--width", 4], "--width"),
        (["--weights", "file.safetensors", "--net", "resnet20", "--data", "digits"], "file.safetensors"),
    ],
)
def test_data_and_weights_that_no_cell_can_use_are_refused_before_any(
    tmp_path, monkeypatch, arguments, sentence, undisturbed
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    shutil.copytree(undisturbed / "dense_seed-0", tmp_path / "whole")
    shutil.copy(tmp_path / "whole" / "model" / "weights.safetensors", tmp_path / "file.safetensors")
    outcome = call("--methods", "spr", "--budget", "macs=0.5", *arguments, "--out", tmp_path / "out")
    assert isinstance(outcome.exception, InputError)
    assert sentence in str(outcome.exception)
    assert not (tmp_path / "out").exists()
    assert outcome.stdout == ""


def test_the_recorded_command_is_that_of_the_run_not_of_an_earlier_start(undisturbed, tmp_path, monkeypatch):
    """A cell that could not start, then did with another flag, is told with that flag."""
    monkeypatch.setattr(sweep_cells.subprocess, "Popen", Forked)
    monkeypatch.setattr(Forked, "die", {NAMES[0]: "nets.train.load_images"})
    run = [
        "--methods",
        "spr",
        "--budget",
        "macs=0.5",
        "--weights",
        undisturbed / "dense_seed-0",
        "--out",
        tmp_path / "out",
    ]
    first = call(*run, *SMALL)
    assert "1 of 1 cells" in str(first.exception)
    monkeypatch.setattr(Forked, "die", {})
    again = call(*run, *SMALL, "--lr", 0.03)
    assert again.exit_code == 0, again.exception
    command = json.loads((tmp_path / "out" / "compare.json").read_text())["cells"][0]["command"]
    assert "--lr 0.03" in command
    assert json.loads((tmp_path / "out" / NAMES[0] / "config.json").read_text())["lr"] == 0.03
