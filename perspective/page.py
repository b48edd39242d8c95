"""One self-contained HTML page: the derivation step by step, and pictures with numbers. No script, nothing loaded from outside.

`to_html` is the short form that a notebook shows.
"""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from perspective.errors import InputError
from perspective.mathml import to_mathml
from perspective.sheet import inline, table, to_sections

if TYPE_CHECKING:
    from perspective.figures import Picture
    from perspective.regularizer import Regularizer

DEFAULTS = {"alpha": 0.3, "c": 0.7, "M": 1.5, "p": 1.5}  # numbers for the pictures where none are given
OTHERWISE = 0.5
# browsers stretch a brace only with a mathematical font, so the cases get a rule of their own
CASES = "mtable.cases { border-left: 1.5px solid; border-radius: .5em; padding-left: .35em; margin-left: .15em; }"
CELLS = "mtable.cases mtd { text-align: left; padding: .22em .5em; }"
FONT = 'math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }'
STYLE = f"""
:root {{ --ink: #1f2937; --soft: #4b5563; --line: #e5e7eb; --blue: #0072B2; --wash: #f6f8fa; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #fff; color: var(--ink); }}
body {{ font: 17px/1.62 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }}
main {{ max-width: 1060px; margin: 0 auto; padding: 3rem 1.4rem 4rem; }}
h1 {{ font-size: clamp(1.6rem, 4vw, 2.2rem); line-height: 1.25; margin: 0 0 1rem; }}
h2 {{ font-size: 1.35rem; line-height: 1.25; margin: 3rem 0 .7rem; }}
p, li {{ max-width: 46rem; }}
.lead {{ color: var(--soft); font-size: 1.08rem; }}
math {{ font-size: 1.06em; }}
{FONT}
.formula, .wide {{ overflow-x: auto; margin: .4rem 0 1.2rem; }}
.formula {{ background: var(--wash); border-left: 3px solid var(--blue); padding: .8rem 1.1rem; }}
.formula math {{ margin: 0; width: max-content; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .5rem 1.4rem .5rem 0; border-bottom: 1px solid var(--line); }}
th {{ color: var(--soft); font-size: .88rem; }}
td:first-child {{ white-space: nowrap; }}
td math {{ math-style: normal; }}
{CASES}
{CELLS}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }}
.pictures {{ gap: 2rem 2.4rem; margin: 1.6rem 0; }}
figure {{ margin: 0; }} figure img {{ width: 100%; height: auto; max-width: 600px; }}
figure h3 {{ font-size: 1rem; margin: 0 0 .3rem; }}
figcaption {{ color: var(--soft); font-size: .9rem; line-height: 1.5; max-width: 36rem; }}
code {{ background: var(--wash); padding: .1em .35em; border-radius: 4px; font-size: .9em; }}
footer {{ margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .9rem; }}
@media print {{ figure, .formula {{ break-inside: avoid; }} }}
"""
PLACES = {1: slice(0, 1), 3: slice(1, 2), 4: slice(2, 5), 6: slice(5, 6)}  # step of the sheet: its pictures


def write_page(regularizer: "Regularizer", settings: Mapping[str, float]) -> str:
    """The whole page as text. settings: numbers for the pictures; parameters that are not named take DEFAULTS.

    InputError where a setting is not a parameter of the block, or the block makes no sense with the numbers.
    """
    from perspective.figures import draw_all

    numbers = choose_numbers(regularizer, settings)
    try:
        num = regularizer.bind(**numbers)
    except InputError as error:
        raise InputError(f"the pictures need other numbers, give them with --set: {error}") from error
    pictures = draw_all(num)
    (title, opening), *steps = to_sections(regularizer.explain())
    body = []
    for number, (heading, text) in enumerate(steps, start=1):
        shown = "".join(_figure(picture) for picture in pictures[PLACES.get(number, slice(0, 0))])
        body.append(f"<section><h2>{heading}</h2>{text}{shown and f'<div class=pictures>{shown}</div>'}</section>")
    given = ", ".join(f"{name} = {value:g}" for name, value in numbers.items())
    chosen = [name for name in numbers if name not in settings]
    lead = "Every formula on this page was derived from the one line in its title, by computer algebra. " + (
        f"The pictures are drawn with {given}" if given else "The pictures need no numbers: the cost has no parameters"
    )
    lead += f" ({', '.join(chosen)} chosen for the page; --set NAME=NUMBER changes that)." if chosen else "."
    plain = escape(f"Regulariser of the cost {regularizer.block.cost}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{plain}</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>{opening}"
        f'<p class="lead">{escape(lead)}</p>\n{chr(10).join(body)}\n{_footer(regularizer, numbers)}</main></body></html>'
    )


def choose_numbers(regularizer: "Regularizer", settings: Mapping[str, float]) -> dict[str, float]:
    """A number for every parameter of the block, in its order: the given one, else a default."""
    names = regularizer.block.parameters
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise InputError(f"--set {unknown[0]}: no such parameter; the block's are: {', '.join(names) or 'none'}")
    return {name: settings.get(name, DEFAULTS.get(name, OTHERWISE)) for name in names}


def to_html(regularizer: "Regularizer") -> str:
    """What a notebook shows: the declaration, the cases of r and the conjugate, formulas as MathML."""
    sheet = regularizer.to_json()
    title = inline(regularizer.explain().splitlines()[0].removeprefix("# "))
    rows = [
        (p["name"], *(to_mathml(p[key]["latex"]) for key in ("condition", "indicator", "value")))
        for p in sheet["pieces"]
    ]
    cases = table(("case", "where", inline("$y^*(w)$"), inline("$r(w)$")), rows)
    conjugate = to_mathml("r^*(z) = " + sheet["conjugate"]["group"]["latex"], display=True)
    known = f"<p>Known as: {escape('; '.join(sheet['known_as']))}.</p>" if sheet["known_as"] else ""
    own = "td math { math-style: normal; } th, td { text-align: left; padding: .3em 1em .3em 0; } td { white-space: nowrap; }"
    style = f"<style>.regulariser {{ {FONT} {CASES} {CELLS} {own} }}</style>"  # nested: the notebook's own style stays
    return f'{style}<div class="regulariser"><p><strong>{title}</strong></p>{cases}{conjugate}{known}</div>'


def _figure(picture: "Picture") -> str:
    return (
        f'<figure><h3>{escape(picture.title)}</h3><img src="{picture.uri}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _footer(regularizer: "Regularizer", numbers: Mapping[str, float]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        made = f"perspective {version('perspective-pruning')}"
    except PackageNotFoundError:  # run from a folder that was never installed
        made = "perspective"
    values = "".join(f", {name}={value:g}" for name, value in numbers.items())
    check = f"check_laws(block{values})"
    return (
        f"<footer>Made by {made}. <code>{escape(check)}</code> compares these formulas with a global search.</footer>"
    )
