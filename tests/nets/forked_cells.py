"""Cells of a sweep or comparison as processes forked from one that has loaded torch: real, killable, and cheap."""

import os
import pkgutil
import signal
import sys

from several_processes import SERVER


class Forked:
    """Stands for subprocess.Popen. `die`: by folder name, the "module.function" in whose place the cell is killed; words of
    all that were started are kept."""

    started: list[list[str]] = []  # noqa: RUF012
    die: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, words, stdin, stdout, stderr, env):
        arguments = words[words.index("perspective") + 1 :]
        name = os.path.basename(arguments[arguments.index("--out") + 1])
        Forked.started.append(arguments)
        log = os.readlink(f"/proc/self/fd/{stdout}")
        self._process = SERVER.Process(target=be_perspective, args=(arguments, log, Forked.die.get(name)))
        self._process.start()

    def wait(self):
        self._process.join(240)
        assert self._process.exitcode is not None, "the cell does not end"
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode


def be_perspective(arguments, log, die_in):
    """`perspective ARGUMENTS`, what it prints into `log`; without the pictures of its report, which other tests draw."""
    import torch

    from nets.training import result
    from perspective.__main__ import main

    result.write_report = lambda out: (out / "report.html").write_text("")

    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    torch.set_num_threads(1)
    if die_in is not None:
        module, _, function = die_in.rpartition(".")
        setattr(pkgutil.resolve_name(module), function, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    sys.argv = ["perspective", *arguments]
    main()
