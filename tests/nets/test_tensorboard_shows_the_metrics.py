"""Law: the scalars are the numbers of metrics.jsonl, each epoch once, also after a run was resumed."""

import importlib.util
import json
import sys
from unittest.mock import Mock

import pytest

from nets.training.tensorboard import open_writer, write_scalars
from perspective.errors import CheckFailed, InputError

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="the extra 'tensorboard' is not installed"
)


def line(phase: str, epoch: int, **other) -> dict:
    return {
        "phase": phase,
        "epoch": epoch,
        "train_loss": 1.0 / epoch,
        "penalty": None,
        "surviving": {"conv1": 4},
        **other,
    }


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_number_is_written_under_its_phase():
    writer = Mock()
    write_scalars(writer, line("dense", 3, lr=0.5, note="text", done=True, channels={"conv1": 8, "odd/name": 2}))
    written = {call.args for call in writer.add_scalar.call_args_list}
    assert written == {
        ("dense/train_loss", 1 / 3, 3),
        ("dense/lr", 0.5, 3),
        ("dense surviving/conv1", 4, 3),
        ("dense channels/conv1", 8, 3),
        ("dense channels/odd/name", 2, 3),
    }
    writer.flush.assert_called_once_with()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_number_that_is_none_is_drawn(bad):
    with pytest.raises(CheckFailed, match="train_loss of epoch 2 of the dense phase"):
        write_scalars(Mock(), line("dense", 2, train_loss=bad))


@needs_tensorboard
def test_a_resumed_run_shows_every_epoch_once(tmp_path):
    writer = open_writer(tmp_path)
    for epoch in (1, 2, 3):
        write_scalars(writer, line("dense", epoch))
    writer.close()
    lines = [line("dense", 1), line("dense", 2)]  # the third epoch came after the last checkpoint
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    writer = open_writer(tmp_path)
    write_scalars(writer, line("dense", 3, train_loss=0.25))
    write_scalars(writer, line("finetune", 1))
    writer.close()
    found = scalars(tmp_path / "tensorboard")
    assert found["dense/train_loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert found["finetune/train_loss"] == [(1, 1.0)]
    assert found["dense surviving/conv1"] == [(1, 4.0), (2, 4.0), (3, 4.0)]


def test_without_the_package_one_sentence_names_the_cure(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'perspective-pruning\[tensorboard\]'"):
        open_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []
