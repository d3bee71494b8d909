"""Files that the chain of stages does not leave: what users give, and what other stages write."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from ramp.core.atomic_files import write_json
from ramp.core.checksum_sidecar import write_with_sidecar
from ramp.core.tensor_file import save_tensors
from ramp.export.halo import export
from ramp.export.llamacpp_quantize import write_importance
from ramp.export.plan import read_plan
from ramp.export.row import write_row
from ramp.export.write import read_importance
from ramp.methods.package_job import LINEARS, PackageJob
from ramp.models.folder import ModelFolder
from ramp.problem.features import SIZE
from ramp.problem.problem import encode
from ramp.records.digests import study_digests
from ramp.records.schema import TABLES
from ramp.records.study_digests import write_digests
from ramp.records.table import read_table, write_claims, write_table
from ramp.rl.policy import Policy
from ramp.search.journal import Evaluated, Journal
from ramp.sized_gguf.tune import ChangedTensors
from ramp.tuning.resume import Progress, keep
from tests.faults.chain import ROOT
from tests.local_sources import make_wheel
from tests.tiny_models import random_llama


def _requests() -> bytes:
    def line(number: int, query: str, choices: list[str], gold: int, **more: Any) -> dict[str, Any]:
        return {"doc_id": number, "doc": {"query": query, "choices": choices, "gold": gold, **more}}

    rows = [line(i, f"Question: what is {i}?\nAnswer:", ["a", "b"], i % 2, id=f"q{i}") for i in range(4)]
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())


def _arrow() -> bytes:
    table = pyarrow.table({"goal": ["a", "b"], "sol1": ["x", "y"], "sol2": ["y", "x"], "label": [0, 1]})
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _given(folder: Path) -> None:
    """Write what a user or an index gives."""
    given = folder / "given"
    given.mkdir()
    texts = [f"A paragraph with the number {i} and some more words." for i in range(6)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (given / "text.jsonl").write_text(lines, encoding="utf-8")
    (given / "text.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pages = "".join(f'<doc id="{i}" title="t">\nTitle {i}\n{text}\n</doc>\n' for i, text in enumerate(texts))
    (given / "wiki.utf8").write_text(pages, encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), given / "test.parquet")
    shutil.copy(make_wheel(given, "rows", {"rows.arrow": _arrow(), "rows.jsonl.gz": _requests()}), given / "rows.whl")
    (given / "assets.lock.yaml").write_text("corpus:\n  a source:\n    sha256: '" + "0" * 64 + "'\n", encoding="utf-8")
    for name in ("smoke.yaml", "assets.yaml"):
        shutil.copy(ROOT / "config" / name, given / name)
    shards = random_llama(given / "shards")
    whole = {name: ModelFolder(shards).reader.get(name) for name in ModelFolder(shards).reader.names()}
    half = len(whole) // 2
    parts = {"a.safetensors": list(whole)[:half], "b.safetensors": list(whole)[half:]}
    from safetensors.torch import save_file

    for file, names in parts.items():
        save_file({name: whole[name].clone() for name in names}, shards / file, metadata={"format": "pt"})
    (shards / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    write_json(shards / "model.safetensors.index.json", index)


def _made(folder: Path) -> None:
    """Write what other stages leave."""
    made = folder / "made"
    made.mkdir()
    model = ModelFolder(folder / "models" / "tiny")
    export(model.path, folder / "halo" / "float.gguf")
    importance = read_importance(folder / "calibration" / "tiny.safetensors", {}, model.config)
    write_importance(made / "imatrix.gguf", importance, tokens=256, length=64)
    ChangedTensors({"a.weight": np.ones((2, 8), np.uint8)}, {"n.weight": np.ones(4, np.float32)}, [1.0]).save(
        made / "tuned.safetensors"
    )
    save_tensors(made / "delta.safetensors", {"delta": torch.ones(1, 2, 3)}, {})
    save_tensors(
        made / "step-000.safetensors", {"head/Q8_0": torch.ones(2, 8, dtype=torch.uint8)}, {"head": {"Q8_0": 0.5}}
    )
    journal = Journal(made / "journal.jsonl", Evaluated)
    for i in range(5):
        entry = {"text": "search", "choice": [i, 1, 2], "score": [0.5, None, 0.1], "tokens": 64, "wall_s": 1.5 * i}
        journal.append(entry)
    job = made / "job"
    linears = {linear.name: (linear.d_out, linear.d_in) for linear in model.linears}
    package = PackageJob(
        model.path, np.zeros((1, 4), np.int64), 4, 32, dict.fromkeys(linears, 32), linears, job / "native"
    )
    (job / "native").mkdir(parents=True)
    for name, (d_out, d_in) in linears.items():
        package.keep_dense(name, np.ones((d_out, d_in), np.float32), d_out * d_in // 2)
    package.others = {"model.norm.weight": np.ones(64, np.float32)}
    package.finish()
    assert (job / LINEARS).is_dir()
    outcome = {"ok": True, "reason": "", "note": "", "native_files": [], "linears": package.kept, "wall_s": 1.0,
               "peak_rss_bytes": 1, "versions": {}, "method": "x", "bits": 4, "group_size": 32, "seed": 0, "params": {},
               "package": "x", "model": "tiny"}  # fmt: skip
    write_json(job / "outcome.json", outcome, sealed=True)
    settings = {"bits": 4, "group_size": 32, "seed": 0, "threads": 1, "device": "cpu", "params": {}}
    about = {"model_dir": str(model.path), "linears": [[n, *shape] for n, shape in linears.items()]}
    write_json(job / "job.json", {**settings, **about, "group_sizes": dict.fromkeys(linears, 32)}, sealed=True)
    from ramp.core.tensors import save_arrays

    save_arrays(job / "tokens.safetensors", {"tokens": np.zeros((1, 4), np.int64)})
    write_json(made / "environment.json", {"ok": True, "reason": "", "python": "/usr/bin/python3", "freeze": []})
    values = {"str": "x", "bool": True, "int": 1, "float": 1.0}
    for file, table in (("rows", "gguf"), ("checks", "gguf_checks")):
        row = {column.name: values[column.dtype] for column in TABLES[table].columns}
        write_json(made / f"{file}.json", [row], sealed=True)
    write_json(made / "run.json", {"model": "tiny", "rows": [{"evals": 1}]}, sealed=True)
    claim = {"id": "C1"}
    write_digests(folder / "records" / "digests.json", {"x": study_digests(folder)})
    write_json(folder / "config.json", {"study": "x"})
    from ramp.records.table import CLAIM_FIELDS, VERDICTS

    write_claims(
        folder / "records" / "claims.json",
        [
            {
                **dict.fromkeys(CLAIM_FIELDS, "x"),
                **claim,
                "verdict": VERDICTS[0],
                "value": 1.0,
                "margin": None,
                "rows": [],
            }
        ],
    )
    rows = [{"evals": i, "tokens": 64 * i, "kl": 0.1, "choice": encode([1, 2])} for i in range(3)]
    episodes = "".join(json.dumps(row) + "\n" for row in rows)
    place = made / "search" / "tiny" / "x" / "4.0" / "0"
    place.mkdir(parents=True)
    write_with_sidecar(place / "episodes.jsonl", episodes)
    draw = np.random.default_rng(0)
    weights = [draw.normal(size=shape).astype(np.float32) for shape in ((4, SIZE), (3, 4))]
    about = {"model": "tiny", "method": "x", "budgets": [4.0], "seed": 0, "episodes": 3}
    layers = [(weight, np.zeros(len(weight), np.float32)) for weight in weights]
    Policy(layers, (3, 4, 6), about).save(made / "network")
    questions = "".join(json.dumps({"goal": f"é {i}", "label": i}) + "\n" for i in range(4))
    write_with_sidecar(made / "piqa.jsonl", questions)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    keep(made / "checkpoint.safetensors", [parameter], optimizer, Progress([1.0], 1.0))
    asked = {"method": "x", "budget_bits": 4.0, "group_size": 32, "seed": 0}
    halo, row_dir = folder / "halo", folder / "quantized" / "ggml"
    write_row(halo / "row.gguf", read_plan(halo / "row.plan.json"), model.path, asked, "x", row_dir)
    check = {"file": "x.gguf", "check": "loads", "value": 1.0, "limit": 1.0, "ok": True}
    write_json(halo / "m" / "x.check.json", [check], sealed=True)
    _large_table(folder / "records" / "windows.csv", made / "windows.csv")


def _large_table(table: Path, out: Path) -> None:
    """Write a table of more characters than Python reads as one cell."""
    rows = read_table(table).head(1).to_dict("records")
    write_table(out, [{**rows[0], "window": number} for number in range(2500)])


def add(folder: Path) -> None:
    """Add the other files to a finished chain."""
    _given(folder)
    _made(folder)
