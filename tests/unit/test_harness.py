"""Tasks through lm-eval: our numbers are lm-eval's own, and its definitions are what is scored."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from ramp.core import cli
from ramp.core.checksum_sidecar import write_with_sidecar
from ramp.core.errors import RampError
from ramp.evaluation import lm_eval_tasks as harness
from ramp.evaluation.lm_eval_tasks import HarnessError, check_rows, definition, rows_file, score_tasks, task_config
from tests.model_folders import load_float, load_tokenizer
from tests.refusals import refused
from tests.rows import row_key
from tests.sealed import read_json, write_sealed

SPLITS = {
    "piqa": "validation",
    "hellaswag": "validation",
    "winogrande": "validation",
    "arc_easy": "test",
    "arc_challenge": "test",
    "boolq": "validation",
    "openbookqa": "test",
}
"""The study's tasks, and the split of each that lm-eval scores."""

WORDS = "time stone river green small house light under paper early sound plant north cloud money seven".split()


def phrase(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def rows_of(task: str, count: int) -> list[dict]:
    """Rows of a task in its released form, with random words."""
    rng = random.Random(task)

    def row(index: int) -> dict:
        words, answer = [phrase(rng, rng.randint(1, 4)) for _ in range(4)], rng.randint(0, 1)
        choices = {"choices": {"text": words, "label": list("ABCD")}, "answerKey": rng.choice("ABCD")}
        first, second = phrase(rng, 6), phrase(rng, 5)
        return {
            "piqa": {"goal": first, "sol1": words[0], "sol2": words[1], "label": answer},
            "hellaswag": {"ind": index, "activity_label": words[0], "ctx_a": first, "ctx_b": words[1], "endings": words}
            | {"label": str(rng.randint(0, 3))},
            "winogrande": {"sentence": f"{first} _ {second}", "option1": words[0], "option2": words[1]}
            | {"answer": str(1 + answer)},
            "arc_easy": {"question": first, **choices},
            "arc_challenge": {"question": first, **choices},
            "boolq": {"passage": second, "question": first, "label": answer},
            "openbookqa": {"question_stem": first, **choices},
        }[task]

    return [row(index) for index in range(count)]


@pytest.fixture(scope="module")
def tasks_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for task in SPLITS:
        text = "".join(json.dumps(row) + "\n" for row in rows_of(task, 12))
        (folder / f"{task}.jsonl").write_text(text)
    return folder


@pytest.fixture(scope="module")
def scored(tiny_llama_dir, tasks_dir):
    files = {task: rows_file(tasks_dir, task) for task in SPLITS}
    return score_tasks(load_float(tiny_llama_dir), load_tokenizer(tiny_llama_dir), files, limit=10)


def test_numbers_are_lm_evals_own(scored, tiny_llama_dir, tasks_dir, monkeypatch):
    """lm-eval by itself: it loads the model, its own built-in tasks by name, and the hub is exchanged under it."""
    import datasets
    import lm_eval.tasks

    names = {"Rowan/hellaswag": "hellaswag", "allenai/winogrande": "winogrande", "aps/super_glue": "boolq"}
    loader = datasets.load_dataset

    def local(path, name=None, **kwargs):
        task = {"ARC-Easy": "arc_easy", "ARC-Challenge": "arc_challenge"}.get(name) or names[path]
        rows = loader("json", data_files=str(tasks_dir / f"{task}.jsonl"), split="train")
        others = rows.select(range(11, -1, -1))  # so that scoring another split than lm-eval's would show
        splits = {split: rows if split == SPLITS[task] else others for split in ("train", "validation", "test")}
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", local)
    folders = [Path(lm_eval.tasks.__file__).parent / name for name in ("hellaswag", "winogrande", "super_glue", "arc")]
    manager = lm_eval.tasks.TaskManager(include_path=folders, include_defaults=False)  # all take half a minute to read
    tasks = ["hellaswag", "winogrande", "boolq", "arc_easy", "arc_challenge"]
    model = {"pretrained": str(tiny_llama_dir), "dtype": "float32", "device": "cpu"}
    found = lm_eval.simple_evaluate("hf", model, tasks, task_manager=manager, batch_size=8, limit=10)
    for task in tasks:
        want = found["results"][task]
        assert scored[task]["acc"] == want["acc,none"]
        assert scored[task]["acc_se"] == want["acc_stderr,none"]
        assert scored[task]["acc_norm"] == want.get("acc_norm,none")
        assert [item["correct"] for item in scored[task]["items"]] == [x["acc"] == 1 for x in found["samples"][task]]
    assert scored["hellaswag"]["acc_norm"] is not None
    assert scored["winogrande"]["acc_norm"] is None
    assert scored["boolq"]["acc_norm"] is None
    assert scored["boolq"]["items"][0]["correct_norm"] is None


@torch.no_grad()
def log_likelihood(model, tokenizer, context: str, answer: str) -> float:
    """Of ``answer`` after ``context``, in one pass, by hand."""
    start, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (context, context + answer))
    log_p = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[i - 1, whole[i]]) for i in range(len(start), len(whole)))


