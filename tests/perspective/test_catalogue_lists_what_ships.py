"""The catalogue forgets no file, and every formula that it prints is true by the oracle."""

import json
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest

import perspective.catalogue
from perspective.catalogue import ALL
from perspective.commands import catalogue
from perspective.listing import list_catalogue, to_lines
from perspective.oracle import consult

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 2.5, "d": 0.4}  # a box so wide that it does not hold y* below


@pytest.fixture(scope="module")
def entries():
    return list_catalogue()


def evaluate(text, w, numbers):
    """A printed formula in numbers: |w|_p by numpy, everything else as arithmetic."""
    norms = {
        f"|w|_{p}": float(np.linalg.norm(w, q)) for p, q in (("inf", np.inf), (1, 1), (2, 2), (3, 3), ("(3/2)", 1.5))
    }
    for name, size in norms.items():
        text = text.replace(name, f"({size!r})")
    assert "|" not in text
    return eval(text, {"__builtins__": {}, "sqrt": np.sqrt, "cosh": np.cosh}, dict(numbers))


def test_every_file_is_listed_and_every_name_is_its_own(entries):
    files = {module.name for module in pkgutil.iter_modules(perspective.catalogue.__path__)}
    assert files == {make.__name__ for make in ALL} == {entry["name"] for entry in entries}
    assert len(ALL) == len(entries) == len(files)
    declarations = {(e["cost"], e["price"], e["box"]) for e in entries}
    assert len(declarations) == len(ALL)


def test_parameters_keep_to_the_shared_names():
    for make in ALL:
        assert set(make().parameters) <= set(NUMBERS)


@pytest.mark.parametrize("make", ALL, ids=lambda f: f.__name__)
def test_the_printed_formula_is_the_oracles_value(make, entries):
    entry = next(entry for entry in entries if entry["name"] == make.__name__)
    block = make()
    numbers = {name: NUMBERS[name] for name in block.parameters}
    truth = consult(block, numbers)
    for w in (np.full(9, 0.01), 0.02 + 0.001 * np.arange(7)):
        if entry["near_zero"] is not None:
            assert evaluate(entry["near_zero"], w, numbers) == pytest.approx(truth.value(w)[0], rel=1e-8)
    cost = entry["cost"].removesuffix(" of |w|_2")
    for size in (0.1, 0.4, 1.3):
        python = re.sub(r"(.*) if (.*), else (.*)", r"(\1) if (\2) else (\3)", cost)
        assert evaluate(python, np.ones(1), {**numbers, "s": size}) == pytest.approx(
            float(truth.cost(np.array([size]))[0])
        )
    assert evaluate(entry["price"], np.ones(1), numbers) == pytest.approx(truth.price)


def test_blocks_without_a_closed_form_say_so(entries):
    assert [e["name"] for e in entries if e["near_zero"] is None] == ["huber", "hyperbolic", "saturating"]


def test_one_line_each(entries):
    lines = to_lines(entries).splitlines()
    assert len(lines) == len(ALL) + 1
    assert [line.split()[0] for line in lines[1:]] == [make.__name__ for make in ALL]


def test_the_command_prints_lines_or_one_object(entries, capsys):
    command = [sys.executable, "-W", "error", "-m", "perspective", "catalogue"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert printed == to_lines(entries) + "\n"
    catalogue(as_json=True)
    assert json.loads(capsys.readouterr().out) == {"blocks": entries}
