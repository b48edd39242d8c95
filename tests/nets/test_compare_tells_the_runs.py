"""Law: the table holds result.json's figures; what is unfinished or broken is a row that says so; means are over seeds."""

import base64
import json
import math
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from called_commands import called
from hypothesis import given
from hypothesis import strategies as st

from nets.commands.compare import compare
from nets.reports.compare import compare_runs, pareto_front
from nets.reports.compare_report import comparison_table, front_picture, write_comparison
from perspective.errors import InputError

CONFIG = {
    "command": "prune", "net": "resnet20", "data": "digits", "method": "spr", "budget": "macs=0.5", "epochs": 3,
    "data_dir": None, "dense": None, "environment": {"python": "3.11"},
}  # fmt: skip


def result(accuracy=90.0, macs=600, seed=0, **other) -> dict:
    return {
        "net": "resnet20", "data": "digits", "method": "spr", "seed": seed,
        "dense": {"test_accuracy": 95.5, "macs": 1000, "params": 400},
        "pruned": {"test_accuracy": accuracy, "macs": macs, "params": 100},
        "strength": 0.125, "alpha": 0.01, "seconds": {"dense": 1.5, "total": 12.25}, **other,
    }  # fmt: skip


def write_run(folder: Path, content: dict | None, metrics=(), **config) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "seed": (content or {}).get("seed", 0), **config}))
    if content is not None:
        (folder / "result.json").write_text(json.dumps(content))
    if metrics:
        (folder / "metrics.jsonl").write_text("\n".join(metrics))
    return folder


def test_a_row_holds_the_figures_of_result_json(tmp_path):
    run = write_run(tmp_path / "run", result(accuracy=91.25, macs=640, seed=7))
    (row,) = compare_runs([run]).rows
    assert asdict(row) == {
        "run": str(run), "status": "finished", "note": "", "net": "resnet20", "data": "digits", "method": "spr",
        "seed": 7, "dense_accuracy": 95.5, "pruned_accuracy": 91.25, "macs_share": 0.64, "params_share": 0.25,
        "macs": 640, "dense_macs": 1000, "params": 100, "seconds": 12.25, "strength": 0.125, "alpha": 0.01,
    }  # fmt: skip
    words = " ".join(comparison_table(compare_runs([run])).splitlines()[1].split())
    assert words == f"{run} resnet20 digits spr 7 95.50 91.25 64.0 % 25.0 % 12.2 0.125 0.01"


def test_means_and_deviations_over_seeds_by_hand(tmp_path):
    accuracies = {0: 90.0, 1: 91.0, 2: 95.0}
    runs = [write_run(tmp_path / f"r{k}", result(a, 500 + 100 * k, k)) for k, a in accuracies.items()]
    other = write_run(tmp_path / "other", result(80.0, 500, 3), epochs=4)
    comparison = compare_runs([runs[2], other, runs[0], runs[1]])
    group, single = comparison.groups
    assert (group.seeds, group.rows, group.budget) == ((2, 0, 1), (0, 2, 3), "macs=0.5")
    assert group.figures["pruned_accuracy"].mean == pytest.approx(92.0)
    assert group.figures["pruned_accuracy"].std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))  # n - 1
    assert group.figures["macs_share"].mean == pytest.approx(0.6)
    assert group.figures["macs_share"].std == pytest.approx(0.1)
    assert (single.seeds, single.figures["macs"].std) == ((3,), None)
    assert "92.00 ± 2.65 % at 60.00 ± 10.00 % of the MACs" in comparison_table(comparison)


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"environment": {"python": "3.12"}}, True),
        ({"alpha": 0.5}, False),
        ({"strength": 0.5}, False),
        ({"budget": "macs=0.4"}, False),
        ({"data_dir": "elsewhere"}, False),
        ({"dense": "weights.th"}, False),
    ],
)
def test_only_the_seed_and_the_machine_may_differ(tmp_path, change, alike):
    runs = [write_run(tmp_path / "a", result(seed=0)), write_run(tmp_path / "b", result(seed=1), **change)]
    assert len(compare_runs(runs).groups) == (1 if alike else 2)


def test_the_official_cifar_files_are_the_same_in_every_folder(tmp_path):
    for k in (0, 1):
        write_run(tmp_path / str(k), result(seed=k, data="cifar10"), data="cifar10", data_dir=f"disk{k}")
    assert len(compare_runs([tmp_path / "0", tmp_path / "1"]).groups) == 1


def test_a_dense_run_counts_by_its_own_settings_and_not_by_its_seed(tmp_path):
    for name, change in (("d0", {"seed": 0}), ("d1", {"seed": 1}), ("d2", {"seed": 2, "epochs": 99})):
        write_run(tmp_path / name, result(), **{"command": "train", **change})
    runs = [write_run(tmp_path / f"r{k}", result(seed=k), dense=str(tmp_path / f"d{k}")) for k in range(3)]
    assert [group.seeds for group in compare_runs(runs).groups] == [(0, 1), (2,)]


def test_the_same_experiment_twice_is_not_averaged_twice(tmp_path):
    runs = [write_run(tmp_path / name, result(a, seed=0)) for name, a in (("a", 90.0), ("b", 92.0))]
    comparison = compare_runs(runs)
    assert comparison.rows[1].pruned_accuracy == 92.0
    assert comparison.rows[1].note == f"same settings and seed as {runs[0]}; not in the means"
    assert comparison.groups[0].figures["pruned_accuracy"].mean == 90.0
    with pytest.raises(InputError, match="given twice"):
        compare_runs([runs[0], runs[0] / ".." / "a"])


