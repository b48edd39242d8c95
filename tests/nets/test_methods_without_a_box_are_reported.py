"""Law: a method whose penalty has no box M ends with a result and a report like any other, and claims no box and no alpha."""

from nets.settings import new_settings
from nets.train import train


def test_group_lasso_has_no_box_and_still_a_report(tmp_path):
    given = {"net": "resnet20", "width": 3, "data": "digits", "method": "group-lasso", "budget": "macs=0.5"}
    found = new_settings("train", {**given, "epochs": 1, "finetune_epochs": 0, "batch_size": 512})
    result = train(found, tmp_path / "run")
    assert (result["bounds"], result["alpha"]) == ({}, None)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
