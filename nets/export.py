"""A network as a file other programs run: torch.export (.pt2) and ONNX, each compared with the network itself.

Both come from one traced program with a free batch size. What is compared is the file's own bytes, read back: a file
reaches the disk only after it has given the network's answers on images and on random inputs, one, three and eight at a time.
"""

import contextlib
import copy
import importlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from perspective.errors import CheckFailed, InputError

Kind = Literal["torch_export", "onnx"]
FILES: dict[Kind, str] = {"torch_export": "model.pt2", "onnx": "model.onnx"}
TOLERANCE = 1e-4  # float32: largest difference of outputs that an export may cause
BATCHES = (1, 3, 8)


@final
@dataclass(frozen=True)
class Exported:
    """A file and the largest |difference| of its outputs from the network's."""

    path: Path
    difference: float


def export_network(
    model: nn.Module, images: Tensor, out: Path, kinds: Sequence[Kind] = ("torch_export", "onnx")
) -> dict[Kind, Exported]:
    """Write OUT/model.pt2 and OUT/model.onnx, as `kinds` asks; `model` is not changed.

    images (count, channels, height, width), normalised; repeated where there are fewer than eight. The network maps
    one tensor to one tensor, the batch first. InputError: the network cannot be exported, or a package is missing;
    CheckFailed: an exported program differs from the network, and then no file is written.
    """
    if not len(images):
        raise InputError("there are no images to compare the exported network on; give at least one")
    if "onnx" in kinds:
        _require_onnx()
    network = copy.deepcopy(model).cpu().eval()
    images = images.detach().cpu()[torch.arange(max(BATCHES)) % len(images)]
    cases = [batch[:count] for batch in (images, _random_like(images)) for count in BATCHES]
    expected = [_answer(network, inputs) for inputs in cases]
    # channels-last weights would be written as slices of an unknown whole, with a warning
    program = _trace(network.to(memory_format=torch.contiguous_format), images[:2])
    contents, differences = {}, {}
    for kind in kinds:
        contents[kind], run = (_as_pt2 if kind == "torch_export" else _as_onnx)(program)
        differences[kind] = _difference(kind, run, cases, expected)
    written: dict[Kind, Exported] = {}
    for kind, content in contents.items():
        _write(out / FILES[kind], content)
        written[kind] = Exported(out / FILES[kind], differences[kind])
    return written


def _trace(network: nn.Module, images: Tensor) -> ExportedProgram:
    try:
        # two example images: a traced batch of one would be taken for a constant
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"torch.export cannot trace the network ({_first_line(error)}); make its forward free of "
            "Python decisions that depend on the data"
        ) from error
    for node in program.graph.nodes:  # they name source files of this machine
        node.meta.pop("stack_trace", None)
    return program


def _as_pt2(program: ExportedProgram) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    file = io.BytesIO()
    torch.export.save(program, file)
    content = file.getvalue()
    # a .pt2 archive may hold pickles: this one was made two lines above, and no other is ever opened
    again = torch.export.load(io.BytesIO(content)).module()
    return content, again


def _as_onnx(program: ExportedProgram) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    import onnxruntime

    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
            verbose=False,  # it would print on standard output
        )
        assert exported is not None  # None only in the older exporter, dynamo=False
        content = exported.model_proto.SerializeToString()
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the network has no ONNX form ({_first_line(error)}); export it with --torch-export alone"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.contiguous().numpy()})[0])

    return content, run


def _difference(
    kind: Kind, run: Callable[[Tensor], Tensor], cases: Sequence[Tensor], expected: Sequence[Tensor]
) -> float:
    """The largest |difference| over all cases; CheckFailed where it is above TOLERANCE, or a batch does not run."""
    largest = 0.0
    for inputs, outputs in zip(cases, expected, strict=True):
        try:
            with torch.no_grad():
                found = run(inputs)
        except Exception as error:  # whatever the exported program raises, it does not do what the network does
            raise CheckFailed(
                f"the {kind} program does not run on a batch of {len(inputs)} ({_first_line(error)}); nothing was written"
            ) from error
        if found.shape != outputs.shape:
            raise CheckFailed(
                f"the {kind} program's outputs have shape {tuple(found.shape)}, the network's {tuple(outputs.shape)}; "
                "nothing was written"
            )
        difference = float((found.double() - outputs.double()).abs().max())
        if not difference <= TOLERANCE:  # NaN too
            raise CheckFailed(
                f"the {kind} program's outputs differ from the network's by {difference:.3g}, more than {TOLERANCE:g}; "
                "nothing was written"
            )
        largest = max(largest, difference)
    return largest


def _answer(network: nn.Module, inputs: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            outputs = network(inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the network does not run on the images ({_first_line(error)}); give images of its own shape"
        ) from error
    if not isinstance(outputs, Tensor) or not bool(torch.isfinite(outputs).all()):
        raise InputError("the network's output is not one tensor of finite numbers; export a network that gives one")
    return outputs


def _random_like(images: Tensor) -> Tensor:
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)


def _require_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"ONNX needs the package {name}; run pip install 'perspective-pruning[export]', "
                "or give --torch-export alone"
            ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path} ({error.strerror}); choose another --out") from error
