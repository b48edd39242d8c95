"""Every python block of README and docs runs, top to bottom; every `perspective` line of a bash block runs too."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    p for p in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))] if p.exists()
]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_blocks_run(path, tmp_path):
    code = "\n".join(blocks(path, "python"))
    assert code
    script = tmp_path / "document.py"
    script.write_text(code)
    answer = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr


def test_command_lines_of_the_readme_run(tmp_path):
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.strip().splitlines()]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line.split(" > ")[0])
        assert words[0] == "perspective"
        answer = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False
        )
        assert answer.returncode == 0, f"{line}\n{answer.stderr}"
    assert (tmp_path / "runs" / "pruned" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "derivation.md").exists()


def test_make_targets_of_the_readme_exist():
    for target in ("install", "demo", "test", "lint"):
        answer = subprocess.run(
            ["make", "-n", target], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
        )
        assert answer.returncode == 0, answer.stderr
