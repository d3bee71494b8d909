"""The float model against itself: nothing where nothing differs, a little where rounding does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paper.noise import floor_of
from paper.study import Study
from ramp.core import cli
from ramp.evaluation.heldout import Reference, make_reference
from ramp.evaluation.noise_floor import main, measure
from ramp.records.collect_noise import main as collect
from ramp.records.table import read_table, write_tables
from ramp.scoring.noise_variations import VARIATIONS
from tests.model_folders import load_float
from tests.plans import plan_of
from tests.sealed import read_json
from tests.synthetic_noise import noise_records
from tests.synthetic_records import SOURCE, write_records


@pytest.fixture(scope="module")
def reference(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model on six windows of random tokens."""
    windows = torch.randint(0, 200, (6, 48), generator=torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("noise") / "heldout.safetensors"
    about = {"model": tiny_llama_dir.name, "text": "heldout", "text_sha256": "0", "requested_length": 48}
    made = make_reference(load_float(tiny_llama_dir, torch.float32), windows, about)
    made.save(path)
    return path


def test_the_same_evaluation_gives_nothing(tiny_llama_dir: Path, reference: Path) -> None:
    found = measure(tiny_llama_dir, Reference.load(reference), "again", "float32", "cpu")
    assert (found.kl, found.kl_max, found.ppl_ratio, found.n_windows) == (0, 0, 1, 6)


@pytest.mark.parametrize("name", ["reverse_order", "other_batch"])
def test_order_and_batches_move_less_than_float32_resolves(tiny_llama_dir: Path, reference: Path, name: str) -> None:
    found = measure(tiny_llama_dir, Reference.load(reference), name, "float32", "cpu")
    assert abs(found.kl) < 1e-6
    assert found.ppl_ratio == pytest.approx(1, abs=1e-5)


def test_bfloat16_moves_more_and_no_window_more_than_the_largest(
    tiny_llama_dir: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bfloat16.json"
    options = [f"--model-dir={tiny_llama_dir}", f"--reference={reference}", "--variation=bfloat16", "--dtype=bfloat16"]
    assert cli.run(main, [*options, "--device=cpu", f"--out={out}"]) == 0
    found = read_json(out)
    assert 1e-6 < found["kl"] <= found["kl_max"] < 0.1
    assert collect([f"--runs={out}", f"--out={tmp_path}"]) == 0
    assert read_table(tmp_path / "noise.csv")["kl"].tolist() == [found["kl"]]


def test_another_models_reference_is_refused(tiny_qwen2_dir: Path, reference: Path, tmp_path: Path) -> None:
    options = [f"--model-dir={tiny_qwen2_dir}", f"--reference={reference}", "--variation=again"]
    assert cli.run(main, [*options, f"--out={tmp_path / 'x.json'}"]) == 2


def test_a_study_plans_every_variation_with_its_options() -> None:
    noise = plan_of("smoke.yaml").noise
    assert len(noise.files()) == len(noise.models) * len(VARIATIONS) > 0
    words = noise.options("fast_two_threads")
    assert words[words.index("--arithmetic") + 1] == "fast"
    assert words[words.index("--threads") + 1] == "2"
    assert words[words.index("--dtype") + 1] == plan_of("smoke.yaml").study.dtype


def test_the_floor_is_the_largest_of_the_studys_own_arithmetic(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records")
    write_tables(records, noise_records())
    floor = str(floor_of(Study.read(records), SOURCE))
    assert "at most 3.0e-11 nats to itself in float32, and of 4.0e-04 with bfloat16" in floor