def test_answers_are_the_models(scored, tiny_llama_dir):
    """PIQA by hand, from the prompt to the answer."""
    model, tokenizer = load_float(tiny_llama_dir), load_tokenizer(tiny_llama_dir)
    for row, item in zip(rows_of("piqa", 10), scored["piqa"]["items"], strict=True):
        answers = [f" {row['sol1']}", f" {row['sol2']}"]
        scores = [log_likelihood(model, tokenizer, f"Question: {row['goal']}\nAnswer:", answer) for answer in answers]
        norms = [score / (len(answer) - 1) for score, answer in zip(scores, answers, strict=True)]
        assert item["correct"] == (scores.index(max(scores)) == row["label"])
        assert item["correct_norm"] == (norms.index(max(norms)) == row["label"])


def test_definition_and_split_are_looked_up_by_name(tmp_path):
    for task, split in SPLITS.items():
        assert definition(task).split == split
        config = task_config(task, tmp_path / "rows.jsonl", tmp_path)
        assert config["include"].startswith(str(definition(task).path.parent))
        assert config["dataset_kwargs"]["data_files"] == {split: str(tmp_path / "rows.jsonl")}
    assert definition("sciq").split == "test"  # a task that no study names
    with pytest.raises(HarnessError, match="gsm8k"):
        definition("gsm8k")


def test_rows_of_a_known_task_are_found(tasks_dir, tmp_path):
    assert rows_file(tasks_dir, "piqa").name == "piqa.jsonl"
    calls = {"'piqa'": lambda: rows_file(tmp_path, "piqa"), "'hellaswag'": lambda: rows_file(tmp_path, "helaswag")}
    refused(RampError, calls)


def test_rows_that_datasets_would_not_explain_are_one_sentence(tmp_path):
    path = tmp_path / "piqa.jsonl"
    lines = [json.dumps({"goal": f"a\u2028b {i}", "label": i}, ensure_ascii=False) + "\n" for i in range(3)]
    write_with_sidecar(path, "".join(lines))
    assert check_rows(path) == 3
    path.write_text("".join(lines).replace('"label": 1', '"label": 0'))
    refused(RampError, {"piqa.jsonl.sha256": lambda: check_rows(path)})
    (tmp_path / "piqa.jsonl.sha256").unlink()
    assert check_rows(path) == 3, "rows of an earlier version, or a user's, have no checksum"
    broken = {
        "ends in the middle": lines[0] + "{",
        "line 1": "[1]\n",
        "keys": lines[0] + '{"goal": "x"}\n',
        "no rows": "",
    }
    for said, text in broken.items():
        path.write_text(text)
        refused(RampError, {said: lambda: check_rows(path)})


def test_command_line(tiny_llama_dir, tasks_dir, tmp_path, capsys):
    row = tmp_path / "row"
    row.mkdir()
    write_sealed(row / "meta.json", row_key(model=tiny_llama_dir.name, method="float", grid="float", stage="float"))
    out = tmp_path / "scores.json"
    options = ["--row-dir", str(row), "--model-dir", str(tiny_llama_dir), "--tasks-dir", str(tasks_dir)]
    options += ["--dtype", "float32", "--device", "cpu", "--out", str(out), "--tasks"]
    assert cli.run(harness.main, [*options, "piqa", "--limit", "1"]) == 0
    found = read_json(out)
    assert found["key"]["method"] == "float"
    assert len(found["tasks"]["piqa"]["items"]) == 1
    assert found["tasks"]["piqa"]["acc_se"] is None  # one row has no standard error
    assert found["lm_eval_version"]
    assert cli.run(harness.main, [*options, "piqua"]) == 2
    assert "did you mean 'piqa'" in capsys.readouterr().err
    shutil.copytree(tiny_llama_dir, tmp_path / "other")
    assert cli.run(harness.main, [*options, "piqa", "--model-dir", str(tmp_path / "other")]) == 2
    assert "pass the folder of its model" in capsys.readouterr().err
