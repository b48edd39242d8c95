"""Law: the page holds the run's figures, nothing from outside, no NaN, and does without what a run does not have."""

import base64
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from called_commands import called

import nets.commands.train as commands
from nets.report import write_report
from nets.reports.curves import bind_spr, chain_picture, penalty_picture, prox_picture
from nets.settings import as_json, new_settings
from perspective.errors import InputError

CONFIG = {
    "command": "train", "net": "resnet20", "data": "digits", "method": "spr", "epochs": 3, "alpha": 0.1,
    "lr": 0.1, "data_dir": None, "dense": None, "seed": 7, "environment": {"argv": ["secret"], "python": "3.11"},
}  # fmt: skip
RESULT = {
    "net": "resnet20", "data": "digits", "method": "spr", "seed": 7,
    "dense": {"test_accuracy": 98.61, "macs": 2_534_528, "params": 269_434},
    "pruned": {"test_accuracy": 97.23, "macs": 1_199_876, "params": 104_522},
    "budget": {"kind": "macs", "asked": 0.48, "reached": 0.4734},
    "equality": {"max_abs_logit_difference": 1.9e-6},
    "alpha": 0.1, "bounds": {"conv1": 0.5, "layer1.0.conv1": 0.9, "<b>odd</b>": 0.7},
    "layers": [{"name": "conv1", "before": 16, "after": 11}, {"name": "<b>odd</b>", "before": 16, "after": 0}],
    "seconds": {"dense": 12.5}, "environment": {"packages": {"torch": "2.15"}},
}  # fmt: skip
CHAIN = {"big_m": 812.3, "cone": 1204.7, "projected": 1204.7, "exact": 1301.2, "gap_closed": 0.803}


def line(phase: str, epoch: int, alive: int, **other) -> dict:
    figures = {"train_loss": 2.0 / (1 + epoch), "train_accuracy": 50 + epoch, "validation_accuracy": 48 + epoch}
    return {"phase": phase, "epoch": epoch, **figures, "penalty": 0.5, "surviving": {"conv1": alive}, **other}


METRICS = [line("dense", e, 16) for e in range(3)] + [line("regularise", e, 16 - 2 * e) for e in range(3)]


def write_run(folder: Path, config=CONFIG, result=RESULT, metrics=METRICS, chain=CHAIN) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    if metrics is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
    if chain is not None:
        (folder / "bound_chain.json").write_text(json.dumps(chain))
    return folder


