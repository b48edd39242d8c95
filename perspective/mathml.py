"""LaTeX of the sheet -> presentation MathML, which browsers draw without any script (W3C, MathML Core).

Reads the part of LaTeX that sympy prints and `explain` writes: letters, numbers, scripts, fractions, roots, fences, sums,
cases. A command it does not know is refused with a sentence, never dropped.
"""

import re
from html import escape
from typing import final

from perspective.errors import InputError

TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
GREEK = {
    **{"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "zeta": "ζ", "eta": "η", "theta": "θ"},
    **{"iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ"},
    **{"tau": "τ", "upsilon": "υ", "phi": "ϕ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ"},
    **{"Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ"},
    **{"Omega": "Ω", "varepsilon": "ε", "vartheta": "ϑ", "varpi": "ϖ", "varrho": "ϱ", "varsigma": "ς", "varphi": "φ"},
}
LETTERS = {**GREEK, "infty": "∞", "nabla": "∇", "partial": "∂", "ell": "ℓ", "top": "⊤", "emptyset": "∅"}
OPERATORS = {
    **{"le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "neq": "≠", "ne": "≠", "in": "∈", "to": "→", "approx": "≈"},
    **{
        "wedge": "∧",
        "vee": "∨",
        "neg": "¬",
        "cdot": "⋅",
        "times": "×",
        "pm": "±",
        "mid": "|",
        "dots": "…",
        "ldots": "…",
    },
}
FENCES = {"lVert": "‖", "rVert": "‖", "Vert": "‖", "vert": "|", "lvert": "|", "rvert": "|", "{": "{", "}": "}"}
FENCES |= {"lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩"}
FENCES |= {character: character for character in "()[]|/"}
LIMITS = {"max", "min", "sup", "inf", "lim"}  # their subscript stands below them in a displayed formula
FUNCTIONS = {"arg", "log", "ln", "exp", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign"} | LIMITS
SPACES = {",": ".17em", ":": ".22em", ";": ".28em", "!": "0em", " ": ".3em", "quad": "1em", "qquad": "2em"}
SIZES = {"big": "1.2em", "Big": "1.8em", "bigl": "1.2em", "bigr": "1.2em", "Bigl": "1.8em", "Bigr": "1.8em"}
ACCENTS = {"hat": "^", "bar": "¯", "tilde": "~", "dot": "˙", "ddot": "¨", "vec": "→", "check": "ˇ", "breve": "˘"}
THIN = '<mspace width=".17em"/>'
ENDS_OF_CELL = ("&", r"\\", r"\end")
STYLED = {"R": "ℝ", "N": "ℕ", "Z": "ℤ", "L": "ℒ", "F": "ℱ"}  # \mathbb and \mathcal


def to_mathml(latex: str, display: bool = False) -> str:
    """One <math> element; `display`: on a line of its own. InputError for LaTeX outside the part that is read."""
    reader = Reader(TOKEN.findall(latex), display)
    body = reader.row(stop=("",))
    kind = ' display="block"' if display else ""
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"{kind}>{body}</math>'


@final
class Reader:
    """Walks over the tokens of one formula; every method returns the MathML of what it consumed."""

    def __init__(self, tokens: list[str], display: bool) -> None:
        self.tokens = tokens
        self.display = display
        self.place = 0

    def row(self, stop: tuple[str, ...]) -> str:
        """Everything up to one of the `stop` tokens, which is left in place."""
        found = []
        while (token := self._peek()) not in stop:
            if not token:
                raise InputError(f"the formula {''.join(self.tokens)!r} ends before {' or '.join(stop)}")
            found.append(self._scripted())
        return f"<mrow>{''.join(found)}</mrow>"

    def _peek(self) -> str:
        while self.place < len(self.tokens) and self.tokens[self.place].isspace():
            self.place += 1
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise InputError(f"the formula {''.join(self.tokens)!r} is not complete")
        self.place += 1
        return token

    def _scripted(self) -> str:
        """One symbol with its scripts."""
        stacked = self._peek()[1:] in LIMITS | {"sum"} and self.display
        body = "<mrow></mrow>" if self._peek() in ("_", "^") else self._atom()
        scripts = {"_": "", "^": ""}
        while (token := self._peek()) in ("_", "^", "'"):
            self._take()
            if token == "'":
                primes = 1
                while self._peek() == "'":
                    primes += len(self._take())
                scripts["^"] += f"<mo lspace='0' rspace='0'>{'′″‴'[min(primes, 3) - 1]}</mo>"
            else:
                scripts[token] += self._argument()
        low, high = scripts["_"], f"<mrow>{scripts['^']}</mrow>" if scripts["^"] else ""
        names = ("munder", "mover", "munderover") if stacked else ("msub", "msup", "msubsup")
        name = names[2] if low and high else names[0] if low else names[1]
        return f"<{name}>{body}{low}{high}</{name}>" if low or high else body

    def _argument(self) -> str:
        """A braced group, or the single symbol that stands for one (of a number, its first digit)."""
        token = self._peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.place : self.place + 1] = [token[0], token[1:]]
        return self._atom()

    def _atom(self) -> str:
        token = self._take()
        if token == "{":
            inside = self.row(stop=("}",))
            self._take()
            return inside
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        if token == "-":
            return "<mo>−</mo>"
        if token == "*":
            return "<mo>∗</mo>"
        if token in FENCES and token != "}":  # an unescaped brace groups, it is not shown
            return f'<mo stretchy="false"{_tight(token)}>{token}</mo>'
        if token in "+=<>,;:.!":
            return f"<mo>{escape(token)}</mo>"
        if token.startswith("\\"):
            return self._command(token[1:])
        raise InputError(f"cannot show {token!r} of the formula {''.join(self.tokens)!r}")

    def _command(self, name: str) -> str:
        if name in LETTERS:
            return f"<mi>{LETTERS[name]}</mi>"
        if name in OPERATORS:
            return f"<mo>{OPERATORS[name]}</mo>"
        if name in FENCES:
            return f'<mo stretchy="false"{_tight(FENCES[name])}>{FENCES[name]}</mo>'
        if name in FUNCTIONS:
            after = "" if self._peek() in ("_", "^", "{", "(") else THIN
            word = f"<mi>{name}</mi>{after}"
            return f"<mrow>{THIN}{word}</mrow>" if self._follows_a_factor() else word
        if name in SPACES:
            return f'<mspace width="{SPACES[name]}"/>'
        if name in SIZES:
            fence, size = self._fence(), SIZES[name]
            return f'<mo stretchy="true" symmetric="true" minsize="{size}" maxsize="{size}"{_tight(fence)}>{fence}</mo>'
        if name in ("frac", "tfrac", "dfrac"):
            small = ' displaystyle="false"' if name == "tfrac" else ""
            return f"<mfrac{small}>{self._argument()}{self._argument()}</mfrac>"
        if name in ACCENTS:
            return f'<mover accent="true">{self._argument()}<mo>{ACCENTS[name]}</mo></mover>'
        if name in ("text", "operatorname", "mathrm", "mathit", "mathbf"):
            return self._words(name)
        if name in ("mathbb", "mathcal"):
            letter = self._raw()
            return f"<mi>{STYLED.get(letter, letter)}</mi>"
        structures = {"left": self._fenced, "begin": self._table, "sqrt": self._root, "sum": self._sum}
        if name in structures:
            return structures[name]()
        raise InputError(f"the page cannot show the LaTeX command \\{name}; rename the symbol that is printed with it")

    def _follows_a_factor(self) -> bool:
        """Whether a letter, number or closing brace stands before the token just taken: c max, but log max."""
        tokens = [token for token in self.tokens[: self.place - 1] if not token.isspace()]
        last = tokens[-1] if tokens else ""
        return (last[-1:].isalnum() and last[1:] not in FUNCTIONS | OPERATORS.keys() | SPACES.keys()) or last == "}"

    def _sum(self) -> str:
        return '<mo largeop="true" movablelimits="false">∑</mo>' if self.display else "<mo>∑</mo>"

    def _root(self) -> str:
        if self._peek() != "[":
            return f"<msqrt>{self._argument()}</msqrt>"
        self._take()
        index = self.row(stop=("]",))
        self._take()
        return f"<mroot>{self._argument()}{index}</mroot>"

    def _fence(self) -> str:
        token = self._take().removeprefix("\\")
        if token != "." and token not in FENCES:
            raise InputError(f"the page cannot show {token!r} as a bracket")
        return FENCES.get(token, "")

    def _fenced(self) -> str:
        opening = self._fence()
        inside = self.row(stop=(r"\right",))
        self._take()
        closing = self._fence()
        left, right = (
            f'<mo fence="true" stretchy="true" form="{form}">{fence}</mo>' if fence else ""
            for fence, form in ((opening, "prefix"), (closing, "postfix"))
        )
        return f"<mrow>{left}{inside}{right}</mrow>"

    def _table(self) -> str:
        kind = self._raw()
        if kind != "cases":
            raise InputError(f"the page cannot show the LaTeX environment {kind!r}")
        rows, cells = [], []
        while True:
            cells.append(f"<mtd>{self.row(stop=ENDS_OF_CELL)}</mtd>")
            token = self._take()
            if token == "&":
                continue
            rows.append(f"<mtr>{''.join(cells)}</mtr>")
            cells = []
            if token == r"\end":
                self._raw()
                return f'<mtable class="cases" displaystyle="true">{"".join(rows)}</mtable>'

    def _raw(self) -> str:
        """The characters of a braced group, as they are."""
        if self._take() != "{":
            raise InputError(f"the formula {''.join(self.tokens)!r} lacks a brace")
        start, depth = self.place, 1
        while depth:
            if self.place == len(self.tokens):
                raise InputError(f"the formula {''.join(self.tokens)!r} lacks a closing brace")
            depth += {"{": 1, "}": -1}.get(self.tokens[self.place], 0)
            self.place += 1
        return "".join(self.tokens[start : self.place - 1])

    def _words(self, name: str) -> str:
        words = escape(self._raw().replace("\\_", "_"))
        if name == "text":
            return f"<mtext>{words.replace(' ', chr(160))}</mtext>"
        if name == "mathbf":
            return f'<mi style="font-weight: bold">{words}</mi>'
        style = ' mathvariant="normal"' if len(words) == 1 else ""  # one letter would be slanted
        return f"<mi{style}>{words}</mi>{THIN if self._peek()[:1].isalpha() else ''}"


def _tight(fence: str) -> str:
    """Bars say nothing of their side, so browsers would set them like infix operators."""
    return ' lspace="0" rspace="0"' if fence in "|‖" else ""
