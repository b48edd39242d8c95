"""The commands: one JSON object on standard output, and one sentence for whatever cannot be done."""

import json

import pytest
from called_commands import called

from nets.commands import train as commands
from nets.saving import load
from nets.training.progress import EpochBars
from perspective import CheckFailed, InputError

run = called(commands.train, commands.prune, commands.report)

SMALL = ["--width", "4", "--epochs", "1", "--finetune-epochs", "1", "--batch-size", "128"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dense"
    return out, run("train", "--method", "none", *SMALL, "--seed", 3, "--out", out, "--json")


def test_train_none_gives_one_json_object(dense):
    out, outcome = dense
    result = json.loads(outcome.stdout)
    assert result == json.loads((out / "result.json").read_text())
    assert (result["net"], result["data"], result["method"], result["seed"]) == ("resnet20", "digits", "none", 3)
    assert result["dense"] == result["pruned"]
    assert result["budget"] == {"kind": "macs", "asked": None, "reached": 1.0}
    assert {"seconds", "environment", "equality", "layers", "validation_accuracy"} <= result.keys()


@pytest.mark.parametrize("method", ["spr", "magnitude"])
def test_a_run_folder_is_pruned_to_a_budget(dense, tmp_path, method):
    source, before = dense
    outcome = run(
        *("prune", source, "--method", method, "--budget", "macs=0.5"),
        *SMALL[2:],
        "--out",
        tmp_path / "pruned",
        "--json",
    )
    result = json.loads(outcome.stdout)
    assert result["seed"] == 3
    assert result["dense"] == json.loads(before.stdout)["dense"]
    assert result["budget"]["asked"] == 0.5
    assert 0.4 < result["budget"]["reached"] <= 0.5
    assert result["budget"]["reached"] == result["pruned"]["macs"] / result["dense"]["macs"]
    smaller = load(tmp_path / "pruned" / "model")
    assert sum(p.numel() for p in smaller.parameters()) == result["pruned"]["params"]


def test_weights_are_pruned_like_a_run(dense, tmp_path):
    weights = dense[0] / "model" / "weights.safetensors"
    with pytest.raises(InputError, match=r"or all of --weights FILE, --net and --data"):
        run("prune", "--weights", weights, "--net", "resnet20", "--out", tmp_path / "x")
    with pytest.raises(InputError, match=r"fit the network|shape"):
        run("prune", "--weights", weights, "--net", "resnet20", "--data", "digits", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    outcome = run(
        *("prune", "--weights", weights, "--net", "resnet20", "--data", "digits"),
        *SMALL,
        *("--method", "magnitude", "--budget", "params=0.6", "--out", tmp_path / "pruned", "--json"),
    )
    assert json.loads(outcome.stdout)["dense"] == json.loads(dense[1].stdout)["dense"]


def test_without_json_a_table_and_the_report(dense):
    out, _ = dense
    outcome = run("train", "--out", out, "--resume")
    assert "test accuracy" in outcome.stdout
    assert str(out / "report.html") in outcome.stdout
    assert json.loads(run("report", out, "--json").stdout) == {"report": str(out / "report.html")}


REFUSED = {
    "unknown net": (["--net", "vgg"], "resnet20, resnet32"),
    "unknown data": (["--data", "mnist"], "digits, cifar10, cifar100"),
    "unknown method": (["--method", "lasso"], "choose one of none, spr, .*group-lasso, .*magnitude"),
    "no data folder": (["--data", "cifar10"], "needs --data-dir"),
    "alpha": (["--alpha", "1.5"], "alpha is 1.5"),
    "m-scale": (["--m-scale", "-1"], "scale of M"),
    "strength": (["--strength", "-1"], "--strength is -1"),
    "strength nan": (["--strength", "nan"], "--strength is nan"),
    "lr": (["--lr", "0"], "--lr is 0"),
    "weight decay": (["--weight-decay", "inf"], "--weight-decay is inf"),
    "epochs": (["--epochs", "0"], "--epochs is 0"),
    "batch size": (["--batch-size", "1"], "--batch-size is 1"),
    "width": (["--width", "0"], "--width is 0"),
    "precision": (["--precision", "int8"], "float32, bfloat16"),
    "shortcut": (["--shortcut", "C"], "choose one of A, B"),
    "budget": (["--budget", "macs=2"], "KIND=SHARE"),
    "unreachable": (["--budget", "macs=0.001"], "ask for between"),
    "budget of none": (["--method", "none", "--budget", "macs=0.5"], "prunes nothing"),
    "no budget": (["--method", "magnitude"], "add --budget"),
    "no dense": (["--dense", "absent.th"], "no weights file"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_train_refuses(name, tmp_path):
    flags, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        run("train", *SMALL, *flags, "--out", tmp_path / "run")
    if name == "unknown net":
        assert not (tmp_path / "run").exists()


def test_a_strength_that_removes_everything_fails_its_check(tmp_path):
    with pytest.raises(CheckFailed, match="smaller --strength"):
        run("train", *SMALL, "--method", "spr", "--strength", "1e12", "--out", tmp_path / "run")


def test_folders_that_cannot_be_used_are_refused(dense, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        run("train", *SMALL, "--out", tmp_path / "file" / "run")
    with pytest.raises(InputError, match="not empty"):
        run("train", *SMALL, "--out", tmp_path)
    with pytest.raises(InputError, match=r"is .* a run folder"):
        run("train", "--resume", "--out", tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is .* a run folder"):
        run("prune", tmp_path, "--out", tmp_path / "pruned")
    with pytest.raises(InputError, match="not both"):
        run("prune", dense[0], "--weights", "w.th", "--out", tmp_path / "pruned")
    with pytest.raises(InputError, match="make --net"):
        run("prune", dense[0], "--width", "5", "--out", tmp_path / "pruned")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text((dense[0] / "config.json").read_text())
    with pytest.raises(InputError, match="no finished network"):
        run("prune", tmp_path / "unfinished", "--out", tmp_path / "pruned")


def test_a_corrupted_checkpoint_is_refused(dense, tmp_path):
    out = tmp_path / "run"
    (out / "checkpoint" / "000001").mkdir(parents=True)
    (out / "config.json").write_text((dense[0] / "config.json").read_text())
    with pytest.raises(InputError, match="every checkpoint"):
        run("train", "--out", out, "--resume")
    (out / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        run("train", "--out", out, "--resume")


def test_an_interrupted_run_says_how_to_continue(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nets.training.phase.write_checkpoint", interrupted)
    outcome = run("train", *SMALL, "--out", tmp_path / "run")
    assert outcome.exit_code == 130
    assert f"perspective train --out {tmp_path / 'run'} --resume" in outcome.stderr
    monkeypatch.undo()
    assert run("train", "--out", tmp_path / "run", "--resume", "--json").exit_code == 0


def test_bars_that_never_began_write_nothing(capsys):
    with EpochBars():
        pass
    assert capsys.readouterr().err == ""
    with EpochBars() as bars:
        bars.start("dense", 2, 0)
    assert capsys.readouterr().err != ""
