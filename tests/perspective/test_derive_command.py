"""`perspective derive`: Markdown, LaTeX, JSON and source; files whole or not at all; exit status 2 with one sentence."""

import json
import re
import subprocess
import sys

import pytest
import typer

from perspective import InputError, commands


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


def test_the_whole_declaration_can_be_written_on_the_command_line():
    huber = "Piecewise((s**2/2, s <= d), (d*s - d**2/2, True))"
    answer = run("derive", huber, "--price", "c", "--bound", "M", "--lower", "0", "--json")
    assert json.loads(answer.stdout)["parameters"] == ["M", "c", "d"]
    assert "w_{+}" in json.loads(answer.stdout)["pieces"][0]["condition"]["latex"]
    ball = run("derive", "a*x**2", "--weight", "x", "--radial", "--bound", "M", "--price", "c", "--latex").stdout
    assert r"\lVert w \rVert_{2}}{M}" in ball
    assert r"\infty" not in ball
    box = run("derive", "a*s**2", "--radial", "--domain", "box", "--bound", "M", "--price", "c", "--latex").stdout
    assert r"\lVert w \rVert_{\infty}}{M}" in box


def test_declarations_that_do_not_fit_together_are_one_sentence():
    app = typer.Typer()
    app.command()(commands.derive)
    command = typer.main.get_command(app)
    for arguments, cure in (
        (["s**2", "--domain", "ball"], "leave domain out"),
        (["s**2", "--lower", "1"], "lower=0"),
        (["s**2", "--radial", "--lower", "0"], "leave lower out"),
        (["s**2", "--price", "(1, 2)"], "out of scope"),
        (["Piecewise((s**2, s <= 2*d), (s**2, s <= d), (s**3, True))"], "ascending"),
        (["Piecewise((s**2, s <= d), (s**2 + 1, True))"], "cases meet"),
        (["Piecewise(s**2, s <= d)"], "write it as Piecewise"),
        (["s**2", "--weight", "1x"], "single name"),
    ):
        with pytest.raises(InputError, match=re.escape(cure)):
            command.main(arguments, standalone_mode=False)


def test_a_second_call_reads_what_the_first_derived(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(tmp_path))
    first = run("derive", "gamma*s**2", "--price", "1-gamma", "--bound", "M")
    (path,) = (tmp_path / "derivations").iterdir()
    written = path.stat().st_mtime_ns
    assert run("derive", "gamma*s**2", "--price", "1-gamma", "--bound", "M").stdout == first.stdout
    assert path.stat().st_mtime_ns == written
    monkeypatch.setenv("PERSPECTIVE_CACHE", "off")
    assert run("derive", "gamma*s**2", "--price", "1-gamma", "--bound", "M").stdout == first.stdout
