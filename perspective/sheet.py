"""The sheet that `explain` writes, as HTML: the few Markdown forms it uses, and its formulas as MathML.

One text is the source of both, so the page and the sheet cannot say different things.
"""

import re
from collections.abc import Iterator
from html import escape

from perspective.mathml import to_mathml

INLINE = re.compile(r"\$([^$]+)\$([.,;:)]*)|\*\*([^*]+)\*\*|`([^`]+)`")
CELL = re.compile(r"(?<!\\)\|")


def to_sections(markdown: str) -> tuple[tuple[str, str], ...]:
    """(heading, body) of every `#` and `##` section, both as HTML, in order; the first is the title's."""
    parts = re.split(r"^#{1,2} (.*)$", markdown, flags=re.MULTILINE)
    return tuple((inline(h), "\n".join(_paragraphs(body))) for h, body in zip(parts[1::2], parts[2::2], strict=True))


def inline(text: str) -> str:
    """One line of Markdown: $formula$, **bold**, `code`; everything else is escaped."""
    found, end = [], 0
    for match in INLINE.finditer(text):
        found.append(escape(text[end : match.start()], quote=False))
        formula, mark, bold, code = match.groups()
        if formula is not None:  # a full stop never begins a line
            math = to_mathml(formula)
            found.append(f'<span style="white-space: nowrap">{math}{mark}</span>' if mark else math)
        elif bold is not None:
            found.append(f"<strong>{inline(bold)}</strong>")
        else:
            found.append(f"<code>{escape(code)}</code>")
        end = match.end()
    return "".join(found) + escape(text[end:], quote=False)


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """An HTML table of cells that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _paragraphs(body: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", body.strip()):
        lines = block.splitlines()
        if not lines:
            continue
        if block.startswith("$$") and block.endswith("$$"):
            yield f'<div class="formula">{to_mathml(block[2:-2], display=True)}</div>'
        elif lines[0].startswith("|"):
            cells = [tuple(inline(cell.strip()) for cell in CELL.split(line)[1:-1]) for line in lines]
            yield table(cells[0], cells[2:])  # the second line only draws the rule
        elif lines[0].startswith("- "):
            yield "<ul>" + "".join(f"<li>{inline(item[2:])}</li>" for item in lines) + "</ul>"
        else:
            yield f"<p>{inline(' '.join(lines))}</p>"
