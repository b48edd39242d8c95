"""The losses a layer may have, one a file; the tuple is the whole list."""

from solvers.losses.absolute import Absolute
from solvers.losses.hinge import Hinge
from solvers.losses.logistic import Logistic
from solvers.losses.loss import Loss, NonsmoothLoss
from solvers.losses.rectified import Rectified
from solvers.losses.squared import Squared

ALL: tuple[Loss, ...] = (Squared(), Absolute(), Logistic(), Hinge(), Rectified())
BY_NAME = {loss.name: loss for loss in ALL}

__all__ = ["ALL", "BY_NAME", "Absolute", "Hinge", "Logistic", "Loss", "NonsmoothLoss", "Rectified", "Squared"]
