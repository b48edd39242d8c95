"""Compiled loops kept on disk: what was compiled once, the next process loads in milliseconds, without numba.

A file is one JSON object in the folder of the derivations (`perspective/cache.py`; PERSPECTIVE_CACHE=off keeps nothing): the
object file that LLVM wrote, as text, its SHA-256, and the key, which is the whole source text, the versions of numba and
llvmlite and this processor with its features. Another key is another file, so that old code never meets new text. numba's own
cache (`cache=True`) is not used: it keeps pickles. What runs from here is as trusted as Python's own __pycache__: it lies in a
folder of the user's, and a file that belongs to someone else is not looked at. What is damaged or cannot be linked is compiled
again: the answer is the same, only later.
"""

import base64
import contextlib
import ctypes
import functools
import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from perspective.cache import find_folder
from perspective.errors import CheckFailed, InputError
from perspective.files import write_text

ENTRY = "entry"
NOTHING_TO_FREE = "define void @NRT_MemInfo_call_dtor(ptr %block) { ret void }"  # our arrays own no memory
MOST_FILES = 256  # beyond it the oldest go; one takes about 50 kB
_SCRAP = (ctypes.c_void_p * 2)()  # where numba's functions put what they return and what they raise
_KEPT: dict[str, int] = {}
_LIBRARIES: list[Any] = []  # code lives as long as the process
_LOCK = threading.Lock()
_NUMBERS = itertools.count()  # of libraries, whose names are used once


def find_code(text: str, build: Callable[[], tuple[Any, Any]]) -> int:
    """The C address of the function that `text` stands for: int f(void*, void*, arguments...), 0 where all went well.

    build   -> (a Python function which numba compiles, its signature); called only where the disk does not have the code.
    """
    key = json.dumps({"text": text, "made for": _made_for()})
    digest = hashlib.sha256(key.encode()).hexdigest()
    with _LOCK:
        if digest not in _KEPT:
            folder = find_folder()
            path = None if folder is None else folder / "compiled" / f"{digest}.json"
            address = None if path is None else _load(path, key)
            if address is None:
                machine_code = _compile(*build())
                address = _link(machine_code)
                if path is not None:
                    _store(path, key, machine_code)
            _KEPT[digest] = address
        return _KEPT[digest]


def call(address: int, kinds: tuple[Any, ...]) -> Callable[..., None]:
    """The function as one of Python's, of ctypes' argument `kinds`; it runs without Python's lock."""
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *kinds)(address)
    first, second = ctypes.addressof(_SCRAP), ctypes.addressof(_SCRAP) + ctypes.sizeof(ctypes.c_void_p)

    def run(*arguments: Any) -> None:
        if function(first, second, *arguments) != 0:
            raise CheckFailed("a compiled loop of the fused prox stopped with an error; take implementation='flat'")

    return run


def _load(path: Path, key: str) -> int | None:
    """The address, or None: never stored, damaged, someone else's, or in need of a function that is not here."""
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        machine_code = base64.b64decode(content["object"], validate=True)
        if content["key"] != key or content["sha256"] != hashlib.sha256(machine_code).hexdigest():
            return None
        return _link(machine_code)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # RuntimeError: LLVM's
        return None


def _store(path: Path, key: str, machine_code: bytes) -> None:
    """Whole or not at all; silent where it cannot be written: it can always be compiled again."""
    with contextlib.suppress(InputError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = base64.b64encode(machine_code).decode("ascii")
        digest = hashlib.sha256(machine_code).hexdigest()
        write_text(path, json.dumps({"key": key, "sha256": digest, "object": text}))
        for old in sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-MOST_FILES]:
            old.unlink(missing_ok=True)


def _link(machine_code: bytes) -> int:
    """Make the object's entry callable; RuntimeError where a symbol that it calls is not in this process."""
    library = llvm.JITLibraryBuilder().add_object_img(machine_code).add_current_process().export_symbol(ENTRY)
    tracker = library.link(_linker(), f"fused{next(_NUMBERS)}")
    _LIBRARIES.append(tracker)
    return int(tracker[ENTRY])


def _compile(function: Any, signature: Any) -> bytes:
    """An object file with the function as its one entry, everything that it calls inside."""
    from numba.core import compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.nrt = True
    flags.error_model = "numpy"
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    contexts = (cpu_target.typing_context, cpu_target.target_context)
    with global_compiler_lock:
        made = compiler.compile_extra(*contexts, function, signature.args, signature.return_type, flags, {})
        made.library.finalize()
    module = made.library._final_module.clone()
    module.link_in(llvm.parse_assembly(NOTHING_TO_FREE))
    for part in (*module.functions, *module.global_variables):
        if not part.is_declaration and part.name != made.fndesc.llvm_func_name:
            part.linkage = "internal"
    module.get_function(made.fndesc.llvm_func_name).name = ENTRY
    machine = _machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3)))
    return bytes(machine.emit_object(module))


@functools.cache
def _made_for() -> dict[str, str]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return {
        "written by": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "numba": version("numba"),
        "llvmlite": version("llvmlite"),
        "machine": f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}",
    }


def _machine() -> Any:
    _made_for()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten()
    # large: code and its constants may be put more than 2 GB apart, and LLVM ends the process where a distance does not fit
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, reloc="static", codemodel="large", jit=True
    )


@functools.cache
def _linker() -> Any:
    return llvm.create_lljit_compiler(_machine(), suppress_errors=True)
