"""`perspective solve --plot FILE`: the best value found and the proven bound over time, as one picture in a file."""

import os
from pathlib import Path

from perspective.errors import InputError
from solvers.answers import thin_history
from solvers.result import Result

FORMATS = (".png", ".svg")


def refuse_plot(path: Path) -> None:
    """InputError where the name does not end in .png or .svg, or its folder does not exist."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"cannot draw {path.name}; give --plot a name that ends in {' or '.join(FORMATS)}")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"cannot write {path}: its folder does not exist, or it is one; choose another --plot")


def plot_bounds(result: Result, path: Path) -> None:
    """Draw the history of `result` (where a backend kept none, its final values only) and write it, whole or not at all."""
    import matplotlib

    from perspective.bounds_picture import bounds_picture
    from perspective.drawing import STYLE

    picture = bounds_picture(thin_history(result), f"{result.backend}: bounds over time")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    picture.axes.set_title(picture.caption, fontsize=9.5)
    try:
        with matplotlib.rc_context(STYLE):
            picture.figure.savefig(temporary, format=path.suffix.lower()[1:], dpi=150, facecolor="white")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --plot") from error
