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
        "extreme_groups",
        "many_small_groups_and_empty_ones",
        "warm_starts_and_tensor_rates",
        "two_regularisers_and_bfloat16",
    ),
    "step": ("steps_and_state_are_the_unfused", "masters_in_the_kernel", "mutants_are_caught"),
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_in_the_interpreter(law):
    pytest.importorskip("triton", reason="Triton comes with the CUDA build of torch only")
    paths = os.pathsep.join((str(HERE.parent.parent), str(HERE)))
    answer = subprocess.run(
        [sys.executable, str(HERE / "interpreted_triton.py"), *LAWS[law]],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
