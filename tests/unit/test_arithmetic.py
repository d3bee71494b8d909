"""Reproducible arithmetic: the same bytes whatever limits and threads a user sets, and results that are right.

No limit makes this machine another processor: the command sets those of torch, OpenBLAS and numpy back. Other
processors are emulated by qemu where that is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from ramp.core import arithmetic
from ramp.core.errors import RampError
from ramp.core.provenance import LIMITS

REPO = Path(__file__).resolve().parents[2]

STAND_INS: dict[str, tuple[dict[str, str], str]] = {
    "this machine": ({}, "1"),
    "two threads": ({"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}, "2"),
    "torch, MKL and oneDNN told to use SSE": (
        {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"},
        "1",
    ),
    "OpenBLAS told to be Sandy Bridge": ({"OPENBLAS_CORETYPE": "Sandybridge"}, "3"),
    "MKL told to use SSE4.2": ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "MKL_VML_MODE": "LA"}, "5"),
}
"""Limits and threads that a user may have set. In fast arithmetic they change the bytes. In reproducible arithmetic
those of ``arithmetic.ENVIRONMENT`` are set back, and the others concern libraries that are not called."""
HERE = ("this machine", "torch, MKL and oneDNN told to use SSE")


KINDS = [(kind, name) for name in STAND_INS for kind in arithmetic.KINDS if kind == "reproducible" or name in HERE]
"""What is run: every stand-in, and two of them without reproducible arithmetic."""


def probe(kind: str, limits: dict[str, str], threads: str, *emulator: str) -> tuple[dict[str, Any], str]:
    """Run the probe of small work; return what it found and all that it printed."""
    inherited = arithmetic.as_it_is(os.environ)
    command = [*emulator, sys.executable, "-m", "tests.arithmetic_probe", "--arithmetic", kind, "--threads", threads]
    own = arithmetic.ENVIRONMENT if kind == "reproducible" else {}  # where limits differ from it, the probe starts anew
    environment = {**inherited, **own, **limits, "MKL_VERBOSE": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, str], tuple[dict[str, Any], str]]:
    """Return what the probe found and printed, by arithmetic and stand-in."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(KINDS, pool.map(lambda each: probe(each[0], *STAND_INS[each[1]]), KINDS), strict=True))


@pytest.mark.parametrize("name", list(STAND_INS)[1:])
def test_the_same_bytes(name, runs):
    assert runs["reproducible", name][0]["digests"] == runs["reproducible", "this machine"][0]["digests"]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_limits_are_set_back_in_reproducible_arithmetic_alone(kind, name, runs):
    """Shows what these stand-ins stand for: all of them run the same kernels of torch, OpenBLAS and numpy."""
    set_back = arithmetic.ENVIRONMENT if kind == "reproducible" else {}
    in_force = runs[kind, name][0]["limits"]
    asked = {key: value for key, value in STAND_INS[name][0].items() if key in LIMITS and key != "OMP_NUM_THREADS"}
    assert (asked | set_back).items() <= in_force.items()


def test_stand_ins_differ_without_it(runs):
    one, other = (runs["fast", name][0]["digests"] for name in HERE)
    assert {"products", "training"} <= {name for name in one if one[name] != other[name]}


def test_errors_are_those_of_rounding(runs):
    found = runs["reproducible", "this machine"][0]
    assert found["product_error"] < 1
    assert found["relative_error"] < 1e-6


def test_no_call_of_mkl(runs):
    calls = {kind: runs[kind, "this machine"][1].count("MKL_VERBOSE SGEMM") for kind in arithmetic.KINDS}
    assert calls["reproducible"] == 0
    assert calls["fast"] > 0 or "mkl" not in torch.__config__.show().lower()


@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no qemu-x86_64 (Debian: qemu-user)")
@pytest.mark.parametrize("processor", ["Haswell", "Skylake-Client"])
def test_the_same_bytes_on_an_emulated_processor(processor, runs):
    found, _ = probe("reproducible", {}, "1", "qemu-x86_64", "-cpu", processor)
    assert found["digests"] == runs["reproducible", "this machine"][0]["digests"]


@pytest.mark.parametrize(("flags", "known"), [("sse2 avx fma", False), ("sse2 fma avx2", True), ("", True)])
def test_processor_without_avx2(flags, known, monkeypatch):
    monkeypatch.setattr(arithmetic, "cpuinfo", lambda field: flags)
    assert arithmetic.has_avx2() is known
    if not known:
        monkeypatch.setattr(arithmetic, "X86", True)
        with pytest.raises(RampError, match="AVX2"):
            arithmetic.enable()


@pytest.mark.parametrize(
    ("words", "kind"),
    [([], "reproducible"), (["--arithmetic", "fast"], "fast"), (["--arithmetic=fast", "--threads", "2"], "fast")],
)
def test_the_command_line_decides(words, kind):
    assert arithmetic.demanded(words) == kind
