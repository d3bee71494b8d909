"""From measurement files to records: only the named files, joined by key, sums checked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.models.architecture import list_linears
from ramp.quantizers.sizes import uniform_bytes
from ramp.records.collect import collect, main
from ramp.records.collect_layers import QUANTILES, ggml_bits, ggml_bytes
from ramp.records.schema import KEY_NAMES
from ramp.records.table import RecordsError, read_all
from tests.model_folders import read_config
from tests.rows import row_key
from tests.sealed import read_json, save_sealed

TOKENS = 63


def write(path, value):
    write_json(path, value, sealed=isinstance(value, dict))
    return path


def metrics_file(folder, method: str, kl: float, search: dict | None = None, **changes):
    """Six windows whose KL varies around ``kl`` by the same pattern for every method."""
    own = row_key(method=method, **changes)
    windows = [{"window": i, "tokens": TOKENS, "nll": 180.0 + i, "kl": TOKENS * kl * (1 + i / 10)} for i in range(6)]
    text = {"length": 64, "windows": windows, "ppl": 20.0, "ppl_low": 19.0, "ppl_high": 21.0}
    value = {
        "key": own,
        "texts": {"heldout": text | {"kl": 1.25 * kl, "kl_low": kl, "kl_high": 2 * kl}},
        "sizes": {"bytes_file": 1000, "bytes_linear": 800},
        "made": {"track": "q8_0", "wall_s": 2.5, "peak_gpu_bytes": 0},
        "search": search,
        "simulated": True,
        "note": "",
        "versions": {"torch": "2", "numpy": "1"},
        "hardware": "abacus",
    }
    return write(folder / "metrics" / own["model"] / f"{method}-b{own['budget_bits']:g}-s{own['seed']}.json", value)


def scores_file(folder, method: str):
    items = [{"doc_id": i, "correct": i % 2 == 0, "correct_norm": None} for i in range(4)]
    task = {"acc": 0.5, "acc_norm": None, "acc_se": 0.28, "limit": 4, "items": items}
    value = {"key": row_key(method=method), "tasks": {"boolq": task}, "lm_eval_version": "0.4.13"}
    return write(folder / "tasks_scored" / f"{method}.json", value)


@pytest.fixture
def model(tiny_llama_dir, tmp_path):
    """The tiny model under the name that the files use."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(tiny_llama_dir)
    return tmp_path / "models" / "tiny"


def test_rows_windows_and_items(tmp_path):
    search = {"kind": "best", "search_evals": 9, "search_tokens": 99, "kl_start": 0.3, "notes": "n", "projected": False}
    collect(
        metrics=[
            metrics_file(tmp_path, "gptq", 0.2),
            metrics_file(tmp_path, "ramp", 0.1, search),
            metrics_file(tmp_path, "float", 0.0, grid="float", stage="float", budget_bits=16.0),
        ],
        tasks_scored=[scores_file(tmp_path, "gptq")],
        out=tmp_path / "records",
        config_hash="abc",
    )
    tables = read_all(tmp_path / "records")
    assert set(tables) == {
        *("records", "windows", "items", "allocations", "episodes", "activations", "transfer", "halo"),
    }
    rows = tables["records"].set_index("method")
    assert rows["kind"].to_dict() == {"float": "float", "gptq": "uniform", "ramp": "best"}
    assert rows["search_evals"].to_dict() == {"float": 0, "gptq": 0, "ramp": 9}
    assert rows.loc["ramp", "kl_start"] == 0.3
    assert rows.loc["gptq", "acc_boolq"] == 0.5
    assert rows.loc["gptq", "n_items_boolq"] == 4
    assert np.isnan(rows.loc["ramp", "acc_boolq"])
    assert rows.loc["gptq", "n_windows_heldout"] == 6
    assert rows.loc["gptq", "versions"] == "lm_eval=0.4.13 numpy=1 torch=2"
    assert rows["config_hash"].eq("abc").all()
    assert rows["peak_gpu_bytes"].isna().all()  # no GPU, not zero bytes of one
    assert len(tables["windows"]) == 18
    assert tables["items"]["correct"].tolist() == [True, False, True, False]
    assert tables["items"]["correct_norm"].isna().all()
    assert len(tables["transfer"]) == 0


def test_a_packages_row_names_what_the_package_ran_with_beside_what_scored_it(tmp_path):
    """The package's environment is another: its torch and transformers are not the evaluator's."""
    files = [metrics_file(tmp_path, name, 0.2) for name in ("autogptq_gptq", "gptq")]
    own = row_key(method="autogptq_gptq") | {"failed": "no linears here"}  # so that no widths are looked for
    meta = write(tmp_path / "meta.json", own | {"package_versions": {"torch": "1", "auto-gptq": "0.7.1"}})
    collect(metrics=files, rows=[meta], out=tmp_path / "records")
    rows = read_all(tmp_path / "records")["records"].set_index("method")
    assert rows.loc["autogptq_gptq", "versions"] == "numpy=1 package:auto-gptq=0.7.1 package:torch=1 torch=2"
    assert rows.loc["gptq", "versions"] == "numpy=1 torch=2"


