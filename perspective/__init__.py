"""Mathematics of structured pruning: one declaration in; regulariser, conjugate, prox and their proofs out."""

from perspective.block import IndicatorBlock
from perspective.declaration import declare
from perspective.derive import derive
from perspective.errors import CheckFailed, InputError
from perspective.laws import LawViolation, check_laws
from perspective.numeric import NumericRegularizer
from perspective.regularizer import Regularizer

__all__ = [
    "CheckFailed",
    "IndicatorBlock",
    "InputError",
    "LawViolation",
    "NumericRegularizer",
    "Regularizer",
    "check_laws",
    "declare",
    "derive",
]
