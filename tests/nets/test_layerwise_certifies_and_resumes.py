"""`perspective certify`: every layer's answer is the best of all choices, and no finished layer is ever solved twice."""

import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from called_commands import called
from safetensors.torch import save_file

from nets.certification import certify as certification
from nets.certification.progress import LayerBars
from nets.certification.report import solve_command
from nets.commands import train as commands
from nets.commands.certify import certify
from nets.resnet import resnet20
from perspective import CheckFailed, InputError

run = called(certify)

TWO = "layer1.0.conv2,layer1.2.conv2"
SMALL = ("--net", "resnet20", "--data", "digits", "--width", "4", "--images", "200", "--positions", "5")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network with statistics of its own in every normalisation."""
    torch.manual_seed(5)
    model = resnet20(in_channels=1, width=4).train()
    with torch.no_grad():
        model(torch.randn(64, 1, 8, 8))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def finished(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("certified") / "out"
    return out, run("--weights", weights, *SMALL, "--layers", TWO, "--gap", "1e-4", "--out", out, "--json")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


def stamps(out):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((out / "layers").iterdir())}


def test_one_json_object_and_a_page(finished):
    out, outcome = finished
    result = json.loads(outcome.stdout)
    assert result == json.loads((out / "result.json").read_text())
    assert [layer["name"] for layer in result["layers"]] == TWO.split(",")
    page = (out / "report.html").read_text()
    assert all(name in page for name in TWO.split(","))
    assert page.count("data:image/svg+xml;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")


def test_the_answer_is_the_best_of_all_choices(finished):
    out, outcome = finished
    for layer in json.loads(outcome.stdout)["layers"]:
        data = np.load(out / "problems" / f"{layer['name']}.npz")
        ridge, charge, groups = layer["ridge"], layer["charge"], data["groups"]

        def value(kept, data=data, ridge=ridge, charge=charge, groups=groups):
            columns = np.isin(groups, kept)
            A = np.vstack([data["inputs"][:, columns], np.sqrt(ridge) * np.eye(columns.sum())])
            b = np.vstack([data["targets"], np.zeros((columns.sum(), 4))])
            return np.sum((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2) + charge * len(kept)

        best = min(value(kept) for k in range(5) for kept in combinations(range(4), k))
        assert layer["status"] == "optimal"
        assert layer["certificate_holds"] is True
        assert layer["objective"] == pytest.approx(best, rel=2e-4)
        assert layer["lower_bound"] <= best * (1 + 1e-9)
        assert layer["samples"] == 1000
        least = min(choice["objective"] for choice in layer["choices"].values())
        assert layer["objective"] == pytest.approx(least, rel=1e-8)
        assert layer["history"][-1] == [layer["seconds"], layer["objective"], layer["lower_bound"]]
        for choice in layer["choices"].values():
            assert choice["objective"] == pytest.approx(value(choice["channels"]), rel=1e-6)
            known = min(c["objective"] for c in layer["choices"].values())
            assert choice["above_best"] == pytest.approx(1 - known / choice["objective"], abs=1e-8)


def test_the_page_tells_how_to_solve_a_layer_again(finished):
    out, outcome = finished
    for layer in json.loads(outcome.stdout)["layers"]:
        command = solve_command(layer)
        assert html.escape(command, quote=True).replace("&quot;", "&#34;") in (out / "report.html").read_text()
        words = [sys.executable, "-m", *shlex.split(command), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(Path(certification.__file__).parent.parent.parent)}
        done = subprocess.run(words, capture_output=True, text=True, cwd=out, env=environment, check=True, timeout=120)
        assert json.loads(done.stdout)["objective"] == pytest.approx(layer["objective"], rel=1e-6)


def test_a_second_call_solves_nothing(copy, weights, monkeypatch):
    before = stamps(copy)

    def forbidden(jobs, *rest):
        assert jobs == []
        return []

    monkeypatch.setattr(certification, "run_jobs", forbidden)
    outcome = run("--weights", weights, *SMALL, "--layers", TWO, "--gap", "1e-4", "--out", copy, "--processes", 1)
    assert stamps(copy) == before
    assert "layer1.0.conv2" in outcome.stdout
    assert str(copy / "report.html") in outcome.stdout.replace("\n", "")


@pytest.mark.parametrize("change", ["settings", "weights", "damage"])
def test_what_no_longer_answers_the_question_is_solved_again(copy, weights, monkeypatch, tmp_path, change):
    arguments = [*SMALL, "--layers", TWO, "--gap", "1e-4"]
    expected = set(TWO.split(","))
    if change == "settings":
        arguments += ["--keep", "3"]
    elif change == "weights":
        other = resnet20(in_channels=1, width=4)
        save_file(other.state_dict(), weights := tmp_path / "other.safetensors")
    else:
        (copy / "layers" / "layer1.2.conv2.json").write_text('{"name": "layer1.2')
        expected = {"layer1.2.conv2"}
    solved = []

    def noted(jobs, processes, started, done):
        solved.extend(job.name for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(certification, "run_jobs", noted)
    assert run("--weights", weights, *arguments, "--out", copy).exit_code == 130
    assert set(solved) == expected


def test_an_interrupted_run_keeps_what_is_finished(weights, tmp_path, monkeypatch):
    out, finish = tmp_path / "out", LayerBars.finish

    def interrupted(self, name, note):
        raise KeyboardInterrupt

    arguments = ("--weights", weights, *SMALL, "--layers", TWO, "--processes", 1, "--out", out)
    with monkeypatch.context() as patched:
        patched.setattr(LayerBars, "finish", interrupted)
        outcome = run(*arguments)
    assert outcome.exit_code == 130
    assert "the same command continues" in outcome.stderr
    before = stamps(out)
    assert set(before) == {"layer1.0.conv2.json"}
    assert LayerBars.finish is finish
    assert run(*arguments, "--json").exit_code == 0
    after = stamps(out)
    assert set(after) == {f"{name}.json" for name in TWO.split(",")}
    assert after["layer1.0.conv2.json"] == before["layer1.0.conv2.json"]


def test_a_killed_run_is_continued(weights, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "perspective", "certify", "--weights", weights, *SMALL, "--processes", "1"]
    command += ["--layers", TWO, "--out", out]
    with subprocess.Popen(
        [str(c) for c in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        assert any("layer1.0.conv2: " in line for line in process.stderr)
        process.kill()
        process.stderr.read()  # until the child has noticed, too
    before = stamps(out)["layer1.0.conv2.json"]
    assert not (out / "result.json").exists()
    done = subprocess.run(
        [str(c) for c in [*command, "--json"]], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 2 layers are finished already: layer1.0.conv2" in done.stderr
    assert stamps(out)["layer1.0.conv2.json"] == before
    assert [layer["name"] for layer in json.loads(done.stdout)["layers"]] == TWO.split(",")


def test_a_layer_that_fails_costs_its_own_row_only(weights, tmp_path, monkeypatch):
    write = certification.write_problem

    def damaged(path, data):
        write(path, data)
        if path.name == "layer1.0.conv2.npz":
            path.write_bytes(path.read_bytes()[:100])

    monkeypatch.setattr(certification, "write_problem", damaged)
    with pytest.raises(CheckFailed, match=r"1 of 2 layers have no certified choice: layer1\.0\.conv2"):
        run("--weights", weights, *SMALL, "--layers", TWO, "--out", tmp_path / "out")
    first, second = json.loads((tmp_path / "out" / "result.json").read_text())["layers"]
    assert "truncated" in first["error"]
    assert second["certificate_holds"] is True
    assert "truncated" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "layer1.0.conv1"], "no prunable layer; choose among layer1.0.conv2"),
        (["--keep", "0.5", "--price", "0.1"], "exactly one"),
        (["--keep", "-1"], "positive"),
        (["--images", "100000"], "training images; ask for fewer"),
        (["--images", "0"], "--images"),
        (["--gap", "2"], "--gap"),
        (["--time-limit", "0"], "--time-limit"),
        (["--processes", "0"], "--processes"),
        (["--backend", "cplex"], "unknown --backend"),
        (["--strengthen", "much"], "unknown --strengthen"),
    ],
)
def test_bad_flags_are_one_sentence(weights, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        run("--weights", weights, *SMALL, *arguments, "--out", tmp_path / "out")


def test_folders_and_sources_that_do_not_fit_are_refused(weights, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty; choose another --out"):
        run("--weights", weights, *SMALL, "--out", tmp_path)
    (tmp_path / "config.json").write_text('{"command": "train"}')
    with pytest.raises(InputError, match="another kind of run"):
        run("--weights", weights, *SMALL, "--out", tmp_path)
    with pytest.raises(InputError, match="run folder, or --weights"):
        run("--net", "resnet20", "--out", tmp_path / "out")
    with pytest.raises(InputError, match="--weights needs --net and --data"):
        run("--weights", weights, "--out", tmp_path / "out")
    with pytest.raises(InputError, match="no weights file"):
        run("--weights", tmp_path / "nowhere.th", *SMALL, "--out", tmp_path / "out")


def test_a_run_folder_brings_its_own_network_and_data(tmp_path):
    short = {"net": "resnet20", "data": "digits", "width": 4, "epochs": 1, "batch_size": 256}
    commands.train(out=tmp_path / "run", method="none", **short)
    arguments = ("--layers", "layer2.0.conv2", "--images", 200, "--at-most", 5, "--time-limit", 20)
    result = json.loads(run(tmp_path / "run", *arguments, "--out", tmp_path / "out", "--json").stdout)
    (layer,) = result["layers"]
    assert (result["net"], result["data"], result["width"]) == ("resnet20", "digits", 4)
    assert (layer["form"], layer["channels"], layer["kept"]) == ("at_most", 8, 5)
    assert layer["choices"]["greedy"]["kept"] == layer["choices"]["magnitude"]["kept"] == 5
    assert layer["gap"] <= 1e-3


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("PERSPECTIVE_DATA") and os.environ.get("PERSPECTIVE_WEIGHTS")),
    reason="PERSPECTIVE_DATA or PERSPECTIVE_WEIGHTS (folder with resnet20-12fca82f.th) names no folder",
)
def test_a_layer_of_a_public_network(tmp_path):
    file = Path(os.environ["PERSPECTIVE_WEIGHTS"]) / "resnet20-12fca82f.th"
    source = ("--weights", file, "--net", "resnet20", "--data", "cifar10", "--data-dir", os.environ["PERSPECTIVE_DATA"])
    arguments = ("--layers", "layer1.0.conv2", "--time-limit", 60, "--out", tmp_path / "out", "--json")
    (layer,) = json.loads(run(*source, *arguments).stdout)["layers"]
    assert (layer["samples"], layer["features"], layer["outputs"], layer["channels"]) == (20_000, 144, 16, 16)
    assert layer["status"] == "optimal"
    assert layer["gap"] <= 1e-3
    assert layer["choices"]["incumbent"]["above_best"] <= layer["gap"]
