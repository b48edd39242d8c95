"""Compiled loops are kept on disk as object code: the next process gets the same numbers, without numba and without a pickle."""

import base64
import ctypes
import hashlib
import json
import os
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from nets.fused import machine_code
from nets.fused.machine_code import call, find_code

TEXT = "x[i] = 2 x[i] + sqrt(3)"


def build():
    from numba import carray, types

    def double(x, n):
        numbers = carray(x, (n,))
        for i in range(n):
            numbers[i] = 2 * numbers[i] + np.sqrt(3.0)

    return double, types.void(types.CPointer(types.float64), types.int64)


def forbidden():
    raise AssertionError("the compiler was asked")


def answer(address):
    numbers = np.arange(9.0)
    call(address, (ctypes.c_void_p, ctypes.c_int64))(numbers.ctypes.data, 9)
    return numbers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(tmp_path))
    forget(monkeypatch)
    return tmp_path / "compiled"


def forget(monkeypatch):
    """As a new process, which has linked nothing yet."""
    monkeypatch.setattr(machine_code, "_KEPT", {})


def test_kept_code_needs_no_compiler_and_gives_the_same_bits(folder, monkeypatch):
    first = answer(find_code(TEXT, build))
    assert np.array_equal(first, 2 * np.arange(9.0) + np.sqrt(3.0))
    forget(monkeypatch)
    assert np.array_equal(answer(find_code(TEXT, forbidden)), first)
    with pytest.raises(AssertionError, match="the compiler was asked"):
        find_code(TEXT + " ", forbidden)


def test_it_is_one_json_file_and_no_pickle(folder):
    find_code(TEXT, build)
    (path,) = folder.iterdir()
    content = json.loads(path.read_text())
    code = base64.b64decode(content["object"])
    assert hashlib.sha256(code).hexdigest() == content["sha256"]
    assert b"pickle" not in code
    assert not any(symbol in code for symbol in (b"numba_", b"NRT_", b"Py"))


def cut(content):
    content["object"] = content["object"][:-400]


def other_code(content):
    code = bytearray(base64.b64decode(content["object"]))
    code[len(code) // 2] ^= 255
    content["object"] = base64.b64encode(bytes(code)).decode()


def other_key(content):
    content["key"] = content["key"].replace("sqrt(3)", "sqrt(4)")


def calls_what_is_not_there(content):
    text = f"declare i32 @nowhere_at_all()\ndefine i32 @{machine_code.ENTRY}() {{ %x = call i32 @nowhere_at_all() ret i32 %x }}"
    code = machine_code._machine().emit_object(llvm.parse_assembly(text))
    content["object"], content["sha256"] = base64.b64encode(code).decode(), hashlib.sha256(code).hexdigest()


def lost(content):
    content.clear()


@pytest.mark.parametrize("damage", [cut, other_code, other_key, calls_what_is_not_there, lost])
def test_what_is_damaged_is_compiled_again_and_replaced(folder, monkeypatch, damage):
    first = answer(find_code(TEXT, build))
    (path,) = folder.iterdir()
    whole = path.read_text()
    content = json.loads(whole)
    damage(content)
    path.write_text(json.dumps(content))
    forget(monkeypatch)
    assert np.array_equal(answer(find_code(TEXT, build)), first)
    assert json.loads(path.read_text()).keys() == json.loads(whole).keys()
    forget(monkeypatch)
    assert np.array_equal(answer(find_code(TEXT, forbidden)), first)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no owners of files")
def test_someone_elses_file_is_not_run(folder, monkeypatch):
    find_code(TEXT, build)
    forget(monkeypatch)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(AssertionError, match="the compiler was asked"):
        find_code(TEXT, forbidden)


def test_off_keeps_nothing_and_still_compiles(folder, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_CACHE", "off")
    assert answer(find_code(TEXT, build))[0] == np.sqrt(3.0)
    assert not folder.exists()


def test_only_so_many_files_are_kept(folder, monkeypatch):
    monkeypatch.setattr(machine_code, "MOST_FILES", 1)
    for text in ("one", "two"):
        find_code(text, build)
    assert len(list(folder.iterdir())) == 1


PROCESS = """
import sys, hashlib, torch
from torch import nn
from nets.fused.sweep import prox_fused
from nets.groups import ChannelGroups
from nets.structures.slices import Layer, Span
from perspective import declare, derive
weights = nn.Parameter(torch.randn(40, 30, generator=torch.Generator().manual_seed(0)))
groups = ChannelGroups((Layer("layer", None, (Span(weights),), 40, ("layer",)),))
prox_fused(groups, {"layer": 0.3}, {"layer": derive(declare("a*s**2", price="1-a", bound="M")).bind(a=0.3, M=0.7)})
print(hashlib.sha256(weights.detach().numpy().tobytes()).hexdigest(), "numba" in sys.modules)
"""


def test_a_second_process_does_not_even_import_numba(tmp_path):
    environment = {**os.environ, "PERSPECTIVE_CACHE": str(tmp_path)}
    runs = [
        subprocess.run([sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, compiled), (second, loaded) = (run.stdout.split() for run in runs)
    assert first == second
    assert (compiled, loaded) == ("True", "False")
