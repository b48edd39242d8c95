"""What a measured claim needs beside its table: versions, processor, command, date."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from perspective.files import write_text

PATHS = ("--out", "--weights", "--data-dir", "--peers-python")


def environment(command: str, packages: tuple[str, ...]) -> str:
    """Markdown lines: command, date, processor, threads, load, versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return "\n".join(
        (
            f"- command: `{command}`",
            f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"- processor: {_processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
            f"- load average at the end (1, 5, 15 minutes): {', '.join(f'{x:.1f}' for x in os.getloadavg())}",
            f"- Python {platform.python_version()}, {versions}",
        )
    )


def command_line(module: str) -> str:
    """This run's command, values of options that are paths of one machine written PATH."""
    spoken, arguments = ["python", "-m", module], iter(sys.argv[1:])
    for argument in arguments:
        name = argument.partition("=")[0]
        if name not in PATHS:
            spoken.append(argument)
            continue
        spoken += [name, "PATH"]
        if "=" not in argument:
            next(arguments, None)
    return shlex.join(spoken)


def keep(folder: Path, table: str, surroundings: str) -> None:
    """Write table.md and environment.md into the folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "table.md", table + "\n")
    write_text(folder / "environment.md", surroundings + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
