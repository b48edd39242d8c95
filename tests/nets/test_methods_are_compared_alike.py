"""Law: compared methods start from the same dense network, train the same number of epochs and meet the same budgets; what
would not be comparable is refused in one sentence before anything runs."""

from pathlib import Path

import pytest
from called_commands import called
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.commands.compare import compare
from nets.methods import ALL
from nets.settings import new_settings
from nets.sweeps.own_flags import parse_own
from nets.sweeps.protocol import (
    Protocol,
    lay_out_dense,
    lay_out_methods,
    parse_budgets,
    parse_methods,
)
from nets.sweeps.told import describe_protocol
from perspective import InputError

PRUNING = [kind.name for kind in ALL if kind.prunes]
call = called(compare, raises=False)


def protocol(**changes):
    shared = {"net": "resnet20", "data": "digits", "width": 3}
    base = {"methods": ("spr", "magnitude"), "budgets": ("macs=0.5",), "seeds": (0, 1), "epochs": 1}
    return Protocol(**{**base, "finetune_epochs": 1, "dense_epochs": 2, "weights": None, "shared": shared, **changes})


@given(
    methods=st.lists(st.sampled_from(PRUNING), min_size=1, unique=True),
    shares=st.lists(st.floats(0.2, 0.9).map(lambda x: round(x, 2)), min_size=1, max_size=3, unique=True),
    seeds=st.integers(1, 3),
    epochs=st.integers(1, 9),
    after=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_every_cell_trains_as_many_epochs_from_the_network_of_its_seed(methods, shares, seeds, epochs, after):
    budgets = parse_budgets("params=0.95,macs=" + ",".join(map(str, shares)))
    assert budgets == ("params=0.95", *(f"macs={share:g}" for share in shares))
    asked = protocol(
        methods=tuple(methods), budgets=budgets, seeds=tuple(range(seeds)), epochs=epochs, finetune_epochs=after
    )
    cells = lay_out_methods(asked, Path("out"))
    assert [tuple(cell.axes.values()) for cell in cells] == [
        (method, budget, str(seed)) for method in methods for budget in budgets for seed in range(seeds)
    ]
    assert len({cell.name for cell in cells}) == len(cells)
    dense = {cell.axes["seed"]: cell for cell in lay_out_dense(asked)}
    assert [cell.settings["seed"] for cell in dense.values()] == list(range(seeds))
    for cell in cells:
        found = new_settings("prune", cell.settings)
        penalised = next(kind.regularises for kind in ALL if kind.name == found.method)
        assert (found.epochs if penalised else 0) + found.finetune_epochs == epochs + after
        assert (found.width, found.budget) == (3, cell.axes["budget"])
        assert found.dense == str((Path("out") / dense[cell.axes["seed"]].name).resolve())


def test_a_flag_of_one_method_is_of_no_other():
    own = parse_own(["spr:lr=0.5", "spr:allocation=price", "magnitude:coupled=true"], ("spr", "magnitude"))
    for cell in lay_out_methods(protocol(own=own), Path("out")):
        found = new_settings("prune", cell.settings)
        assert (found.lr, found.allocation, found.coupled) == (
            (0.5, "price", False) if found.method == "spr" else (0.02, None, True)
        )
    told = describe_protocol(protocol(own=own))
    assert told[-2:] == ["Only spr: lr 0.5, allocation price.", "Only magnitude: coupled True."]


def test_the_reader_is_told_how_every_method_shares_the_budget_out():
    methods = ("spr", "magnitude", "lq", "layerwise", "random")
    own = parse_own(["spr:allocation=error", "random:allocation=price"], methods)
    told = "Shares of the layers (--allocation): "
    assert told + "spr: error; magnitude: even; lq, random: price; layerwise: its own choice." in describe_protocol(
        protocol(methods=methods, own=own)
    )
    for_all = protocol(methods=methods, shared={**protocol().shared, "allocation": "error"})
    assert told + "spr, magnitude, lq, random: error; layerwise: its own choice." in describe_protocol(for_all)


@pytest.mark.parametrize("continues", [False, True])
def test_a_rate_of_its_own_leaves_the_fine_tuning_that_of_all(continues):
    shared = {**protocol().shared, "optimizer": "nesterov"} | ({"finetune_schedule": "continue"} if continues else {})
    own = {"greg2": {"lr": 0.001}, "chipnet": {"optimizer": "adamw"}, "magnitude": {"lr": 0.5}}
    asked = protocol(methods=("greg2", "chipnet", "magnitude", "spr"), shared=shared, own=own)
    found = {cell.axes["method"]: new_settings("prune", cell.settings) for cell in lay_out_methods(asked, Path("out"))}
    after = {m: (x.lr if x.continues else x.finetune_lr, x.optimizer_of("finetune")) for m, x in found.items()}
    assert (found["greg2"].lr, found["chipnet"].optimizer) == (0.001, "adamw")
    assert after["spr"] == (0.02, "nesterov")
    told = next(sentence for sentence in describe_protocol(asked) if sentence.startswith("Learning rates: "))
    if continues:  # one schedule, so one rate
        assert (after["greg2"], after["chipnet"][1]) == ((0.001, "nesterov"), "adamw")
        assert "greg2: nesterov from 0.001, nesterov after removal, in one schedule" in told
    else:
        assert after["greg2"] == after["chipnet"] == (0.02, "nesterov")
        assert "greg2: nesterov from 0.001, then nesterov from 0.02 in a schedule of its own" in told
        assert "chipnet: adamw from 0.0002, then nesterov from 0.02 in a schedule of its own" in told
    assert f"magnitude: nesterov from {0.5 if continues else 0.02} in one schedule" in told


@given(st.integers(1, 6), st.integers(0, 6), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_a_split_of_its_own_is_of_the_same_total(epochs, after, own):
    asked = protocol(epochs=epochs, finetune_epochs=after, own={"spr": {"epochs": own}})
    if own > epochs + after:
        with pytest.raises(InputError, match="every method has"):
            lay_out_methods(asked, Path("out"))
        return
    for cell in lay_out_methods(asked, Path("out")):
        found = new_settings("prune", cell.settings)
        assert (found.epochs if found.method == "spr" else 0) + found.finetune_epochs == epochs + after
        assert found.method != "spr" or found.epochs == own
    assert f"; spr: {own} and {epochs + after - own}" in describe_protocol(asked)[0]


def test_given_weights_stand_for_every_seed(tmp_path):
    file = tmp_path / "w.th"
    file.write_bytes(b"")
    asked = protocol(weights=file)
    assert lay_out_dense(asked) == ()
    for cell in lay_out_methods(asked, tmp_path):
        words = cell.arguments((), Path("x"), resume=False)
        assert words[:3] == ["prune", "--weights", str(file)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--methods", "spr,sprr"], "unknown method 'sprr'"),
        (["--methods", "spr,none"], "none prunes nothing"),
        (["--methods", "spr,spr"], "names one twice"),
        (["--methods", "spr", "--budget", "0.5"], "is not KIND=SHARE"),
        (["--methods", "spr", "--budget", "macs=0.5,0.5"], "names one twice"),
        (["--methods", "spr", "--budget", "macs=0.5,2"], "is not KIND=SHARE"),
        (["--methods", "spr", "--seeds", "0"], "at least 1"),
        (["--methods", "spr", "--jobs", "0"], "at least 1"),
        (["--methods", "spr", "--epochs", "0"], "--epochs is 0"),
        (["--methods", "spr", "--dense-epochs", "0"], "--epochs is 0"),
        (["--methods", "spr", "--lr", "-1"], "--lr is -1"),
        (["--methods", "spr", "--weights", "nowhere"], "nothing at nowhere"),
        (["--methods", "spr", "--weights", __file__, "--net", "resnet20"], "needs --net and --data"),
        (["--methods", "spr", "--weights", __file__, "--dense-epochs", "3"], "leave --dense-epochs out"),
        (["--methods", "spr", "run"], "not both"),
        (["run", "--lr", "0.1"], "--lr trains runs"),
        (["run", "--data-dir", "x"], "--data-dir trains runs"),
        (["--methods", "spr", "--own", "magnitude:lr=1"], "not among --methods"),
        (["--methods", "spr", "--own", "spr:lr"], "is not METHOD:FLAG=VALUE"),
        (["--methods", "spr", "--own", "spr:rate=1"], "is not METHOD:FLAG=VALUE"),
        (["--methods", "spr", "--own", "spr:finetune_epochs=1"], "must be the same for all"),
        (["--methods", "spr", "--own", "spr:epochs=0"], "every method has 45 epochs; take 1 to 45"),
        (["--methods", "spr", "--own", "spr:epochs=46"], "every method has 45 epochs; take 1 to 45"),
        (["--methods", "lq", "--own", "lq:epochs=1"], "lq has no phase under a penalty"),
        (["--methods", "spr", "--own", "spr:lr=fast"], "is not a number"),
        (["--methods", "spr", "--own", "spr:coupled=1"], "spr:coupled=true"),
        (["--methods", "spr", "--own", "spr:lr=1", "--own", "spr:lr=2"], "twice"),
    ],
)
def test_bad_usage_is_one_sentence_before_any_cell(tmp_path, arguments, sentence):
    budget = [] if "--budget" in arguments or "--methods" not in arguments else ["--budget", "macs=0.5"]
    outcome = call(*arguments, *budget, "--out", tmp_path / "out")
    assert isinstance(outcome.exception, InputError)
    assert sentence in str(outcome.exception)
    assert not (tmp_path / "out").exists()


def test_methods_want_a_budget_and_a_folder():
    for arguments in (["--budget", "macs=0.5"], ["--out", "x"]):
        assert "needs --budget and --out" in str(call("--methods", "spr", *arguments).exception)
    assert parse_methods(" spr , magnitude") == ("spr", "magnitude")