BROKEN = {
    "no config": (lambda run: (run / "config.json").unlink(), "is .* a run folder"),
    "config is a list": (lambda run: (run / "config.json").write_text("[]"), "JSON object"),
    "half a result": (lambda run: (run / "result.json").write_text('{"net": "res'), "cannot be read as JSON"),
    "no accuracy": (lambda run: change(run, {"pruned": {"macs": 1, "params": 1}}), "test_accuracy"),
    "no dense": (lambda run: change(run, {"dense": None}), "run it again"),
    "NaN": (lambda run: change(run, {"pruned": {"test_accuracy": math.nan, "macs": 1, "params": 1}}), "accuracy is nan"),
    "no MACs": (lambda run: change(run, {"dense": {"test_accuracy": 1.0, "macs": 0, "params": 1}}), "must be positive"),
    "text": (lambda run: change(run, {"seed": "seven"}), "no whole number"),
    "a certification": (lambda run: change(run, {"seconds": {}}), "total"),
}  # fmt: skip


def change(run: Path, fields: dict) -> None:
    (run / "result.json").write_text(json.dumps({**json.loads((run / "result.json").read_text()), **fields}))


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_run_is_a_row_that_says_so(tmp_path, name):
    good, bad = write_run(tmp_path / "good", result()), write_run(tmp_path / "bad", result(seed=5))
    damage, sentence = BROKEN[name]
    damage(bad)
    comparison = compare_runs([bad, good])
    assert [row.status for row in comparison.rows] == ["broken", "finished"]
    assert re.search(sentence, comparison.rows[0].note)
    assert comparison.rows[0].pruned_accuracy is None
    assert [group.rows for group in comparison.groups] == [(1,)]
    assert "broken: " in comparison_table(comparison)


def test_an_unfinished_run_says_how_far_it_came_and_how_to_go_on(tmp_path):
    lines = ['{"phase": "dense", "epoch": 1}', '{"phase": "regularise", "epoch": 2}', '{"phase": "regul']
    runs = [write_run(tmp_path / "a", None, lines, seed=4), write_run(tmp_path / "b", None)]
    comparison = compare_runs(runs)
    notes = [row.note for row in comparison.rows]
    assert [row.status for row in comparison.rows] == ["unfinished"] * 2
    assert (comparison.rows[0].method, comparison.rows[0].seed) == ("spr", 4)
    assert notes[0] == f"regularise phase, epoch 2 done; continue with perspective prune --out {runs[0]} --resume"
    assert notes[1].startswith("no epoch is done; ")
    assert comparison.groups == ()
    page = write_comparison(comparison, tmp_path / "out").read_text()
    assert "0 of 2 are finished" in page
    assert "<img" not in page


def test_the_front_by_hand():
    #        best      worse     front     dearer    equal to the front's second
    points = [(1, 50.0), (2, 40.0), (3, 70.0), (4, 70.0), (3, 70.0), (9, 90.0), (9, 80.0)]
    assert pareto_front(points) == [True, False, True, False, True, True, False]
    assert pareto_front([]) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_a_sweep_from_the_left_finds(points):
    best, swept = -1, set()
    for cost in sorted({cost for cost, _ in points}):
        value = max(v for c, v in points if c == cost)
        if value > best:
            best = value
            swept.add((cost, value))
    assert pareto_front(points) == [point in swept for point in points]


def test_the_front_is_of_means_and_of_one_data_set(tmp_path):
    lucky = [write_run(tmp_path / f"l{k}", result(a, 600, k), epochs=9) for k, a in enumerate((94.0, 80.0))]
    steady = write_run(tmp_path / "s", result(90.0, 600, 0))
    other = write_run(tmp_path / "o", result(10.0, 900, 0, data="other"), data="other")
    comparison = compare_runs([*lucky, steady, other])
    assert [group.on_front for group in comparison.groups] == [False, True, True]
    ax = front_picture(comparison, "digits").axes
    front = next(line for line in ax.lines if line.get_label() == "front")
    assert front.get_xydata().tolist() == [[600 / 1e6, 90.0]]


def test_the_page_and_the_json_agree_and_nothing_comes_from_outside(tmp_path):
    runs = [write_run(tmp_path / f"r{k}", result(90.0 + k, 600, k)) for k in range(3)]
    runs.append(write_run(tmp_path / "<b>odd</b>", None, method="<script>alert(1)</script>"))
    comparison = compare_runs(runs)
    page = write_comparison(comparison, tmp_path / "new" / "out")
    assert json.loads((page.parent / "compare.json").read_text()) == comparison.as_json()
    assert sorted(p.name for p in page.parent.iterdir()) == ["compare.html", "compare.json"]
    text = page.read_text()
    assert "91.00 ± 1.00" in text
    assert "3 of 4 are finished" in text
    assert "unfinished" in text
    assert "<script" not in text
    assert "<b>odd" not in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/svg+xml;base64,")
    svg = base64.b64decode(sources[0].split(",")[1]).decode()
    assert not re.search(r'(?:xlink:href|src|href)="https?:', svg)
    before = page.read_bytes()
    assert write_comparison(compare_runs(runs), page.parent).read_bytes() == before


invoke = called(compare)


def test_the_command_prints_one_json_object_and_writes_only_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [write_run(tmp_path / name, result(seed=k)) for k, name in enumerate("ab")]
    content = json.loads(invoke(*runs, "--json").stdout)
    assert content == compare_runs(runs).as_json()
    assert {"rows", "groups"} == content.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    outcome = invoke(*runs, "--out", "c")
    assert "page: c/compare.html" in outcome.stdout
    assert (tmp_path / "c" / "compare.json").is_file()


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to compare"):
        invoke()
    with pytest.raises(InputError, match="no run folder"):
        invoke(tmp_path / "absent")
    with pytest.raises(InputError, match="nothing to compare"):
        compare_runs([])
    run = write_run(tmp_path / "run", result())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        invoke(run, "--out", tmp_path / "file")
