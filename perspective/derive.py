"""The spine: a declaration in, a derived regulariser out."""

import functools

from perspective.block import IndicatorBlock
from perspective.cache import find_folder, load, store
from perspective.conjugate import conjugate
from perspective.projection import project
from perspective.proximal import proximal
from perspective.regularizer import Regularizer
from perspective.relaxation import relax
from perspective.scalar import calculate


def derive(block: IndicatorBlock) -> Regularizer:
    """The derivation of the block, from memory or disk (`cache.py`) where it was done before; InputError as below."""
    return _remember(block)


def derive_afresh(block: IndicatorBlock) -> Regularizer:
    """Derive relaxation, projection, conjugate and prox of the block; InputError where a stage cannot."""
    scalar = calculate(block)  # phi -> phi', phi'', phi*, scaled prox
    relaxation = relax(block, scalar)  # -> big-M and perspective, closed at y = 0
    projection = project(block, scalar, relaxation)  # -> r(w), its cases, y*(w)
    dual = conjugate(block, scalar)  # -> r*(z)
    return Regularizer(block, scalar, relaxation, projection, dual, proximal(block, scalar, dual))


@functools.lru_cache(maxsize=64)
def _remember(block: IndicatorBlock) -> Regularizer:
    folder = find_folder()
    found = None if folder is None else load(block, folder)
    if found is None:
        found = derive_afresh(block)
        if folder is not None:
            store(found, folder)
    return found
