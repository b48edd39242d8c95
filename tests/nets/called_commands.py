"""Commands called in the test's own process, from the words of a command line."""

import typer
from typer.testing import CliRunner


def called(*commands, raises=True):
    """A function of a command line's words (the command's name first where there are several) that gives the outcome: exit
    status, both streams, and the exception. What a command raises is raised again, unless `raises` is False."""
    app = typer.Typer(add_completion=False)
    for command in commands:
        app.command()(command)

    def call(*arguments):
        outcome = CliRunner().invoke(app, [str(a) for a in arguments])
        if raises and outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        return outcome

    return call
