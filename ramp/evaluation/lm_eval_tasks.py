"""Commonsense tasks of one row through lm-evaluation-harness itself (Gao et al., zenodo 10.5281/zenodo.12608602).

    python -m ramp.evaluation.lm_eval_tasks --row-dir R/quantized/M/gptq-b4-s0 --model-dir R/models/M \\
        --tasks-dir R/tasks --tasks piqa hellaswag --limit 100 --out R/tasks_scored/M/gptq-b4-s0.json

Prompts, answer scores, accuracies and standard errors are lm-eval's: zero-shot, its own task definitions (looked up
by the task's name, with the split that lm-eval scores), with nothing changed but where the rows come from (local JSON
lines, no hub). ``acc`` takes the likeliest answer,
``acc_norm`` the likeliest per byte. Answers are kept item by item, since two methods at 64 % are only told
apart by the items on which they differ. ``--limit`` takes the first rows of a task, as lm-eval's own limit does.

Writes ``{"key": record key, "tasks": {task: {"acc", "acc_norm", "acc_se", "acc_norm_se", "limit", "items":
[{"doc_id", "correct", "correct_norm"}]}}, "lm_eval_version", "dtype", "versions", "hardware", "wall_s"}``;
``acc_norm`` and ``correct_norm`` are null where a task has no such score, ``limit`` is null without one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import finite, parse_json, read_text, require_file, write_json
from ramp.core.checksum_sidecar import check_sidecar
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.core.provenance import hardware, versions
from ramp.core.stale_temporaries import temporary_folder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.models.device import dtype_name, pick_device, pick_dtype
    from ramp.models.folder import ModelFolder
    from ramp.models.memory import free_bytes
    from ramp.rows.checkpoint import load_dequantized
    from ramp.rows.meta_file import KEY, read_meta_of

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

TASK_LINE = re.compile(r"""^["']?task["']?:[ \t]*["']?([^"'\s]+)["']?[ \t]*(?:#.*)?$""", re.M)
"""The line of a YAML file that names its task."""


CPU_ANSWERS, GPU_ANSWERS = 8, 64
"""Answers per forward pass on a processor, and at most on a GPU."""

ANSWER_TOKENS = 1024
"""Tokens of a question with an answer that room is left for; those of the commonsense tasks rarely take 200."""

LOGIT_BYTES = 10
"""Bytes per logit: lm-eval takes the logarithm of the softmax of all of them, in float32 at worst."""


class HarnessError(RampError):
    """An unknown task, missing rows, or a result that lm-eval did not give."""


@dataclass(frozen=True)
class Definition:
    """lm-eval's own definition of a task: its YAML file, and the split that lm-eval scores."""

    path: Path
    split: str  # test where the task has one, else validation


@cache
def task_files() -> dict[str, list[Path]]:
    """Return the YAML files of the installed lm-eval by the task that each names.

    Only the line ``task: NAME`` is read, in half a second; lm-eval's index of its 14,000 files takes 14 processor
    seconds, in every process.
    """
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise HarnessError("lm-eval is not installed: run ./install")
    files: dict[str, list[Path]] = {}
    for path in sorted(Path(spec.origin).parent.joinpath("tasks").rglob("*.yaml")):
        for name in TASK_LINE.findall(path.read_text(encoding="utf-8", errors="ignore")):
            files.setdefault(name, []).append(path)
    return files


@cache
def definition(task: str) -> Definition:
    """Return where lm-eval defines ``task`` and which split it scores, includes of its YAML resolved by lm-eval.

    Raises:
        HarnessError: no such task, with the nearest name, or one that is not multiple choice with an accuracy.
    """
    known = task_files()
    if task not in known:
        raise HarnessError(f"lm-eval has no task '{task}'{nearest(task, known)}")
    offline()
    from lm_eval.tasks import TaskManager

    for path in known[task]:
        entry = TaskManager(include_path=path.parent, include_defaults=False).task_index.get(task)
        config = (entry.cfg if entry else None) or {}
        metrics = [each.get("metric") for each in config.get("metric_list") or ()]
        if config.get("output_type") == "multiple_choice" and "acc" in metrics:
            return Definition(path, "test" if config.get("test_split") else "validation")
    raise HarnessError(f"task '{task}' of lm-eval is not multiple choice with an accuracy: nothing else is scored")


def offline() -> None:
    """Keep lm-eval's libraries off the network, where a task would wait for the hub; they read this on import.

    The hub's own library may have been imported before, by transformers.
    """
    from huggingface_hub import constants

    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    constants.HF_HUB_OFFLINE = True


def rows_file(tasks_dir: str | Path, task: str) -> Path:
    """Return the file with a task's rows, after a look whether lm-eval knows the task and the rows are whole."""
    definition(task)
    path = require_file(Path(tasks_dir) / f"{task}.jsonl", f"file of the rows of task '{task}'")
    check_rows(path)
    return path


def check_rows(path: Path) -> int:
    """Return how many rows a file has, which ``datasets`` reads later and does not explain.

    Raises:
        RampError: its lines are not objects with the same keys, or not those that were written.
    """
    again = "delete it and run python -m ramp.assets.task_rows again"
    check_sidecar(path, again)
    *lines, rest = read_text(path, "rows of a task").split("\n")  # not splitlines: questions hold other separators
    keys: set[str] = set()
    for number, line in enumerate(lines, start=1):
        found = parse_json(line, dict[str, Any], f"{path}, line {number}").keys()
        if number > 1 and found != keys:
            raise HarnessError(f"{path}, line {number} has keys {sorted(found)}, line 1 has {sorted(keys)}: {again}")
        keys = set(found)
    if rest or not lines:
        raise HarnessError(f"{path} holds no rows, or ends in the middle of one: {again}")
    return len(lines)


def task_config(task: str, rows: Path, cache_dir: Path) -> dict[str, Any]:
    """Return lm-eval's own definition of ``task`` as an including YAML, with its rows read from a local file."""
    found = definition(task)
    other = {"validation": "test", "test": "validation"}[found.split]
    return {
        "include": str(found.path),
        "task": task,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {found.split: str(rows.resolve())}, "cache_dir": str(cache_dir)},
        "training_split": None,
        f"{other}_split": None,
        f"{found.split}_split": found.split,
    }


def answers_at_once(config: PretrainedConfig, device: torch.device) -> int:
    """Return how many answers a forward pass takes: ``CPU_ANSWERS``, or as many as half of a GPU's free memory holds.

    To be asked when the model is on the device. A power of two, so that a little more or less of free memory does not
    change a row's last digits; at most ``GPU_ANSWERS``.
    """
    if device.type == "cpu":
        return CPU_ANSWERS
    tokens = min(ANSWER_TOKENS, int(config.max_position_embeddings))
    each = tokens * (LOGIT_BYTES * int(config.vocab_size) + 4 * int(config.intermediate_size) * 4)
    wanted = max(1, min(GPU_ANSWERS, free_bytes(device) // 2 // each))
    return 1 << (wanted.bit_length() - 1)


def score_tasks(
    model: PreTrainedModel,
    tokenizer: Any,
    tasks: Mapping[str, Path],
    *,
    limit: int | None,
    batch_size: int = 8,
) -> dict[str, dict[str, Any]]:
    """Return zero-shot scores of ``tasks`` (name -> file of rows) by ``lm_eval.simple_evaluate``, item by item."""
    offline()
    import yaml
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    device = str(next(model.parameters()).device)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device)
    with temporary_folder("ramp-tasks") as folder:
        overrides, cache = folder / "tasks", folder / "cache"
        overrides.mkdir()
        for task, rows in tasks.items():
            text = yaml.safe_dump(task_config(task, rows, cache), sort_keys=False)
            (overrides / f"{task}.yaml").write_text(text, encoding="utf-8")
        found = simple_evaluate(
            lm,
            tasks=list(tasks),
            num_fewshot=0,
            limit=limit,
            log_samples=True,
            task_manager=TaskManager(include_path=overrides, include_defaults=False),
        )
    if found is None:
        raise HarnessError("lm-eval gave no result in this process: run the row in a single process")
    return {task: task_result(task, found, limit) for task in tasks}


def task_result(task: str, found: Any, limit: int | None) -> dict[str, Any]:
    """Return the entry of one task in the file, from what ``simple_evaluate`` returned."""
    scores, samples = found["results"][task], found["samples"][task]

    def number(name: str) -> float | None:
        value = scores.get(f"{name},none")
        return finite(float(value)) if isinstance(value, (int, float)) else None  # "N/A" of a single row

    items = [
        {
            "doc_id": int(sample["doc_id"]),
            "correct": bool(sample["acc"]),
            "correct_norm": bool(sample["acc_norm"]) if "acc_norm" in sample else None,
        }
        for sample in samples
    ]
    return {
        "acc": number("acc"),
        "acc_norm": number("acc_norm"),
        "acc_se": number("acc_stderr"),
        "acc_norm_se": number("acc_norm_stderr"),
        "limit": limit,
        "items": sorted(items, key=lambda item: item["doc_id"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Score commonsense tasks of one row, zero-shot, by lm-eval.", "--row-dir --model-dir --out")
    parser.add_argument("--tasks-dir", type=Path, required=True, help="folder of {task}.jsonl")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="NAME", help="by lm-eval's name")
    parser.add_argument("--limit", type=int, default=0, help="score the first rows of each task only; 0 scores all")
    parser.add_argument("--batch-size", type=int, default=0, help="answers per forward pass; 0: by the device's memory")
    args = parser.parse_args(argv)
    if args.limit < 0:
        raise HarnessError(f"--limit {args.limit}: give a number of rows, or 0 for all")
    files = {task: rows_file(args.tasks_dir, task) for task in args.tasks}
    began = time.monotonic()
    meta = read_meta_of(args.row_dir, args.model_dir)
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, args.model_dir)
    tasks: dict[str, dict[str, Any]] = {}
    if not meta.get("failed"):  # a row that could not run has no model and no scores
        model = load_dequantized(args.row_dir, args.model_dir, dtype, device)
        tokenizer = ModelFolder(args.model_dir).tokenizer()
        batch_size = args.batch_size or answers_at_once(model.config, device)
        log.info("%d answers per forward pass", batch_size)
        tasks = score_tasks(model, tokenizer, files, limit=args.limit or None, batch_size=batch_size)
    found = versions()
    write_json(
        args.out,
        {
            "key": {name: meta[name] for name in KEY},
            "tasks": tasks,
            "lm_eval_version": found["lm_eval"],
            "dtype": dtype_name(dtype),
            "versions": found,
            "hardware": hardware(str(device)),
            "wall_s": round(time.monotonic() - began, 3),
        },
        sealed=True,
    )
    for task, result in tasks.items():
        log.info("%s: acc %.4f on %d rows", task, result["acc"], len(result["items"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
