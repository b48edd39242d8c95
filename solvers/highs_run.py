"""One run of a HiGHS model, and its end as a status."""

from typing import Any

from solvers.result import Status


def run_highs(highspy: Any, model: Any, seconds: float, gap: float) -> Status:
    """Run for at most so many seconds, to a relative gap; the time limit of HiGHS counts all runs of a model together."""
    model.setOptionValue("time_limit", model.getRunTime() + max(seconds, 0.0))
    model.setOptionValue("mip_rel_gap", gap)
    model.run()
    found, statuses = model.getModelStatus(), highspy.HighsModelStatus
    if found == statuses.kOptimal:
        return Status.OPTIMAL
    if found == statuses.kTimeLimit:
        return Status.TIME_LIMIT
    return Status.INFEASIBLE if found == statuses.kInfeasible else Status.FAILED