def test_widths_of_what_was_written_and_of_what_was_not_chosen(model, tmp_path):
    linears = list_linears(read_config(model))
    bits = {linear.name: 4 for linear in linears}
    meta = row_key(method="ramp") | {"bits": bits, "bytes_linear": uniform_bytes(linears, 4, 32)}
    row = write(tmp_path / "quantized" / "tiny" / "ramp-b4-s0" / "meta.json", meta)
    types = {linear.name: "Q8_0" if linear.role == "down" else "Q4_0" for linear in linears}
    total = sum(ggml_bytes(linear, types[linear.name]) for linear in linears)
    ggml_meta = row_key(method="ramp", grid="ggml") | {"types": types, "bytes_linear": total}
    ggml = write(tmp_path / "quantized" / "tiny" / "ramp-b4-s0.gguf" / "meta.json", ggml_meta)
    three = {linear.name: 3 for linear in linears}
    allocation = row_key(method="ramp") | {"bits": bits, "policy_bits": three, "quantizer": "gptq", "kind": "best"}
    allocation |= {"budget_bytes": meta["bytes_linear"], "bytes_linear": meta["bytes_linear"]}
    del allocation["stage"]
    common = {
        "metrics": [metrics_file(tmp_path, "ramp", 0.1), metrics_file(tmp_path / "g", "ramp", 0.1, grid="ggml")],
        "out": tmp_path / "records",
        "models": [model],
    }
    collect(**common, rows=[row, ggml], allocations=[write(tmp_path / "allocation.json", allocation)])
    found = read_all(tmp_path / "records")["allocations"]
    sums = found.groupby(["grid", "which"])["bytes"].sum().to_dict()
    expected = {("affine", "reported"): meta["bytes_linear"], ("ggml", "reported"): total}
    assert sums == expected | {("affine", "policy"): uniform_bytes(linears, 3, 32)}
    assert set(found["type"]) == {"affine", "Q4_0", "Q8_0"}
    assert found[found["type"] == "Q8_0"]["bits"].eq(8).all()
    assert found["layer"].max() == 1
    write(row, meta | {"bytes_linear": meta["bytes_linear"] + 1})
    with pytest.raises(RecordsError, match="its ledger"):
        collect(**common, rows=[row])
    with pytest.raises(RecordsError, match="--models"):
        collect(**(common | {"models": []}), rows=[row])


def test_ggml_types():
    assert [ggml_bits(name) for name in ("Q3_K", "Q8_0", "IQ4_NL", "F16", "BF16", "TQ1_0")] == [3, 8, 4, 16, 16, 1]


def test_activations_before_and_after_folding(model, tmp_path):

    linears = list_linears(read_config(model))
    rng = np.random.default_rng(0)
    stats, fold = {}, {}
    for linear in linears:
        for kind in ("absmax", "absmean"):
            stats[f"{linear.site}/{kind}"] = rng.gamma(2.0, size=linear.d_in).astype(np.float32)
        if linear.role == "q":
            fold[linear.site] = rng.uniform(0.5, 2.0, linear.d_in).astype(np.float32)
    (tmp_path / "calibration").mkdir()
    (tmp_path / "folds").mkdir()
    save_sealed(stats, tmp_path / "calibration" / "tiny.safetensors")
    save_sealed(fold, tmp_path / "folds" / "awq.safetensors")
    pair = (tmp_path / "calibration" / "tiny.safetensors", tmp_path / "folds" / "awq.safetensors")
    collect(metrics=[], out=tmp_path / "records", activations=[pair], models=[model])
    found = read_all(tmp_path / "records")["activations"].set_index(["fold", "linear", "channel_quantile"])
    assert len(found) == 2 * len(linears) * len(QUANTILES)
    for linear in (linears[0], linears[3]):  # q is folded, o is not
        plain, after = (found.loc[(name, linear.name)]["absmax"].to_numpy() for name in ("none", "awq"))
        channels = stats[f"{linear.site}/absmax"].astype(np.float64)
        np.testing.assert_allclose(plain, np.quantile(channels, QUANTILES))
        scale = fold.get(linear.site, np.ones(linear.d_in))
        np.testing.assert_allclose(after, np.quantile(channels / scale, QUANTILES))
        assert np.array_equal(plain, after) == (linear.role == "o")


