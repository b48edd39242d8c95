"""The Triton source, run by Triton's own interpreter on the CPU, gives the float64 prox within float32 rounding."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import sympy

from perspective import IndicatorBlock, InputError, derive
from perspective.catalogue.spr import spr

s, alpha, beta, c, d, M = sympy.symbols("s alpha beta c d M", positive=True)
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "d": 0.4, "M": 1.5}
HUBER = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
BLOCKS = {
    "spr": spr(),
    "elastic": IndicatorBlock(alpha * s**2 + beta * s, s, c),
    "huber": IndicatorBlock(HUBER, s, c, bound=M),
    "power": IndicatorBlock(alpha * s ** sympy.Rational(3, 2), s, c),
    "radial": IndicatorBlock(alpha * s**2, s, c, bound=M, radial=True),
    "two_sides": IndicatorBlock(alpha * s**2, s, c, bound=M, lower=d),
}
PROGRAM = """
import importlib, json, sys
import numpy as np, torch
np.seterr(all="ignore")
points = np.load("points.npy")
answers = {}
for name, numbers in json.load(open("numbers.json")).items():
    module = importlib.import_module("kernel_" + name)
    w, y = module.prox_and_indicator(torch.tensor(points, dtype=torch.float32), 0.5, **numbers)
    answers[name] = w.numpy()
np.savez("answers.npz", **answers)
"""


def test_every_kind_of_cost(tmp_path):
    pytest.importorskip("triton", reason="Triton comes with the CUDA build of torch only")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 5)) * np.array([[0.0], [0.3], [1.0], [2.0], [6.0]])
    np.save(tmp_path / "points.npy", points)
    numbers = {name: {p: NUMBERS[p] for p in block.parameters} for name, block in BLOCKS.items()}
    (tmp_path / "numbers.json").write_text(json.dumps(numbers))
    for name, block in BLOCKS.items():
        (tmp_path / f"kernel_{name}.py").write_text(derive(block).source("triton"))
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    answers = np.load(tmp_path / "answers.npz")
    for name, block in BLOCKS.items():
        truth = derive(block).bind(**numbers[name]).prox(points, 0.5)
        assert np.abs(answers[name] - truth).max() <= 3e-6 * np.abs(points).max(), name
        assert np.array_equal(answers[name] == 0, truth == 0), name


def test_what_triton_cannot_say_is_refused():
    with pytest.raises(InputError, match="Triton"):
        derive(IndicatorBlock(s * sympy.atan(s), s, c)).source("triton")
