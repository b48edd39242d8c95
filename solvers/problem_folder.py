"""A folder of layers: each .npz by itself, so that one that fails costs its own row only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perspective.errors import CheckFailed, InputError


def problem_files(folder: Path) -> list[Path]:
    """The .npz files of the folder, by name; InputError where there is none."""
    files = sorted(path for path in folder.iterdir() if path.suffix == ".npz" and not path.name.startswith("."))
    if not files:
        raise InputError(
            f"{folder} holds no .npz file; write one with numpy.savez(path, inputs=..., targets=..., groups=...)"
        )
    return files


def answer_each(files: Sequence[Path], answer: Callable[[Path], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{"file": name, ...} of each file; for one that is refused or fails its check, "error" says why."""
    answers: list[dict[str, Any]] = []
    for path in files:
        try:
            answers.append({"file": path.name, **answer(path)})
        except (InputError, CheckFailed) as error:
            answers.append({"file": path.name, "error": str(error)})
    return answers


def refuse_failures(answers: Sequence[Mapping[str, Any]]) -> None:
    """CheckFailed naming the files that have no answer, or one whose certificate does not hold."""
    failed = [a["file"] for a in answers if "error" in a or not a["certificate_holds"]]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(answers)} problems failed: {', '.join(failed)}")
