"""The two ways a job can end badly, shared by the three packages; the command line turns them into exit status 2 and 3."""


class InputError(ValueError):
    """What was asked cannot be done; the message is one sentence that names the cure (exit status 2)."""


class CheckFailed(RuntimeError):
    """The job ran and its own check did not hold; the message says which figure failed (exit status 3)."""
