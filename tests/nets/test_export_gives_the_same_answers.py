"""Law: an exported file gives the network's answers at every batch size, and one that does not is never written."""

import copy
import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from called_commands import called
from torch import nn
from zeroed_networks import disturb, zero_filters

from nets import export
from nets.commands import export as export_command
from nets.export import TOLERANCE, export_network
from nets.removal import remove_channels
from nets.resnet import PadShortcut, ResNet, resnet20
from nets.saving import save_model
from nets.shrink.scatter import Constant, Scatter, Scattered
from perspective.errors import CheckFailed, InputError

IMAGES = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"the extra 'export' is not installed ({', '.join(MISSING)})")


def pruned(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = disturb(model, generator)
    for stage in (
        model.layer1,
        model.layer2,
        model.layer3,
    ):  # conv1 stays: behind it a padded shortcut is left as it is
        zero_filters(stage, 0.4, generator)
    model.layer1[0].conv2.weight.data.zero_()
    return remove_channels(model, IMAGES)[0].eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = pruned(ResNet(8, 10, 1, 4, "A"))
    kinds = {type(module) for module in model.modules()}
    assert {Scatter, Scattered, Constant, PadShortcut} <= kinds
    return model


@pytest.fixture(scope="module")
def program(network):
    return export._trace(copy.deepcopy(network), IMAGES[:2])


@pytest.fixture
def traced(program, monkeypatch):
    """Tracing takes seconds: once is enough where the test is about what comes after it."""
    monkeypatch.setattr(export, "_trace", lambda *_: program)


def test_torch_export_gives_the_same_answers_and_the_network_is_untouched(network, tmp_path):
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    written = export_network(network, IMAGES, tmp_path / "new" / "out", ["torch_export"])
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    path = tmp_path / "new" / "out" / "model.pt2"
    assert written["torch_export"].path == path
    assert [p.name for p in path.parent.iterdir()] == ["model.pt2"]
    again, network = torch.export.load(path).module(), network.eval()
    for count in (1, 2, 5, 9):  # 2 was traced, 5 and 9 were never compared
        with torch.no_grad():
            difference = (again(IMAGES[:count]) - network(IMAGES[:count])).abs().max()
        assert difference <= 1e-5
    assert 0 <= written["torch_export"].difference <= 1e-5


def test_a_channels_last_network_is_exported_in_the_ordinary_layout(network, tmp_path):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert not network.layer2[0].conv1.weight.is_contiguous()
    written = export_network(network, IMAGES[:1], tmp_path, ["torch_export"])
    assert written["torch_export"].difference <= 1e-5
    again = torch.export.load(tmp_path / "model.pt2")
    assert all(tensor.is_contiguous() for tensor in again.state_dict.values())


@needs_onnx
def test_onnx_gives_the_same_answers_and_tells_nothing_of_this_machine(network, traced, tmp_path, capsys):
    import onnxruntime

    written = export_network(network, IMAGES, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]
    assert capsys.readouterr().out == ""
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    (given,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, gives.name, gives.shape) == ("images", ["batch", 1, 8, 8], "logits", ["batch", 10])
    network.eval()
    for count in (1, 3, 5, 8):
        found = torch.from_numpy(session.run(None, {"images": IMAGES[:count].numpy()})[0])
        with torch.no_grad():
            difference = float((found - network(IMAGES[:count])).abs().max())
        assert difference <= (1e-5 if count == 5 else max(written["onnx"].difference, 1e-12))
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    assert not any(str(ROOT).encode() in part for part in [*parts, (tmp_path / "model.onnx").read_bytes()])


def shift_answers(monkeypatch, by: float) -> None:
    save = torch.export.save

    def corrupted(program, file):
        bias = program.state_dict["linear.bias"]
        program.state_dict["linear.bias"] = nn.Parameter(bias.detach() + by)
        save(program, file)
        program.state_dict["linear.bias"] = bias

    monkeypatch.setattr(torch.export, "save", corrupted)


def test_a_file_that_answers_otherwise_is_rejected_and_not_written(network, traced, tmp_path, monkeypatch):
    shift_answers(monkeypatch, 2 * TOLERANCE)
    with pytest.raises(CheckFailed, match=r"torch_export program's outputs differ .* by 0\.0002"):
        export_network(network, IMAGES, tmp_path / "out", ["torch_export"])
    assert list(tmp_path.iterdir()) == []


def test_the_difference_reported_is_the_one_that_is_there(network, traced, tmp_path, monkeypatch):
    shift_answers(monkeypatch, TOLERANCE / 2)
    written = export_network(network, IMAGES, tmp_path, ["torch_export"])
    assert written["torch_export"].difference == pytest.approx(TOLERANCE / 2, rel=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_are_rejected(network, traced, tmp_path, monkeypatch, bad):
    shift_answers(monkeypatch, bad)
    with pytest.raises(CheckFailed, match="differ"):
        export_network(network, IMAGES, tmp_path / "out", ["torch_export"])
    assert list(tmp_path.iterdir()) == []


def test_a_program_for_one_batch_size_is_rejected(network, tmp_path, monkeypatch):
    trace = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda model, inputs, dynamic_shapes: trace(model, inputs))
    with pytest.raises(CheckFailed, match="does not run on a batch of 1"):
        export_network(network, IMAGES, tmp_path / "out", ["torch_export"])
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_wrong_onnx_file_takes_the_right_torch_file_with_it(network, traced, tmp_path, monkeypatch):
    from onnx import numpy_helper

    made = torch.onnx.ONNXProgram.model_proto.fget

    def corrupted(program):
        proto = made(program)
        tensor = next(t for t in proto.graph.initializer if t.name == "linear.bias")
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1e-3, tensor.name))
        return proto

    monkeypatch.setattr(torch.onnx.ONNXProgram, "model_proto", property(corrupted))
    with pytest.raises(CheckFailed, match=r"onnx program's outputs differ .* by 0\.001"):
        export_network(network, IMAGES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_cure_before_any_work(network, tmp_path, monkeypatch, package):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    monkeypatch.setattr(export, "_trace", lambda *_: pytest.fail("the network was traced"))
    with pytest.raises(InputError, match=rf"{package}; run pip install 'perspective-pruning\[export\]'"):
        export_network(network, IMAGES, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Decides(nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


@pytest.mark.parametrize(
    ("model", "images", "sentence"),
    [
        (Decides(), IMAGES, "cannot trace the network"),
        (nn.Conv2d(3, 2, 1), IMAGES, "does not run on the images"),
        (nn.Flatten(), IMAGES / 0, "not one tensor of finite numbers"),
        (nn.Flatten(), IMAGES[:0], "at least one"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, model, images, sentence):
    with pytest.raises(InputError, match=sentence):
        export_network(model, images, tmp_path / "out", ["torch_export"])
    assert list(tmp_path.iterdir()) == []


invoke = called(export_command.export)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "run"
    save_model(pruned(resnet20(num_classes=10, in_channels=1, width=4)), folder / "model")
    (folder / "config.json").write_text(json.dumps({"net": "resnet20", "data": "digits", "data_dir": None}))
    return folder


def test_the_command_exports_a_run(run_folder):
    content = json.loads(invoke(run_folder, "--torch-export", "--json").stdout)
    assert content.keys() == {"torch_export"}
    assert content["torch_export"]["path"] == str(run_folder / "export" / "model.pt2")
    assert content["torch_export"]["difference"] <= TOLERANCE
    assert (run_folder / "export" / "model.pt2").is_file()


@pytest.mark.parametrize(
    ("flags", "kinds"),
    [
        ([], ["torch_export", "onnx"]),
        (["--onnx"], ["onnx"]),
        (["--torch-export"], ["torch_export"]),
        (["--onnx", "--torch-export"], ["torch_export", "onnx"]),
    ],
)
def test_neither_flag_means_both(run_folder, tmp_path, monkeypatch, flags, kinds):
    asked = []

    def record(model, images, out, kinds):
        asked.append((out, list(kinds), tuple(images.shape)))
        return {kind: export.Exported(out / kind, 0.0) for kind in kinds}

    monkeypatch.setattr(export, "export_network", record)
    outcome = invoke(run_folder, *flags, "--out", tmp_path)
    assert asked == [(tmp_path, kinds, (8, 1, 8, 8))]
    assert all(kind in outcome.stdout for kind in kinds)


def test_a_folder_without_a_finished_network_is_refused(run_folder, tmp_path):
    with pytest.raises(InputError, match="a run folder"):
        invoke(tmp_path)
    (tmp_path / "config.json").write_text((run_folder / "config.json").read_text())
    with pytest.raises(InputError, match="finish or resume"):
        invoke(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(network, traced, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        export_network(network, IMAGES, tmp_path / "file", ["torch_export"])
