"""`perspective derive`: a declaration on the command line, the derivation as a sheet, page, LaTeX or JSON; `catalogue`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from perspective.declaration import declare, read_settings
from perspective.derive import derive as derive_block
from perspective.errors import InputError
from perspective.files import write_text


def derive(
    cost: Annotated[
        str,
        typer.Argument(help='Cost of one weight, s = |w|: "alpha*s**2", or "Piecewise((s**2, s <= d), (d*s, True))"'),
    ],
    price: Annotated[str, typer.Option(help="Price of keeping a group")] = "1-alpha",
    bound: Annotated[str | None, typer.Option(help="Box |w| <= BOUND; leave out for none")] = None,
    lower: Annotated[str | None, typer.Option(help="Box -LOWER <= w <= BOUND; 0 for nonnegative weights")] = None,
    radial: Annotated[
        bool, typer.Option("--radial", help="The cost is of the group's Euclidean norm, s = |w|_2")
    ] = False,
    domain: Annotated[str | None, typer.Option(help="What BOUND bounds: box |w_k|, or ball |w|_2 (--radial)")] = None,
    weight: Annotated[str, typer.Option(help="The name that stands for |w| in the cost")] = "s",
    latex: Annotated[bool, typer.Option("--latex", help="Only the regulariser's cases, as one LaTeX formula")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every formula as text and LaTeX in one JSON object")] = False,
    html: Annotated[
        bool, typer.Option("--html", help="One page with the derivation and pictures; needs --out")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=NUMBER for the pictures of --html; may be repeated")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Importable source text: numpy or torch")] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the screen")] = None,
) -> None:
    """Derive big-M and perspective relaxation, the projected regulariser, its conjugate and its prox from one cost."""
    if sum((latex, as_json, html, source is not None)) > 1:
        raise InputError("choose one of --latex, --json, --html and --source")
    if html and out is None:
        raise InputError("a page is for a browser, not for the terminal; add --out FILE.html")
    if settings and not html:
        raise InputError("--set gives numbers to the pictures of --html; add --html, or leave --set out")
    numbers = read_settings(settings or [])
    regularizer = derive_block(declare(cost, price, bound, weight, lower=lower, radial=radial, domain=domain))
    if as_json:
        text = json.dumps(regularizer.to_json(), indent=2)
    elif latex:
        text = regularizer.latex()
    elif html:
        from perspective.page import write_page

        text = write_page(regularizer, numbers)
    elif source is not None:
        text = regularizer.source(source)
    else:
        text = regularizer.explain()
    if out is None:
        print(text)
    else:
        write_text(out, text + "\n")


def catalogue(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with the list `blocks`")] = False,
) -> None:
    """List the blocks that ship: cost, price, box, and what the regulariser is near zero."""
    from perspective.listing import list_catalogue, to_lines

    entries = list_catalogue()
    print(json.dumps({"blocks": entries}, indent=2) if as_json else to_lines(entries))
