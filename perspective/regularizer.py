"""The result of a derivation: every symbolic piece in one object, and the door to numbers."""

from dataclasses import dataclass
from typing import Any

import sympy

from perspective.block import IndicatorBlock
from perspective.conjugate import Conjugate
from perspective.explain import explain, to_json, to_latex
from perspective.numeric import NumericRegularizer, bind
from perspective.page import to_html
from perspective.projection import Piece, Projection
from perspective.properties import Statement, prove
from perspective.proximal import Proximal
from perspective.relaxation import Relaxation
from perspective.scalar import ScalarCalculus
from perspective.source import write_source
from perspective.special import recognise


@dataclass(frozen=True)
class Regularizer:
    """A projected perspective regulariser, symbolic. Made by `derive`; the stages' results are its fields."""

    block: IndicatorBlock
    scalar: ScalarCalculus
    relaxation: Relaxation
    projection: Projection
    dual: Conjugate
    proximal: Proximal

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The cases of r(w): name, condition, indicator y*(w) and value."""
        return self.projection.pieces

    @property
    def conjugate(self) -> sympy.Expr:
        """r*(z)."""
        return self.dual.group

    @property
    def properties(self) -> tuple[Statement, ...]:
        """Convexity, continuity, C1, the subdifferential at zero, growth and limits; each with whether sympy proved it."""
        return prove(self)

    @property
    def known_as(self) -> tuple[str, ...]:
        """Names of known regularisers this one is, or is in one of its cases."""
        return recognise(self)

    def explain(self) -> str:
        """The whole derivation as Markdown with LaTeX, step by step."""
        return explain(self)

    def latex(self) -> str:
        """The regulariser's cases as one LaTeX formula."""
        return to_latex(self)

    def to_json(self) -> dict[str, Any]:
        """Every formula as text and as LaTeX, ready for json.dumps."""
        return to_json(self)

    def source(self, target: str = "numpy") -> str:
        """Importable source text for "numpy", "torch", or, the prox only, "triton" or "numba"; needs nothing of this project."""
        return write_source(self.block, self.scalar, self.projection, target)

    def bind(self, **parameters: float) -> NumericRegularizer:
        """Give every parameter a number; InputError where the block makes no sense with them."""
        return bind(self, parameters)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        return to_html(self)
