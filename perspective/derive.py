"""The spine: a declaration in, a derived regulariser out."""

from perspective.block import IndicatorBlock
from perspective.conjugate import conjugate
from perspective.projection import project
from perspective.proximal import proximal
from perspective.regularizer import Regularizer
from perspective.relaxation import relax
from perspective.scalar import calculate


def derive(block: IndicatorBlock) -> Regularizer:
    """Derive relaxation, projection, conjugate and prox of the block; InputError where a stage cannot."""
    scalar = calculate(block)  # phi -> phi', phi'', phi*, scaled prox
    relaxation = relax(block, scalar)  # -> big-M and perspective, closed at y = 0
    projection = project(block, scalar, relaxation)  # -> r(w), its cases, y*(w)
    dual = conjugate(block, scalar)  # -> r*(z)
    return Regularizer(block, scalar, relaxation, projection, dual, proximal(block, scalar, dual))