def test_episodes_take_the_key_of_their_row(tmp_path):
    folder = tmp_path / "search" / "tiny" / "ramp" / "3.65" / "1"
    folder.mkdir(parents=True)
    lines = [{"episode": i, "evals": i + 1, "tokens": 64, "proposer": "start", "kl": 0.1, "bytes": 5} for i in range(3)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = metrics_file(tmp_path, "ramp", 0.1, seed=1, budget_bits=3.65, fold="awq")
    collect(metrics=[row], out=tmp_path / "records", episodes=[folder / "episodes.jsonl"])
    found = read_all(tmp_path / "records")["episodes"]
    assert found["fold"].tolist() == ["awq"] * 3
    assert found["evals"].tolist() == [1, 2, 3]
    with pytest.raises(RecordsError, match="none of"):
        collect(metrics=[], out=tmp_path / "records", episodes=[folder / "episodes.jsonl"])


def transfer_study(tmp_path, knapsack: float = 0.2):
    return [
        metrics_file(tmp_path, "ramp_transfer", 0.25),
        metrics_file(tmp_path, "random_search", 0.35),
        metrics_file(tmp_path, "random_search", 0.45, seed=1),
        metrics_file(tmp_path, "random_search", 9.0, budget_bits=3.0),  # another budget: no rival
        metrics_file(tmp_path, "random_search", 7.0, fold="smoothquant", seed=2),  # another bank: no rival
        metrics_file(tmp_path, "knapsack", knapsack),
    ]


def test_transfer_is_the_share_of_the_gap(tmp_path):
    collect(metrics=transfer_study(tmp_path), out=tmp_path / "records", source="other")
    [row] = read_all(tmp_path / "records")["transfer"].to_dict("records")
    assert (row["source"], row["target"], row["policy"]) == ("other", "tiny", "ramp")
    assert row["gap_closed"] == pytest.approx((0.40 - 0.25) / (0.40 - 0.20))
    assert row["ci_low"] == pytest.approx(0.75)  # all rows share the pattern over windows: nothing is left to vary
    assert row["ci_high"] == pytest.approx(0.75)
    assert row["kl_random"] == pytest.approx(1.25 * 0.40)
    assert np.isnan(row["kl_native"])


def test_transfer_without_a_gap_or_a_rival_says_so(tmp_path):
    collect(metrics=transfer_study(tmp_path, knapsack=0.5), out=tmp_path / "records", source="other")
    [row] = read_all(tmp_path / "records")["transfer"].to_dict("records")
    assert np.isnan(row["gap_closed"])
    assert "no gap to close" in row["note"]
    collect(metrics=transfer_study(tmp_path)[:1], out=tmp_path / "records", source="other")
    [row] = read_all(tmp_path / "records")["transfer"].to_dict("records")
    assert np.isnan(row["gap_closed"])
    assert row["note"] == "no random_search and no knapsack row of tiny at this budget"
    with pytest.raises(RecordsError, match="--source"):
        collect(metrics=transfer_study(tmp_path), out=tmp_path / "records")


def test_the_command_line_reads_only_what_it_is_given(tmp_path, capsys):
    stale = metrics_file(tmp_path, "stale", 0.3)
    fresh = metrics_file(tmp_path, "gptq", 0.2)
    check = write(tmp_path / "x.check.json", [{"file": "x", "check": "types", "value": 0, "limit": 0, "ok": True}])
    out = tmp_path / "records"
    options = ["--metrics", str(fresh), "--halo", str(check), "--out", str(out)]
    assert cli.run(main, options) == 0
    assert read_all(out)["records"]["method"].tolist() == ["gptq"]
    assert read_all(out)["halo"]["ok"].tolist() == [True]
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert cli.run(main, options) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    twice = write(tmp_path / "copy.json", read_json(fresh))
    assert cli.run(main, ["--metrics", str(fresh), str(twice), "--out", str(out)]) == 2
    assert "two rows named study=test, model=tiny, method=gptq" in capsys.readouterr().err
    orphan = scores_file(tmp_path, "stale")
    assert cli.run(main, ["--metrics", str(fresh), "--tasks-scored", str(orphan), "--out", str(out)]) == 2
    assert "belongs to none" in capsys.readouterr().err
    for file, options, words in ((stale, ["--metrics"], "key.seed"),
                                 (orphan, ["--metrics", str(fresh), "--tasks-scored"], "lacks seed")):  # fmt: skip
        broken = read_json(file)
        del broken["key"]["seed"]
        assert cli.run(main, [*options, str(write(file, broken)), "--out", str(out)]) == 2
        assert words in capsys.readouterr().err
    assert set(row_key()) == set(KEY_NAMES)
