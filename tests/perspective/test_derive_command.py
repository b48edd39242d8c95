"""`perspective derive`: Markdown, LaTeX, JSON and source; files whole or not at all; exit status 2 with one sentence."""

import json
import subprocess
import sys


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "perspective", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def test_the_sheet_shows_every_step():
    answer = run("derive", "alpha*s**2", "--price", "1-alpha", "--bound", "M")
    assert answer.returncode == 0, answer.stderr
    for heading in ("mixed-integer program", "big-M", "perspective", "projection", "conjugate", "proximal"):
        assert heading in answer.stdout
    assert answer.stdout.count("| kept whole |") == answer.stdout.count("| held by the box |") == 1
    assert answer.stderr == ""


def test_json_is_one_object_and_latex_one_formula():
    answer = run("derive", "alpha*s**2 + beta*s", "--json")
    formulas = json.loads(answer.stdout)
    assert [piece["name"] for piece in formulas["pieces"]] == ["kept whole", "shared"]
    assert "beta*norm(w, 1)" in formulas["pieces"][1]["value"]["text"]
    assert run("derive", "alpha*s**2", "--latex").stdout.startswith(r"r(w) = \begin{cases}")


def test_out_writes_the_whole_file_or_nothing(tmp_path):
    assert run("derive", "alpha*s**2", "--out", "sheet.md", cwd=tmp_path).returncode == 0
    assert (tmp_path / "sheet.md").read_text().startswith("# Regulariser")
    refused = run("derive", "alpha*s**2", "--out", "nowhere/sheet.md", cwd=tmp_path)
    assert refused.returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sheet.md"]


def test_bad_input_is_one_sentence_and_status_two():
    for arguments in (["sqrt(s)"], ["alpha*s**"], ["s**2", "--price", "-1"], ["s**2", "--source", "julia"]):
        answer = run("derive", *arguments)
        assert answer.returncode == 2
        assert answer.stdout == ""
        assert len(answer.stderr.strip().splitlines()) == 1
        assert "Traceback" not in answer.stderr
