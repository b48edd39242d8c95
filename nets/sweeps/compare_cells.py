"""Run the cells of a comparison: dense networks first, then the methods; and check that what came out is comparable.

A finished cell counts only if it trained as many epochs as all others, from the same dense network (its bits), and stayed
within its budget; if not, it is a row that says so and is in no mean.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from nets.gauge import parse_budget
from nets.sweeps.cells import Outcome, Plan, make_folders, run_cells, teller
from nets.sweeps.first_look import refuse_unusable
from nets.sweeps.grid import Cell
from nets.sweeps.protocol import Protocol, lay_out_dense, lay_out_methods
from nets.training.run_folder import COMMAND, read_json
from perspective.errors import InputError
from perspective.files import write_text

AFTER_DENSE = ("regularise", "finetune")  # phases that count


@final
@dataclass(frozen=True)
class Compared:
    """One cell of the comparison. command: runs it alone; epochs: trained after the dense network; dense_sha256: of the
    weights it was pruned from. None where there is no result. sentence: what went wrong, or ""."""

    cell: Cell
    command: str
    sentence: str
    epochs: int | None
    dense_sha256: str | None

    def as_json(self) -> dict[str, Any]:
        """One entry of compare.json's cells."""
        return {
            "name": self.cell.name,
            "axes": dict(self.cell.axes),
            "settings": dict(self.cell.settings),
            "command": self.command,
            "failed": self.sentence,
            "epochs": self.epochs,
            "dense_sha256": self.dense_sha256,
        }


def run_protocol(
    protocol: Protocol, out: Path, jobs: tuple[int, int], devices: tuple[str, ...] | None
) -> tuple[Compared, ...]:
    """Every method cell, in order. jobs: dense trainings and prunings at a time. KeyboardInterrupt stops all of them.
    InputError: what no cell could start with."""
    dense, cells = lay_out_dense(protocol), lay_out_methods(protocol, out)
    refuse_unusable([cell for cell in (*dense, *cells) if not (out / cell.name / "config.json").is_file()])
    make_folders((*dense, *cells), out)
    failed: dict[int, str] = {}
    if dense:
        plan = Plan(out, (), jobs[0], devices)
        for outcome in run_cells(_recorded(dense, plan), plan, teller(len(dense))):
            if outcome.sentence:
                failed[int(outcome.cell.axes["seed"])] = f"its dense network failed: {outcome.sentence}"
    plan = Plan(out, (), jobs[1], devices)
    startable = _recorded([cell for cell in cells if int(cell.axes["seed"]) not in failed], plan)
    outcomes = {o.cell.name: o for o in run_cells(startable, plan, teller(len(startable)))} if startable else {}
    ended = [
        outcomes.get(cell.name) or Outcome(cell, failed[int(cell.axes["seed"])], ran=False)
        for cell in cells
    ]  # fmt: skip
    return _checked(protocol, out, [_compared(outcome, out) for outcome in ended])


def _recorded(cells: Sequence[Cell], plan: Plan) -> Sequence[Cell]:
    """The cells; each has its command in its folder, as it was when the cell began to train."""
    for cell in cells:
        folder = (plan.out / cell.name).resolve()
        if not all((folder / name).is_file() for name in ("config.json", COMMAND)):
            words = cell.arguments((), folder, resume=False)
            write_text(folder / COMMAND, f"OMP_NUM_THREADS={plan.threads} perspective {shlex.join(words)}\n")
    return cells


def _compared(outcome: Outcome, out: Path) -> Compared:
    folder = out / outcome.cell.name
    command = folder / COMMAND
    text = command.read_text(encoding="utf-8").strip() if command.is_file() else ""
    if outcome.sentence:
        return Compared(outcome.cell, text, outcome.sentence, None, None)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = sum(json.loads(line)["phase"] in AFTER_DENSE for line in lines)
    try:
        dense = str(read_json(folder / "dense" / "manifest.json")["sha256"])
    except (InputError, KeyError) as error:
        return Compared(outcome.cell, text, f"its dense network is gone ({error}); run it again", epochs, None)
    return Compared(outcome.cell, text, "", epochs, dense)


def _checked(protocol: Protocol, out: Path, found: Sequence[Compared]) -> tuple[Compared, ...]:
    """The same, with a sentence for each that is not comparable with the others of its seed."""
    known: dict[str, str] = {}
    checked = []
    for one in found:
        if not one.sentence and one.dense_sha256 is not None:
            seed = "all" if protocol.weights is not None else one.cell.axes["seed"]
            first = known.setdefault(seed, one.dense_sha256)
            reached = read_json(out / one.cell.name / "result.json")["budget"]["reached"]
            asked = parse_budget(one.cell.axes["budget"])
            if one.epochs != protocol.total:
                one = replace(one, sentence=f"it trained {one.epochs} epochs, not {protocol.total}: not comparable")
            elif one.dense_sha256 != first:
                one = replace(one, sentence="it was pruned from another dense network than the rest: not comparable")
            elif asked.kind != "latency" and reached > asked.share * (
                1 + 1e-9
            ):  # times differ from one look to the next
                one = replace(one, sentence=f"{reached:.4g} of the {asked.kind} are left, more than {asked.share:g}")
        checked.append(one)
    return tuple(checked)
