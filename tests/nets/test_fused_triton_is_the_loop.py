"""The Triton kernel, run by Triton's interpreter on the CPU, gives the numbers and the state of the float64 loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAWS = {
    "prox": (
        "every_cost_and_size",
        "any_case",
        "extreme_groups",
        "many_small_groups_and_empty_ones",
        "warm_starts_and_tensor_rates",
        "two_regularisers_and_bfloat16",
        "mutants_are_caught",
    ),
    "steps": ("steps_and_state_are_the_unfused", "masters_in_the_kernel"),
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_in_the_interpreter(law):
    pytest.importorskip("triton", reason="Triton comes with the CUDA build of torch only")
    paths = os.pathsep.join((str(HERE.parent.parent), str(HERE)))
    answer = subprocess.run(
        [sys.executable, str(HERE / f"interpreted_{law}.py"), *LAWS[law]],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


WHOLE = ("_classes", "_starts", "_stops", "_order", "_sizes", "_firsts", "_layers", "_tensors", "_offsets", "_lengths")


@pytest.mark.parametrize(("kind", "half", "classes"), [(0, None, 1 << 8), (2, "bf16", 1 << 31)])
def test_the_kernel_compiles_for_a_gpu_that_is_not_there(kind, half, classes, monkeypatch, tmp_path):
    triton = pytest.importorskip("triton", reason="Triton comes with the CUDA build of torch only")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets here")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from nets.fused.triton_kernel import compiled
    from perspective import derive
    from perspective.catalogue.spr import spr

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, tl = compiled(derive(spr()))["sweep"], triton.language
    constants = {
        "CLASSES": classes,
        "TILE": 1024,
        "SPREAD": 256,
        "KIND": kind,
        "REAL": tl.float32,
        "WEIGHT": tl.float32,
        "BYTES": 4,
    }
    constants |= {"HALF": None if half is None else tl.bfloat16, "GATHERED": True, "REPORT": True, "WARM": True}
    kinds = {name: "*i32" for name in (*WHOLE, "_loose", "_positions", "_rate_of")}
    kinds |= {"_addresses": "*i64", "_tensor_count": "i32", "_weights": "*fp64", "_rates": "*fp64", "_begins": "*fp64"}
    kinds |= {name: "*fp32" for name in ("_theta", "_rules", "_found")} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature={name: kinds[name] for name in kernel.arg_names}, constexprs=constants)
    options = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}
    assert len(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]) > 1000