class Page(HTMLParser):
    """What a browser would make of it: text, attributes, and whether the tags close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.attributes, self.open, self.pictures = "", [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def drawings(self) -> list[str]:
        prefix = "data:image/svg+xml;base64,"
        assert all(picture["src"].startswith(prefix) for picture in self.pictures)
        return [base64.b64decode(picture["src"][len(prefix) :]).decode() for picture in self.pictures]


def test_the_figures_are_there_and_nothing_comes_from_outside(tmp_path):
    run = write_run(tmp_path / "run")
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert page.open == []
    for figure in (
        "98.61",
        "97.23",
        "1.2 million",
        "104,522",
        "269,434",
        "47.3 %",
        "1.9 × 10⁻⁶",
        "53 % less",
        "seed 7",
    ):
        assert figure in page.text
    assert "Asked for: 48.0 % of the macs; reached: 47.34 %" in page.text
    assert "perspective train --net resnet20 --data digits --method spr" in page.text
    assert "secret" not in page.text
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("data:") for value in links)
    assert "<script" not in path.read_text()
    assert "url(" not in path.read_text()
    assert all(picture["alt"] for picture in page.pictures)
    assert len(page.pictures) == 9
    for svg in page.drawings():
        assert "nan" not in re.sub(r"<metadata>.*</metadata>", "", svg, flags=re.S).lower()
        assert not re.search(r'(?:xlink:href|src|href)="https?:', svg)
    assert not re.search(r"\bnan\b|\binf\b|None|undefined", page.text, flags=re.I)
    assert sorted(p.name for p in run.iterdir() if p.name.startswith(".")) == []


REPEATED = [
    ("train", {"net": "resnet20", "data": "digits", "method": "none", "epochs": 2}),
    ("train", {"net": "resnet20", "data": "digits", "method": "spr", "coupled": True, "budget": "macs=0.5", "seed": 3}),
    ("train", {"recipe": "spr-cifar", "scale_epochs": 0.1, "data_dir": "/a folder/x"}),
    ("prune", {"net": "resnet20", "data": "digits", "method": "lq", "budget": "macs=0.5", "dense": "/w.th", "exclude": "c1"}),
    ("prune", {"net": "resnet20", "data": "digits", "method": "spr", "strength": 2.0, "dense": "/runs/d", "tensorboard": True}),
]  # fmt: skip


@pytest.mark.parametrize(("command", "given"), REPEATED)
def test_the_command_on_the_page_asks_for_the_same_run(tmp_path, monkeypatch, command, given):
    given = {"recipe": None, **given}
    wanted = as_json(new_settings(command, {name: value for name, value in given.items() if value is not None}))
    run = write_run(tmp_path / "run", config={**wanted, "environment": {}}, metrics=None, chain=None)
    text = re.search(rf"perspective {command} --?[^\n]*|perspective {command} /[^\n]*", Page(write_report(run)).text)[0]
    found = []
    monkeypatch.setattr(commands, "read_json", lambda path: {})  # of a dense run's shape: all of it is on the page
    monkeypatch.setattr(commands, "_run", lambda *arguments: found.append(arguments))
    outcome = called(getattr(commands, command))(*shlex.split(text)[2:])
    assert outcome.exit_code == 0, outcome.output
    _, said, defaults, out, resume, _ = found[0]
    plain = {
        name: str(value) if isinstance(value, Path) else value for name, value in said.items() if value is not None
    }
    assert as_json(new_settings(command, {**defaults, **plain})) == wanted
    assert (str(out), resume) == ("NEW_run", False)


@pytest.mark.parametrize("bounded", [True, False])
def test_the_bound_stands_beside_the_measured_error(tmp_path, bounded):
    form = {"pruned_weights": 1234, "measured": 0.51, "bound": 6.7e11 if bounded else None, "why": "a sentence"}
    result = {
        **RESULT,
        "method": "lq",
        "findings": {"eta": 0.2, "filters": form, "neurons": {**form, "measured": 0.02}},
    }
    page = Page(write_report(write_run(tmp_path / "run", result=result)))
    assert page.open == []
    for words in (
        "How far an answer can move",
        "1,234",
        "0.51",
        "0.02",
        "6.7 × 10¹¹" if bounded else "none: a sentence",
    ):
        assert words in page.text
    assert "How far an answer can move" not in Page(write_report(write_run(tmp_path / "other"))).text


def test_names_from_files_are_text_not_markup(tmp_path):
    config = {**CONFIG, "data_dir": "<script>alert(1)</script>"}
    path = write_report(write_run(tmp_path / "run", config=config))
    assert "<script" not in path.read_text()
    assert "<script>alert(1)</script>" in Page(path).text
    assert "<b>odd</b>" not in path.read_text()


@pytest.mark.parametrize("left", [0, 3])
def test_zero_channels_that_had_to_stay_are_named(tmp_path, left):
    page = Page(write_report(write_run(tmp_path / "run", result={**RESULT, "zero_channels_left": left})))
    assert ("3 zero channels had to stay" in page.text) == (left == 3)
    assert ("had to stay" in page.text) == (left > 0)


def test_the_same_files_give_the_same_page(tmp_path):
    run = write_run(tmp_path / "run")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_run_that_pruned_nothing(tmp_path):
    dense = RESULT["dense"]
    result = {**RESULT, "method": "none", "pruned": dense, "alpha": None, "bounds": {}, "layers": []}
    config = {**CONFIG, "method": "none"}
    page = Page(
        write_report(write_run(tmp_path / "run", config=config, result=result, metrics=METRICS[:2], chain=None))
    )
    assert "nothing was pruned" in page.text
    assert "less arithmetic" not in page.text
    assert len(page.pictures) == 4


@pytest.mark.parametrize(
    ("metrics", "pictures"),
    [
        (None, 6),
        ([], 6),
        ([{"phase": "dense", "epoch": 0}], 8),
        ([{"epoch": 0, "train_loss": None}, {"surviving": {"conv1": 3}, "channels": {"conv1": 4}}], 9),
    ],
)
def test_missing_and_partial_metrics(tmp_path, metrics, pictures):
    path = write_report(write_run(tmp_path / "run", metrics=metrics))
    page = Page(path)
    assert len(page.pictures) == pictures
    assert ("no record of the epochs" in page.text) is (not metrics)


def test_an_unfinished_last_line_of_metrics_is_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    whole = write_report(run).read_bytes()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "regul')
    assert write_report(run).read_bytes() == whole


def test_without_a_bound_chain_the_page_says_how_to_add_it(tmp_path):
    page = Page(write_report(write_run(tmp_path / "run", chain=None)))
    assert "perspective verify --json > run/bound_chain.json" in page.text


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "result.json").unlink(),
        lambda run: (run / "config.json").write_text("{"),
        lambda run: (run / "result.json").write_text(json.dumps({**RESULT, "dense": {}})),
        lambda run: (run / "result.json").write_text(json.dumps({**RESULT, "equality": {}})),
        lambda run: (run / "result.json").write_text(json.dumps({**RESULT, "dense": {**RESULT["dense"], "macs": float("nan")}})),
        lambda run: (run / "bound_chain.json").write_text(json.dumps({**CHAIN, "cone": float("inf")})),
        lambda run: (run / "bound_chain.json").write_text("{}"),
    ],
)  # fmt: skip
def test_a_folder_without_a_finished_run_is_refused(tmp_path, change):
    run = write_run(tmp_path / "run")
    change(run)
    with pytest.raises(InputError):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("alpha", "bound"), [(0.1, 0.55), (0.001, 0.3), (0.9, 2.0), (0.5, 1e-3)])
def test_the_curves_are_those_of_the_regulariser(alpha, bound):
    num = bind_spr(alpha, bound)
    penalty = {line.get_label(): line.get_xydata() for line in penalty_picture(num, bound).axes.lines}
    x, y = penalty["projected penalty r"].T
    assert np.allclose(y, num.value(np.repeat(x[:, None], 144, axis=1)))
    true = dict(penalty["true cost: price + ridge if kept, 0 if not"])
    assert np.all(y[1:] <= np.array(list(true.values())) + 1e-12)  # a relaxation lies below
    step = {line.get_label(): line.get_xydata() for line in prox_picture(num, bound).axes.lines}
    x, y = step["projected penalty"].T
    assert y[0] == 0
    assert np.all(np.diff(y) >= -1e-12)
    assert np.all(y <= x + 1e-12)
    dead = x[y == 0].max()
    marks = [data[0] for label, data in step.items() if len(data) == 1]
    assert any(0 <= mark[0] - dead <= 2 * x[1] for mark in marks)


def test_the_chain_is_drawn_at_its_values():
    drawn = [tuple(line.get_xdata()) for line in chain_picture(CHAIN).axes.lines]
    assert [value for (value, *rest) in drawn if not rest] == [812.3, 1204.7, 1204.7, 1301.2]
