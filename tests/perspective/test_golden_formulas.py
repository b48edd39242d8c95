"""Derived formulas are symbolically equal to the published ones; a changed declaration changes them correctly."""

import sympy

from perspective import IndicatorBlock, check_laws, declare, derive
from perspective.norms import norm
from perspective.relaxation import W

ALPHA, BETA, C, M, TAU, Y = sympy.symbols("alpha beta c M tau y", positive=True)
ONE, TWO, TOP = norm(W, 1), norm(W, 2), norm(W, sympy.oo)
BELOW_ONE = {ALPHA: 1 / (1 + sympy.Symbol("q", positive=True))}  # 0 < alpha < 1 as an assumption sympy understands


def same(left, right):
    return sympy.simplify((left - right).subs(BELOW_ONE)) == 0


def test_spr_has_the_three_published_cases():
    whole, shared, boxed = derive(declare("alpha*s**2", "1-alpha", "M")).pieces
    assert same(whole.value, ALPHA * TWO**2 + 1 - ALPHA)
    assert same(shared.value, 2 * sympy.sqrt(ALPHA * (1 - ALPHA)) * TWO)
    assert same(boxed.value, ALPHA * M * TWO**2 / TOP + (1 - ALPHA) * TOP / M)
    assert same(shared.indicator, sympy.sqrt(ALPHA / (1 - ALPHA)) * TWO)
    assert same(boxed.indicator, TOP / M)
    assert whole.indicator == 1


def test_without_a_box_it_is_the_reverse_huber_function():
    """berHu of |w|_2: linear up to 1/kappa, then quadratic."""
    whole, shared = derive(declare("alpha*s**2", "1-alpha")).pieces
    edge = sympy.sqrt((1 - ALPHA) / ALPHA)
    assert same(whole.value, ALPHA * (TWO**2 + edge**2))
    assert same(shared.value, 2 * ALPHA * edge * TWO)


def test_elastic_is_sparse_group_lasso_near_zero():
    whole, shared, boxed = derive(declare("alpha*s**2 + beta*s", "c", "M")).pieces
    assert same(shared.value, BETA * ONE + 2 * sympy.sqrt(ALPHA * C) * TWO)
    assert same(whole.value, ALPHA * TWO**2 + BETA * ONE + C)
    assert same(boxed.value, ALPHA * M * TWO**2 / TOP + BETA * ONE + C * TOP / M)


def test_pure_price_is_the_maximum_norm():
    _, boxed = derive(declare("0*s", "c", "M")).pieces
    assert same(boxed.value, C * TOP / M)


def test_power_is_the_p_norm_near_zero():
    for p in (sympy.Rational(3, 2), sympy.Integer(3)):
        s = sympy.Symbol("s", positive=True)
        _, shared = derive(IndicatorBlock(ALPHA * s**p, s, C)).pieces
        assert sympy.simplify(shared.indicator / (norm(W, p) * ((p - 1) * ALPHA / C) ** (1 / p))) == 1


def test_a_symbolic_power():
    s, q = sympy.symbols("s q", positive=True)
    _, shared = derive(IndicatorBlock(ALPHA * s ** (1 + q), s, C)).pieces
    assert sympy.simplify(shared.indicator / (norm(W, 1 + q) * (q * ALPHA / C) ** (1 / (1 + q)))) == 1


def test_prox_of_reverse_huber_in_closed_form():
    solution = derive(declare("alpha*s**2", "1-alpha")).proximal.solution
    published = sympy.sqrt(ALPHA / (1 - ALPHA)) * norm(sympy.Symbol("v"), 2) - 2 * ALPHA * TAU
    assert same(solution, published)


def test_big_m_and_perspective_of_spr():
    relaxation = derive(declare("alpha*s**2", "1-alpha", "M")).relaxation
    assert same(relaxation.perspective, ALPHA * TWO**2 / Y + (1 - ALPHA) * Y)
    assert same(relaxation.big_m_projected, ALPHA * TWO**2 + (1 - ALPHA) * TOP / M)
    assert relaxation.recession == sympy.oo


def test_a_changed_declaration_changes_the_formulas():
    plain, changed = (derive(declare(cost, "1-alpha", "M")) for cost in ("alpha*s**2", "alpha*s**2 + beta*s"))
    assert same(changed.pieces[0].value - plain.pieces[0].value, BETA * ONE)
    assert same(changed.pieces[2].value - plain.pieces[2].value, BETA * ONE)
    assert changed.conjugate != plain.conjugate
    assert "beta" in changed.explain()
    assert "beta" not in plain.explain()


def test_the_closure_at_zero_is_computed():
    assert derive(declare("s**2/(1+s)", "c")).relaxation.recession == 1
    assert derive(declare("alpha*s", "c", "M")).relaxation.recession == ALPHA


def test_a_linear_cost_without_a_box_never_pays_the_price():
    (piece,) = derive(declare("alpha*s", "c")).pieces
    assert piece.name == "price unpaid"
    assert piece.indicator == 0
    assert same(piece.value, ALPHA * ONE)


def test_a_radial_quadratic_is_berhu_of_the_norm_and_sides_have_their_own_share():
    s = sympy.Symbol("s", positive=True)
    radial = derive(IndicatorBlock(ALPHA * s**2, s, 1 - ALPHA, M, radial=True))
    assert same(radial.pieces[1].value, 2 * sympy.sqrt(ALPHA * (1 - ALPHA)) * TWO)
    assert same(radial.projection.smallest, TWO / M)
    sided = derive(IndicatorBlock(ALPHA * s**2, s, C, bound=M, lower=BETA))
    above, below = (norm(sympy.Symbol(f"w_{side}"), sympy.oo) for side in "+-")
    assert sided.projection.smallest == sympy.Max(above / M, below / BETA)


def test_huber_in_pieces():
    s, d = sympy.symbols("s d", positive=True)
    huber = sympy.Piecewise((ALPHA * s**2, s <= d), (2 * ALPHA * d * s - ALPHA * d**2, True))
    regularizer = derive(IndicatorBlock(huber, s, C))
    z = sympy.Symbol("z", positive=True)
    assert regularizer.dual.scalar == sympy.Piecewise((z**2 / (4 * ALPHA), z <= 2 * ALPHA * d), (sympy.oo, True))
    assert [piece.name for piece in regularizer.pieces] == ["kept whole", "shared", "price unpaid"]
    assert same(regularizer.pieces[2].value, 2 * ALPHA * d * ONE)


def test_a_symbolic_power_has_numbers_and_laws():
    s, alpha, c, q = sympy.symbols("s alpha c q", positive=True)
    check_laws(IndicatorBlock(alpha * s ** (1 + q), s, c), alpha=0.3, c=0.7, q=0.7)
