"""nets -> perspective <- solvers, with two doors only; and each package stands without the others' libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("perspective", "solvers", "nets")
ALLOWED = {"perspective": {"perspective"}, "solvers": {"solvers", "perspective"}, "nets": {"nets", "perspective"}}
DOORS = {"nets/layerwise.py": {"solvers"}, "perspective/__main__.py": {"solvers", "nets"}}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if node.level == 0 else path.relative_to(ROOT).parts[0]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".commands"):
            yield node.value.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_arrow_is_allowed(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        foreign = {x for x in imported(path) if x in PACKAGES} - ALLOWED[package] - DOORS.get(name, set())
        assert not foreign, f"{name} imports {foreign}"


@pytest.mark.parametrize(
    ("package", "blocked"),
    [
        ("perspective", ("torch", "torchvision", "cvxpy", "highspy", "pyomo", "sklearn", "matplotlib")),
        ("nets", ("cvxpy", "highspy", "pyomo", "torch_pruning")),
        ("solvers", ("torch", "torchvision", "cvxpy", "highspy", "pyomo")),
    ],
)
def test_a_package_imports_without_what_it_does_not_need(package, blocked):
    code = f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\nimport {package}\nprint({package}.__name__)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == package
