"""The command `perspective export`: a finished run's network as torch.export and ONNX files that were checked against it."""

import json
from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="run folder of a finished training or pruning")],
    onnx: Annotated[bool, typer.Option("--onnx", help="write model.onnx; neither flag: both files")] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="write model.pt2, for torch.export.load")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="folder to write; left out: RUN/export")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder of the run's data, where it has moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print paths and differences as one JSON object")] = False,
) -> None:
    """Write RUN's network for other programs; the files' outputs are compared with the network's before they are kept."""
    from nets.export import Kind, export_network
    from nets.training.finished_run import open_finished

    opened = open_finished(run, data_dir)
    both = not (onnx or torch_export)
    kinds: list[Kind] = []
    if torch_export or both:
        kinds.append("torch_export")
    if onnx or both:
        kinds.append("onnx")
    written = export_network(opened.final, opened.data.example_inputs, run / "export" if out is None else out, kinds)
    if as_json:
        content = {kind: {"path": str(file.path), "difference": file.difference} for kind, file in written.items()}
        typer.echo(json.dumps(content))
        return
    for kind, file in written.items():
        typer.echo(f"{kind:<13} {file.path}  outputs differ by at most {file.difference:.2g}")
