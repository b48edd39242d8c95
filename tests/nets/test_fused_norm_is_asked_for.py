"""Training steps alone take the fused normalisation, and only where nothing looks at its pieces; resumed runs keep their bits."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import fx, nn

import nets.fused.norm
from nets.norm_relu import fused_norms, norm_relu
from nets.resnet import resnet20
from nets.saving import load
from nets.settings import as_json, new_settings, same_settings
from nets.train import train
from nets.training.run_folder import read_json
from perspective import InputError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

GIVEN = {"net": "resnet20", "data": "digits", "method": "none", "width": 4, "epochs": 2, "batch_size": 128}
GIVEN |= {"precision": "bfloat16"}

KILLED = """
import os, signal, sys
import nets.training.phase
from nets.commands.train import train
from pathlib import Path

write = nets.training.phase.write_checkpoint

def write_and_die(folder, snapshot):
    write(folder, snapshot)
    os.kill(os.getpid(), signal.SIGKILL)

nets.training.phase.write_checkpoint = write_and_die
train(out=Path(sys.argv[1]), **eval(sys.argv[2]))
"""


@pytest.fixture
def taken(monkeypatch):
    """How often the fused loops were taken: a list of the inputs' shapes."""
    calls, inner = [], nets.fused.norm.fused_norm_relu

    def count(norm, x, residual):
        calls.append(tuple(x.shape))
        return inner(norm, x, residual)

    monkeypatch.setattr(nets.fused.norm, "fused_norm_relu", count)
    return calls


def network():
    torch.manual_seed(0)
    return resnet20(width=4, in_channels=3).to(memory_format=torch.channels_last)


def images(count=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)


def test_every_norm_of_a_training_step_is_taken(taken):
    model = network()
    with fused_norms():
        fused = model(images())
    assert len(taken) == 19
    assert torch.allclose(fused, network()(images()), rtol=1e-4, atol=1e-5)


def looking(model, how):
    """A network that is looked at, as `how` says."""
    norm = model.layer1[0].bn1
    match how:
        case "a forward hook":
            norm.register_forward_hook(lambda *_: None)
        case "a hook before":
            norm.register_forward_pre_hook(lambda *_: None)
        case "a hook backward":
            norm.register_full_backward_hook(lambda *_: None)
        case "a parametrisation":
            nn.utils.parametrizations.weight_norm(norm, dim=None)
        case "a forward of its own":
            norm.forward = lambda x: nn.BatchNorm2d.forward(norm, x)
        case "evaluation":
            norm.eval()
        case "other weights":
            norm.double().float().weight.data = norm.weight.data.bfloat16()
    return model


HOW = ["a forward hook", "a hook before", "a hook backward", "a parametrisation", "a forward of its own", "evaluation"]


@pytest.mark.parametrize("how", HOW)
def test_a_norm_that_is_looked_at_is_torchs(how, taken):
    with fused_norms():
        looking(network(), how)(images())
    assert len(taken) == 18  # all but that one


def test_a_hook_on_all_modules_is_seen(taken):
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with fused_norms():
            network()(images())
    finally:
        handle.remove()
    assert not taken


class Own(torch.Tensor):
    """Someone's own tensors, who may look at every operation."""


def test_other_memory_and_other_modules_are_torchs(taken):
    x = images()
    cases = [
        (nn.BatchNorm2d(3), x.contiguous()),
        (nn.BatchNorm2d(3), x.double()),
        (nn.BatchNorm2d(3, affine=False), x),
        (nn.InstanceNorm2d(3), x),
        (nn.Identity(), x),
        (nn.BatchNorm2d(3), x.as_subclass(Own)),
    ]
    with fused_norms():
        for norm, given in cases:
            norm_relu(norm.double() if given.dtype == torch.float64 else norm, given)
        with torch.no_grad():
            norm_relu(nn.BatchNorm2d(3), x)
        norm_relu(nn.BatchNorm2d(3), x, x.contiguous())
        torch.set_num_threads(2)
        norm_relu(nn.BatchNorm2d(3), x)
    assert not taken


def test_tracers_see_torchs_operations(taken):
    with fused_norms():
        graph = fx.symbolic_trace(network())
        with warnings.catch_warnings(action="ignore"):  # torch's own, of its tracer and of its normalisation
            torch.jit.trace(network(), images(), check_trace=False)
        torch.export.export(network(), (images(),), strict=False)
        fx.experimental.proxy_tensor.make_fx(network().layer1[0].bn1, tracing_mode="real")(
            drawn := torch.zeros(2, 4, 3, 3)
        )
    assert drawn is not None
    assert not taken
    assert sum(n.op == "call_function" and n.target is nn.functional.relu for n in graph.graph.nodes) == 19


def test_left_out_it_is_fused_for_bfloat16_on_the_cpu():
    given = {"net": "resnet20", "data": "digits", "method": "spr"}
    assert new_settings("train", given).batch_norm == "torch"
    assert new_settings("train", {**given, "precision": "bfloat16"}).batch_norm == "fused"
    assert new_settings("train", {**given, "precision": "bfloat16", "batch_norm": "torch"}).batch_norm == "torch"
    assert new_settings("train", {**given, "precision": "bfloat16", "device": "cuda"}).batch_norm == "torch"
    with pytest.raises(InputError, match="--batch-norm fused is for the CPU"):
        new_settings("train", {**given, "device": "cuda", "batch_norm": "fused"})
    with pytest.raises(InputError, match="--batch-norm 'quick'; choose one of torch, fused"):
        new_settings("train", {**given, "batch_norm": "quick"})
    before = as_json(new_settings("train", {**given, "precision": "bfloat16"}))
    del before["batch_norm"]  # a run of before the field
    assert same_settings("train", {}, before, Path("run")).batch_norm == "torch"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(new_settings("train", GIVEN), out)
    return out


def lines(out):
    parsed = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


def test_curves_are_torchs(whole, tmp_path, taken):
    train(new_settings("train", {**GIVEN, "batch_norm": "torch"}), tmp_path / "torch")
    assert not taken
    for ours, torchs in zip(lines(whole), lines(tmp_path / "torch"), strict=True):
        assert ours["train_loss"] == pytest.approx(torchs["train_loss"], rel=0.02)
    for one, two in zip((whole / "model").iterdir(), (tmp_path / "torch" / "model").iterdir(), strict=True):
        assert one.name == two.name
    assert list(load(whole / "model").state_dict()) == list(load(tmp_path / "torch" / "model").state_dict())


def test_killed_and_resumed_it_has_the_same_bits(whole, tmp_path, taken):
    out = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), repr(GIVEN)],
        env={**os.environ, "PYTHONPATH": str(Path(nets.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(lines(out)) == 1
    train(same_settings("train", {}, read_json(out / "config.json"), out), out, resume=True)
    assert taken
    assert lines(out) == lines(whole)
    again, first = load(out / "model").state_dict(), load(whole / "model").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
