"""A checkpoint gives back the same bits; a damaged one is never used silently; a half-written one is never seen."""

import copy

import pytest
import torch
from torch.nn import functional as F

from nets.checkpoint import Snapshot, read_checkpoint, restore, take, write_checkpoint
from nets.groups import channel_groups
from nets.optimizer import Proximal
from nets.resnet import resnet20
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)


def training(seed=0):
    torch.manual_seed(seed)
    model = resnet20(in_channels=1, width=2)
    groups = channel_groups(model, torch.zeros(1, 1, 8, 8))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return model, Proximal(sgd, groups, REGULARISER, strength=0.123456789)


def step(model, optimizer):
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    optimizer.zero_grad()
    F.cross_entropy(model.train()(x), torch.arange(8)).backward()
    optimizer.step()


def same(one, two):
    return all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_a_restored_training_continues_with_the_same_bits(tmp_path):
    model, optimizer = training()
    step(model, optimizer)
    facts = {"strength": 0.1, "layers": [{"name": "conv1", "after": 3}]}
    write_checkpoint(tmp_path, take("regularise", 4, model, optimizer, 9, facts))
    snapshot, warnings = read_checkpoint(tmp_path)
    assert warnings == []
    assert (snapshot.phase, snapshot.epoch, snapshot.metrics, snapshot.facts) == ("regularise", 4, 9, facts)
    other, other_optimizer = training(seed=1)
    other_optimizer.strength = 5.0
    restore(snapshot, other, other_optimizer)
    assert other_optimizer.strength == 0.123456789
    for _ in range(2):
        step(model, optimizer)
        step(other, other_optimizer)
    assert same(model, other)


def snapshots(folder, count):
    model, optimizer = training()
    for epoch in range(1, count + 1):
        write_checkpoint(folder, take("dense", epoch, model, optimizer, epoch, {}))


def test_only_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    snapshots(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]
    assert read_checkpoint(tmp_path)[0].epoch == 4


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "sha256.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path, name, damage):
    snapshots(tmp_path, 2)
    path = tmp_path / "000002" / name
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    snapshot, warnings = read_checkpoint(tmp_path)
    assert snapshot.epoch == 1
    assert len(warnings) == 1
    assert "000002 is damaged" in warnings[0]


def test_when_all_are_damaged_the_run_is_refused(tmp_path):
    snapshots(tmp_path, 2)
    for path in tmp_path.glob("*/state.json"):
        path.write_text("{}")
    with pytest.raises(InputError, match="every checkpoint"):
        read_checkpoint(tmp_path)


def test_a_half_written_checkpoint_is_not_seen(tmp_path, monkeypatch):
    snapshots(tmp_path, 1)
    model, optimizer = training()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(tmp_path, take("dense", 2, model, optimizer, 2, {}))
    assert read_checkpoint(tmp_path)[0].epoch == 1
    write_checkpoint(tmp_path, take("dense", 2, model, optimizer, 2, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]


def test_nothing_written_yet_is_no_error(tmp_path):
    assert read_checkpoint(tmp_path / "none") == (None, [])


def test_a_checkpoint_of_another_network_is_refused():
    model, optimizer = training()
    step(model, optimizer)
    snapshot = take("dense", 1, model, optimizer, 1, {})
    torch.manual_seed(0)
    larger = resnet20(in_channels=1, width=3)
    with pytest.raises(InputError, match="does not fit"):
        restore(snapshot, larger, torch.optim.SGD(larger.parameters(), lr=0.1))


def test_numbers_that_are_none_are_not_restored(tmp_path):
    model, optimizer = training()
    broken = take("dense", 1, copy.deepcopy(model), optimizer, 1, {})
    tensors = {**broken.tensors, "model.linear.bias": torch.full((10,), torch.nan)}
    write_checkpoint(tmp_path, Snapshot("dense", 1, tensors, broken.optimizer, 1, {}))
    with pytest.raises(InputError, match="every checkpoint"):
        read_checkpoint(tmp_path)
