"""The command line: mounts the commands of the three packages, each loaded only when it is called.

Exit status 0 done; 2 bad usage or input (one sentence); 3 the job ran and failed its own check.
"""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from perspective.errors import CheckFailed, InputError

COMMANDS = {  # name: (module, what `perspective --help` says)
    "demo": ("perspective.__main__", "The whole path on scikit-learn's digits: derive, verify, train, prune, report."),
    "derive": ("perspective.commands", "From a cost to its regulariser, conjugate and prox, step by step."),
    "catalogue": ("perspective.commands", "The blocks that ship, one line each with its formula."),
    "verify": ("solvers.commands", "The chain big-M <= perspective = projected <= exact on one layer."),
    "solve": ("solvers.commands", "Which groups to keep, exactly, with a certified bound."),
    "train": ("nets.commands.train", "Train a network and prune it with a proximal step."),
    "prune": ("nets.commands.train", "Prune a network that is already trained."),
    "sweep": ("nets.commands.sweep", "Train or prune over a grid of flags, some runs at a time; one table."),
    "certify": ("nets.commands.certify", "The proven best channels of every layer of a trained network."),
    "compare": ("nets.commands.compare", "Runs side by side: one table, one picture, one page."),
    "export": ("nets.commands.export", "Write a run's network as torch.export and ONNX files, checked against it."),
    "latency": ("nets.commands.latency", "Time a run's dense and pruned networks side by side."),
    "report": ("nets.commands.train", "Write a run's report.html again."),
}


class LazyGroup(TyperGroup):
    """Lists commands without importing them; imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A placeholder with the help line, for listings and suggestions."""
        if cmd_name not in COMMANDS:
            return None

        def placeholder() -> None:
            """Replaced by the real command when it is called."""

        return _command(cmd_name, placeholder, COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name in COMMANDS:
            function = getattr(importlib.import_module(COMMANDS[name][0]), name)
            command = _command(name, function, None)
        return name, command, rest


def _command(name: str, function: Any, text: str | None) -> Any:
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, help=text)(function)
    return typer.main.get_command(single)


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Prune neural networks with mathematics that proves itself."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder; must not exist, or be a demo that was interrupted")] = Path(
        "demo"
    ),
) -> None:
    """Derive the regulariser, verify the bound chain, train, prune and report on scikit-learn's digits (no download)."""
    from perspective.declaration import declare
    from perspective.derive import derive
    from perspective.files import write_text

    out.mkdir(parents=True, exist_ok=True)
    if not (out / "derivation.md").is_file():
        write_text(out / "derivation.md", derive(declare("alpha*s**2", "1-alpha", "M")).explain())
    print(f"derived   {out / 'derivation.md'}", file=sys.stderr)
    if not (out / "bound_chain.json").is_file():  # what an earlier call finished is not done again
        importlib.import_module("solvers.commands").demo_verify(out / "bound_chain.json")
    importlib.import_module("nets.commands.train").demo_train(out)


def main() -> None:
    """Entry point of the console command `perspective`."""
    try:
        app()
    except InputError as error:
        print(f"perspective: {error}", file=sys.stderr)
        sys.exit(2)
    except CheckFailed as error:
        print(f"perspective: check failed: {error}", file=sys.stderr)
        sys.exit(3)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"perspective: cannot read or write{where}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
