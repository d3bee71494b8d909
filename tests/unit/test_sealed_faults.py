"""Files whose checksum is right and whose content is not: one sentence, wherever they are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramp.assets.fetched_files import asset_path
from ramp.core.atomic_files import DamagedFile
from ramp.core.errors import RampError
from ramp.core.tensors import save_arrays
from ramp.evaluation.metrics_file import read_metrics
from ramp.league.acceptance_record import LeagueError, read_acceptance
from ramp.optimum.run import Enumeration
from ramp.packages.record_row import native_bytes
from ramp.problem.features import FEATURES, SIZE
from ramp.rl.policy import Policy
from ramp.rl.role_depth import NAMES, TablePolicy
from ramp.rows.meta_file import KEY, read_meta
from ramp.search.trained_policy import read_policy
from tests.refusals import refused
from tests.sealed import read_json, write_sealed

ABOUT = {"model": "m", "method": "ramp", "budgets": [4.0], "seed": 0, "episodes": 1}
LINEAR = {"name": "a", "layer": 0, "role": "q", "d_out": 4, "d_in": 8, "site": "s", "index": 0, "has_bias": False}
INDEX: dict[str, Any] = {
    "model": "m", "units": "halves-1", "linears": [LINEAR], "members": [[LINEAR]], "widths": [3, 4],
    "bytes": [[10, 20]], "features": [[0.5]], "group_size": 8, "windows": 1, "length": 4, "nll_float": 1.0,
    "command": "x",
}  # fmt: skip
KEYED = dict.fromkeys(KEY, "x") | {"budget_bits": 4, "group_size": 128, "seed": 0}
TEXT = {"length": 8, "windows": [{"tokens": 7, "nll": 1.0, "kl": None}]}
METRICS: dict[str, Any] = {
    "key": KEYED, "sizes": {"bytes_file": 1}, "simulated": True, "note": "", "versions": {},
    "texts": {"heldout": TEXT | dict.fromkeys(("ppl", "ppl_low", "ppl_high", "kl", "kl_low", "kl_high"))},
}  # fmt: skip


def _enumeration(folder: Path, record: Any) -> Enumeration:
    write_sealed(folder / "e.json", record)
    save_arrays(folder / "e.safetensors", {"kl": np.zeros(2), "nll": np.zeros(2)})
    return Enumeration.read(folder / "e.json")


def test_an_enumeration_says_what_its_problem_is(tmp_path: Path) -> None:
    assert _enumeration(tmp_path, INDEX).sizes.tolist() == [[10, 20]]
    broken: list[dict[str, Any]] = [
        {},
        {key: value for key, value in INDEX.items() if key != "bytes"},
        INDEX | {"linears": None},
        INDEX | {"widths": 3},
        INDEX | {"bytes": [[10]]},
        INDEX | {"bytes": [["x", 20]]},
        INDEX | {"members": [[]]},
        INDEX | {"features": [[0.5], [0.5]]},
    ]
    for record in broken:
        refused(DamagedFile, {"run ramp.optimum again": partial(_enumeration, tmp_path, record)})


def _changed(folder: Path, **changes: Any) -> Any:
    path = folder / "policy.json"
    whole = read_json(path)
    left = {key: value for key, value in (whole | changes).items() if value is not ...}
    write_sealed(path, left)
    try:
        return read_policy(folder)
    finally:
        write_sealed(path, whole)


NETWORK_FAULTS = ({"kind": []}, {"kind": None}, {"features": ...}, {"features": None}, {"sizes": 5}, {"sizes": []},
                  {"sizes": [SIZE, 10**9]}, {"widths": 3}, {"model": ...}, {"budgets": "4"})  # fmt: skip


@pytest.mark.parametrize("changes", NETWORK_FAULTS)
def test_a_network_is_whole_or_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    layer = np.zeros((2, len(FEATURES)), np.float32), np.zeros(2, np.float32)
    Policy([layer], (3, 4), ABOUT).save(tmp_path)
    assert isinstance(read_policy(tmp_path), Policy)
    refused(RampError, {"train": partial(_changed, tmp_path, **changes)})


@pytest.mark.parametrize("changes", [{"numbers": 5}, {"numbers": list(NAMES)}, {"widths": ...}, {"widths": "ab"}])
def test_a_table_is_whole_or_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    TablePolicy(np.zeros(len(NAMES)), (3, 4), ABOUT).save(tmp_path)
    assert isinstance(read_policy(tmp_path), TablePolicy)
    refused(RampError, {"policy.json": partial(_changed, tmp_path, **changes)})


def test_an_acceptance_holds_numbers(tmp_path: Path) -> None:
    record = {"model": "m", "accepted": False, "bits": 3, "increase_own": 0.05, "limit": 0.1}
    path = tmp_path / "accepted.json"
    refused(LeagueError, {"5.0 %": lambda: read_acceptance(write_sealed(path, record))})
    infinite = record | {"increase_own": None, "accepted": True}
    assert read_acceptance(write_sealed(path, infinite)) == infinite
    for change in ({"increase_own": "x"}, {"bits": []}, {"limit": None}, {"accepted": "?"}):
        refused(DamagedFile, {"acceptance again": partial(read_acceptance, write_sealed(path, record | change))})


def test_an_absent_asset_says_why(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a" / "asset.json", {"kind": "absent"})
    refused(DamagedFile, {"fetch it again": lambda: asset_path(tmp_path, "a")})


def test_the_files_of_a_package_stay_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "x").write_text("123")
    (tmp_path / "y").write_text("1")
    assert native_bytes(tmp_path, ["x"]) == 3
    refused(RampError, {
        "'../y'": lambda: native_bytes(tmp_path, ["../y"]),
        "'/etc/passwd'": lambda: native_bytes(tmp_path, ["/etc/passwd"]),
        "no file of the package": lambda: native_bytes(tmp_path, ["z"]),
    })  # fmt: skip


@pytest.mark.parametrize("change", [{"gguf": []}, {"sha256": 5}, {"seed": "a"}, {"failed": {}}, {"note": None}])
def test_a_row_says_what_it_is(tmp_path: Path, change: dict[str, Any]) -> None:
    whole = KEYED | {"more": [1, 2.5]}
    write_sealed(tmp_path / "meta.json", whole)
    assert read_meta(tmp_path) == whole, "numbers stay as they are written"
    write_sealed(tmp_path / "meta.json", whole | change)
    refused(DamagedFile, {"quantize it again": lambda: read_meta(tmp_path)})


@pytest.mark.parametrize("change", [
    {"texts": []}, {"texts": {"../x": METRICS["texts"]["heldout"]}}, {"texts": {"heldout": {}}}, {"key": {}},
    {"texts": {"heldout": METRICS["texts"]["heldout"] | {"windows": [{"tokens": 0, "nll": 1, "kl": 1}]}}},
    {"sizes": None}, {"versions": 1},
])  # fmt: skip
def test_metrics_are_whole_or_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_sealed(tmp_path / "m.json", METRICS)
    assert read_metrics(path).written() == METRICS
    write_sealed(path, METRICS | change)
    refused(DamagedFile, {"evaluate the row again": lambda: read_metrics(path)})
