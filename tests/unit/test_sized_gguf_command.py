"""``python -m ramp gguf`` from end to end on a tiny model, without a network; and what it refuses."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.evaluation.bootstrap import Estimate
from ramp.export import llamacpp
from ramp.export.llamacpp_quantize import quantize_gguf, read_importance_file
from ramp.export.plan import read_plan
from ramp.export.write import export
from ramp.gguf_format.reader import GgufFile
from ramp.models.folder import ModelFolder
from ramp.sized_gguf import job
from ramp.sized_gguf.__main__ import main
from ramp.sized_gguf.against_mixes import main as mixes_main
from ramp.sized_gguf.bank import BankPass, step_file
from ramp.sized_gguf.card import Measured, base_model, model_card
from ramp.sized_gguf.inputs import fingerprint
from ramp.sized_gguf.make import calibration_windows, publish
from ramp.sized_gguf.options import add_arguments
from tests.ggml_models import NARROW, WIDE
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.tiny_models import altered, edited, random_llama

pytest.importorskip("cyllama")

QUICK = (
    "--tokens", "512", "--length", "64", "--windows", "2", "--window-length", "32", "--heldout-windows", "4",
    "--threads", "1", "--types", "Q3_K,Q4_0,Q5_K,Q8_0", "--no-rival",
)  # fmt: skip


def words(seed: int, count: int) -> str:
    """Lines of random words."""
    rng = np.random.default_rng(seed)
    found = ["".join(rng.choice(list("abcdefghij"), rng.integers(2, 8))) for _ in range(count)]
    return "\n".join(" ".join(found[start : start + 12]) for start in range(0, count, 12))


class Place:
    """A folder with a model and two texts, and the command in it."""

    def __init__(self, folder: Path, **shape: int) -> None:
        self.folder = folder
        self.model = random_llama(folder / "tiny", **shape)
        self.text, self.held = folder / "calibration.txt", folder / "held.txt"
        self.text.write_text(words(0, 400))
        self.held.write_text(words(1, 400))
        self.out = folder / "out" / "small.gguf"

    def argv(self, *more: str, size: str = "400KB", out: Path | None = None) -> list[str]:
        texts = ("--text", str(self.text), "--heldout-text", str(self.held))
        return [str(self.model), "--size", size, "--out", str(out or self.out), *texts, *QUICK, *more]

    def work(self, out: Path | None = None) -> Path:
        """The one work folder with a bank."""
        (bank,) = ((out or self.out).parent / ".ramp-gguf").glob("*/bank")
        return bank.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The command, once."""
    made = Place(tmp_path_factory.mktemp("command"), **WIDE)
    assert main(made.argv()) == 0
    return made


def record(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = read_json(place.out.with_suffix(".result.json"))
    return found


def test_files_beside_the_output(place: Place) -> None:
    endings = ("gguf", "plan.json", "types.txt", "imatrix.gguf", "card.md", "result.json")
    names = {path.name for path in place.out.parent.iterdir()} - {".ramp-gguf"}
    assert names == {f"small.{ending}" for ending in endings}
    assert place.out.stat().st_size <= 400_000
    assert record(place)["measured"][0]["bytes"] == place.out.stat().st_size
    assert all(check["ok"] for check in record(place)["checks"])
    kinds = {
        kind for name in GgufFile(place.out).names() if "norm" not in name for kind in [GgufFile(place.out).type(name)]
    }
    assert len(kinds) > 1


def planned_bytes(text: str) -> int:
    return int(re.search(r"([\d,]+) bytes", text)[1].replace(",", ""))  # type: ignore[index]


def test_dry_run_agrees_to_the_byte_and_writes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.out.parent.iterdir()}
    assert main(place.argv("--dry-run")) == 0
    assert planned_bytes(capsys.readouterr().out) == place.out.stat().st_size
    assert before == {path: path.stat().st_mtime_ns for path in place.out.parent.iterdir()}


def test_another_size_needs_no_new_bank(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    made = {path: path.stat().st_mtime_ns for path in place.work().rglob("*.safetensors")}
    assert main(place.argv("--dry-run", size="500KB")) == 0
    assert place.out.stat().st_size < planned_bytes(capsys.readouterr().out) <= 500_000
    assert made == {path: path.stat().st_mtime_ns for path in place.work().rglob("*.safetensors")}
    assert made


def test_files_beside_an_output_in_the_models_own_folder_make_no_new_bank(place: Place, tmp_path: Path) -> None:
    model = ModelFolder(altered(place.model, tmp_path / "model"))
    before = fingerprint(model, {})
    for ending in ("plan.json", "result.json", "types.txt"):
        (model.path / f"small.{ending}").write_text("x")
    assert fingerprint(model, {}) == before
    for name in ("model.safetensors", "tokenizer_config.json", "config.json"):
        path, known = model.path / name, fingerprint(model, {})
        path.write_bytes(path.read_bytes() + b" ")
        assert fingerprint(model, {}) != known


def test_bits_per_weight_and_memory(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    argv = place.argv("--dry-run")
    weights = sum(int(np.prod(GgufFile(place.out).shape(name))) for name in GgufFile(place.out).names())
    at = argv.index("--size")
    assert main([*argv[:at], "--bpw", "5.5", *argv[at + 2 :]]) == 0
    assert 5.2 * weights / 8 < planned_bytes(capsys.readouterr().out) <= 5.5 * weights / 8
    cache = 2 * 2 * 64 * 2 * 100 * 2  # layers, heads of keys, their width, keys and values, tokens, bytes
    buffers = 4 * 100 * (258 + 5 * 96)
    fits = ["--fits", str(500_000 + cache + buffers), "--context", "100"]
    assert main([*argv[:at], *fits, *argv[at + 2 :]]) == 0
    assert f"at most {500_000:,}" in capsys.readouterr().out


def test_hub_reads_the_model_card(place: Place) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(place.out.with_suffix(".card.md"))
    (result,) = card.data.eval_results  # type: ignore[misc]
    assert result.metric_value == round(record(place)["measured"][0]["kl"]["value"], 6)
    assert result.dataset_name == "held.txt"
    assert "gguf" in card.data.tags
    assert card.data.to_dict()["model-index"][0]["name"] == "small"
    assert str(place.folder) not in place.out.with_suffix(".card.md").read_text()
    assert base_model("owner/name@abc") == ("owner/name", "abc")


def test_llama_quantize_makes_the_same_tensors(place: Place, tmp_path: Path) -> None:
    """From the float file, the type file and the importance matrix that lie beside the output."""
    export(place.model, tmp_path / "float.gguf")
    lines = place.out.with_suffix(".types.txt").read_text().split()
    names = GgufFile(tmp_path / "float.gguf").names()
    types = {
        name: kind.upper()
        for pattern, _, kind in (line.rpartition("=") for line in lines)
        for name in names
        if re.search(pattern, name)
    }
    importance = read_importance_file(place.out.with_suffix(".imatrix.gguf"))
    quantize_gguf(
        *(tmp_path / "float.gguf", tmp_path / "theirs.gguf", "Q4_K_M"),
        table_type=None,
        importance=importance,
        tensor_types=types,
    )
    ours, theirs = GgufFile(place.out), GgufFile(tmp_path / "theirs.gguf")
    assert sorted(ours.names()) == sorted(theirs.names())
    for name in ours.names():
        assert ours.type(name) == theirs.type(name), name
        assert np.array_equal(ours.raw(name), theirs.raw(name)), name


def opened(place: Place, *more: str) -> job.Job:
    """The job of the command."""
    parser = cli.parser("")
    add_arguments(parser)
    return job.open_job(parser.parse_args(place.argv(*more)))


def test_a_disk_that_is_full_leaves_the_older_file_and_its_numbers(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    made, plan = opened(place), read_plan(place.out.with_suffix(".plan.json"))
    before = {path: path.read_bytes() for path in place.out.parent.glob("small.*")}
    assert len(before) == 6
    (tmp_path / "new.gguf").write_bytes(b"new")
    monkeypatch.setattr("ramp.sized_gguf.make.os.link", full)
    monkeypatch.setattr("ramp.sized_gguf.make.json_text", full)
    with pytest.raises(OSError, match="no space"):
        publish(made, tmp_path / "new.gguf", replace(plan, kind="another"))
    assert before == {path: path.read_bytes() for path in place.out.parent.glob("small.*")}


def test_card_quotes_names_with_blanks(place: Place) -> None:
    estimate = Estimate(0.1, 0.0, 0.2)
    summary = record(place) | {
        "gguf": "my model.gguf",
        "measured": [Measured("my model.gguf", 1, estimate, estimate, 0.9)],
    }
    line = next(line for line in model_card(summary, []).splitlines() if "llama-quantize --imatrix" in line)
    command = shlex.split(line[line.index("llama-quantize --imatrix") :].rstrip("`."))
    assert command[1:] == [
        *("--imatrix", "my model.imatrix.gguf", "--tensor-type-file", "my model.types.txt"),
        *("float.gguf", "my model.gguf", "Q4_K_M"),
    ]


def test_tokens_are_not_fewer_where_the_context_is_short(place: Place, tmp_path: Path) -> None:
    """Windows are cut to the context, and there are as many more of them."""
    short = altered(place.model, tmp_path / "short", max_position_embeddings=32)
    made = opened(place)
    cut = replace(made, model=ModelFolder(short))
    assert calibration_windows(made).shape == (8, 64)
    assert calibration_windows(cut).shape == (16, 32)


def test_searched_types_and_a_policy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """RAMP through the command: a file within the size, its policy beside it, and another size by that policy."""
    for where in ("job", "make"):
        monkeypatch.setattr(f"ramp.sized_gguf.{where}.SEARCH_WINDOWS", 2)
    out, work = place.folder / "searched" / "small.gguf", ("--work", str(place.out.parent / ".ramp-gguf"))
    assert main(place.argv("--method", "ramp", "--evals", "4", *work, out=out)) == 0
    assert out.stat().st_size <= 400_000
    policy = out.with_suffix(".policy")
    assert (policy / "policy.json").is_file()
    by_policy = place.folder / "by-policy" / "small.gguf"
    assert main(place.argv("--policy", str(policy), *work, size="450KB", out=by_policy)) == 0
    assert by_policy.stat().st_size <= 450_000
    assert not by_policy.with_suffix(".policy").exists()
    other = place.argv("--policy", str(policy), "--types", "Q4_0,Q8_0", *work, out=by_policy)
    refused(RampError, {"chooses among Q3_K": lambda: main(other)})
    write_sealed(policy / "policy.json", read_json(policy / "policy.json") | {"widths": [3, 4, 5, 6]})
    refused(RampError, {"give one that this command trained": lambda: main(place.argv("--policy", str(policy)))})


@pytest.mark.parametrize("method", ["role_depth", "knapsack_error"])
def test_a_method_that_counts_evaluations_and_a_variant_choose_types(
    method: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("job", "make"):
        monkeypatch.setattr(f"ramp.sized_gguf.{where}.SEARCH_WINDOWS", 2)
    out, work = place.folder / method / "small.gguf", ("--work", str(place.folder / "searched" / ".ramp-gguf"))
    assert main(place.argv("--method", method, "--evals", "3", *work, out=out)) == 0
    assert out.stat().st_size <= 400_000


@pytest.mark.parametrize("option", [("--refit",), ("--tune", "--tune-steps", "2")])
def test_changed_scales_keep_types_and_bytes(option: tuple[str, ...], place: Place) -> None:
    out, work = place.folder / option[0].strip("-") / "small.gguf", ("--work", str(place.out.parent / ".ramp-gguf"))
    assert main(place.argv(*option, *work, "--llama-perplexity", "2", out=out)) == 0
    ours, plain = GgufFile(out), GgufFile(place.out)
    assert out.stat().st_size == place.out.stat().st_size
    assert all(ours.type(name) == plain.type(name) for name in plain.names())
    differ = {name for name in plain.names() if not np.array_equal(ours.raw(name), plain.raw(name))}
    assert differ
    assert "scales" in out.with_suffix(".card.md").read_text()
    found = read_json(out.with_suffix(".result.json"))
    assert all(check["ok"] for check in found["checks"])
    assert found["llama_perplexity"]["float"] == pytest.approx(max(found["llama_perplexity"].values()), rel=0.2)
    assert len(found["llama_perplexity"]) == 2
    assert "as llama-perplexity counts it" in out.with_suffix(".card.md").read_text()


def in_process(argv: list[str], killed_at: int | None) -> int | None:
    """Run the command in a process of its own, killed with signal 9 at a step of the bank; return its exit status."""

    def target() -> None:
        block = BankPass._block

        def dies(self: BankPass, step: int, *rest: Any) -> Any:
            if step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return block(self, step, *rest)

        BankPass._block = dies  # type: ignore[method-assign]
        os._exit(main(argv))

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(120)
    return process.exitcode


def test_a_killed_run_goes_on(place: Place) -> None:
    """The lock of the killed process does not stay, done steps are kept, and the file has the same bytes."""
    out = place.folder / "killed" / "small.gguf"
    argv = place.argv(out=out)
    assert in_process(argv, killed_at=2) == -signal.SIGKILL
    assert not out.exists()
    bank = place.work(out) / "bank"
    kept = step_file(bank, 1).stat().st_mtime_ns
    assert not step_file(bank, 2).exists()
    assert main(argv) == 0
    assert kept == step_file(bank, 1).stat().st_mtime_ns
    for ending in ("gguf", "types.txt", "imatrix.gguf"):
        ours, whole = out.with_suffix(f".{ending}"), place.out.with_suffix(f".{ending}")
        assert ours.read_bytes() == whole.read_bytes(), ending


def test_a_second_run_is_refused(place: Place) -> None:
    with job.locked(place.work()):
        process = multiprocessing.get_context("fork").Process(target=refused_main, args=(place.argv(),))
        process.start()
        process.join(120)
    assert process.exitcode == 2
    with job.locked(place.work()):
        pass


def test_damaged_work_is_set_aside_and_made_again(place: Place) -> None:
    import shutil

    out = place.folder / "damaged" / "small.gguf"
    shutil.copytree(place.out.parent / ".ramp-gguf", out.parent / ".ramp-gguf")
    work = place.work(out)
    for path, aside in (
        (step_file(work / "bank", 1), "bank.damaged-1"),
        (work / "imatrix.gguf", "imatrix.gguf.damaged-1"),
    ):
        path.write_bytes(path.read_bytes()[:-100])
        assert main(place.argv(out=out)) == 0
        assert (work / aside).exists()
        assert out.read_bytes() == place.out.read_bytes()


@pytest.mark.parametrize("limit", [1000, 100_000, 300_000])
def test_full_disk(place: Place, limit: int) -> None:
    """A limit on the size of files stands for it: header, bank and file are reached one after the other."""
    import resource

    out = place.folder / f"full-{limit}" / "small.gguf"

    def target() -> None:
        from ramp.core import cli

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os._exit(cli.run(main, place.argv(out=out)))

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(120)
    assert process.exitcode == 2
    assert not out.exists()


def refused_main(argv: list[str]) -> None:
    from ramp.core import cli

    os._exit(cli.run(main, argv))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("refusals"), tied=False, **NARROW)


Q = "model.layers.1.self_attn.q_proj.weight"


def broken_models(source: Path, folder: Path) -> dict[str, Path]:
    """Word of the refusal -> a model folder."""
    import torch

    def put(name: str, value: Any) -> Any:
        return lambda state: state.update({name: value(state[name])})

    def spoil(value: float) -> Any:
        return lambda old: torch.cat([old[:-1], torch.full_like(old[-1:], value)])

    edits = {
        "type I8": put(Q, lambda old: torch.zeros(old.shape, dtype=torch.int8)),
        "NaN": put("model.norm.weight", spoil(float("nan"))),
        "infinite": put(Q, spoil(float("inf"))),
        "float16": put("lm_head.weight", spoil(1e6)),
        "is [10]": put("model.norm.weight", lambda old: old[:10].clone()),
        f"no tensor '{Q}'": lambda state: state.pop(Q),
    }
    made = {word: edited(source, folder / f"edited-{i}", edit) for i, (word, edit) in enumerate(edits.items())}

    def copy(name: str) -> Path:
        return edited(source, folder / name, lambda state: None)

    configs = {
        "family": {"model_type": "gemma2"},
        "quantized already": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "SiLU": {"hidden_act": "gelu"},
        "num_hidden_layers: 0": {"num_hidden_layers": 0},
    }
    for word, config in configs.items():
        made[word] = altered(source, folder / word.split(" ")[0], **config)
    made["pytorch_model.bin"] = copy("pickle")
    (made["pytorch_model.bin"] / "model.safetensors").rename(made["pytorch_model.bin"] / "pytorch_model.bin")
    made["tokenizer"] = copy("no-tokenizer")
    for path in made["tokenizer"].glob("tokenizer*"):
        path.unlink()
    made["fetch the model again"] = copy("truncated")
    whole = (made["fetch the model again"] / "model.safetensors").read_bytes()
    (made["fetch the model again"] / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    made["index.json is not valid JSON"] = copy("index")
    (made["index.json is not valid JSON"] / "model.safetensors").unlink()
    (made["index.json is not valid JSON"] / "model.safetensors.index.json").write_text("{")
    made["config.json is not valid JSON"] = copy("config")
    (made["config.json is not valid JSON"] / "config.json").write_text("{")
    return made


def test_models_that_cannot_be_exported(narrow: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one sentence, before the importance matrix is measured."""
    monkeypatch.setattr("ramp.sized_gguf.__main__.make_bank", lambda job: pytest.fail("the work began"))
    rest = narrow.argv(size="120KB")[1:]
    found = broken_models(narrow.model, narrow.folder)
    calls = {word: lambda model=model: main([str(model), *rest]) for word, model in found.items()}
    refused(RampError, calls)
    assert not narrow.out.exists()


def test_options_that_cannot_be_used(narrow: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramp.sized_gguf.__main__.make_bank", lambda job: pytest.fail("the work began"))
    for taken in ("folder.gguf", "beside.plan.json"):
        (tmp_path / taken).mkdir()
    (tmp_path / "file").write_text("x")
    texts = {"empty": b" \n", "latin": "é".encode("latin-1") * 99, "short": b"too short", "roles.jsonl": b"{}\n"}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
    para = (
        "One paragraph, long enough to be compared, that stands in the calibration text and in the held-out text. " * 3
    )
    for path in (narrow.text, narrow.held):
        (tmp_path / path.name).write_text(f"{path.read_text()}\n\n{para}")

    def options(*more: str, size: str = "120KB", out: Path | None = None) -> Any:
        return lambda: main(narrow.argv(*more, size=size, out=out))

    def sized(*size: str) -> Any:
        argv = narrow.argv()
        at = argv.index("--size")
        return lambda: main([*argv[:at], *size, *argv[at + 2 :]])

    def model(name: str) -> Any:
        return lambda: main([name, *narrow.argv()[1:]])

    calls = {
        "smallest that these types give": options(size="1KB"),
        "float16": options(size="1GB"),
        "'many' is no size": options(size="many"),
        "--bpw nan": sized("--bpw=nan"),
        "--bpw -1": sized("--bpw=-1"),
        "shorten --context": sized("--fits", "1KB", "--context", "16"),
        "--context 257": sized("--fits", "1GB", "--context", "257"),
        "--context has no effect": options("--context", "64"),
        "--tune-steps has no effect": options("--tune-steps", "9"),
        "--evals has no effect": options("--evals", "9"),
        "leave out --device": options("--device", "cuda"),
        "which chooses no widths": options("--method", "rtn"),
        "'Q9_Z'": options("--types", "Q9_Z"),
        "fits a tensor": options("--types", "Q4_K"),
        "not named *.gguf": options(out=tmp_path / "small.bin"),
        "is a folder": options(out=tmp_path / "folder.gguf"),
        "beside.plan.json is a folder": options(out=tmp_path / "beside.gguf"),
        "imatrix.gguf cannot be written": options(out=tmp_path / f"{'x' * 200}.gguf"),
        "--out /proc/self/small.gguf cannot": options(
            "--work", str(tmp_path / "work"), out=Path("/proc/self/small.gguf")
        ),
        "--work /proc/self/work cannot": options("--work", "/proc/self/work"),
        "Not a directory": options(out=tmp_path / "file" / "small.gguf"),
        "no text of --text": options("--text", str(tmp_path / "absent")),
        "takes a file": options("--text", str(tmp_path)),
        "is empty": options("--text", str(tmp_path / "empty")),
        "not UTF-8": options("--text", str(tmp_path / "latin")),
        "give other text as a .txt": options("--text", str(tmp_path / "roles.jsonl")),
        "short has": options("--heldout-text", str(tmp_path / "short")),
        "short has ": options("--text", str(tmp_path / "short")),
        "are not apart": options("--text", str(narrow.held)),
        "shares a paragraph": options(
            "--text", str(tmp_path / narrow.text.name), "--heldout-text", str(tmp_path / narrow.held.name)
        ),
        "is not in the cache": model("nobody/nothing"),
        "no folder ../up": model("../up"),
        "no folder owner/": model("owner/"),
        "is a file": model(str(narrow.text)),
    }
    refused(RampError, calls)
    assert not narrow.out.exists()


def test_a_vocabulary_that_lacks_characters_has_no_perplexity_of_llama_cpps_tool(
    narrow: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramp.sized_gguf.__main__.make_bank", lambda job: pytest.fail("the work began"))
    monkeypatch.setattr("ramp.sized_gguf.job.CHUNK", 8)
    monkeypatch.setattr("ramp.sized_gguf.llama_perplexity.inexpressible", lambda tokenizer, text: {"é"})
    argv = narrow.argv("--llama-perplexity", "1", size="120KB")
    refused(RampError, {"held.txt has characters": lambda: main(argv)})


@pytest.mark.parametrize("stage", ["gguf", "gguf-mixes"])
def test_llama_cpp_that_does_not_load_is_told_before_the_work(
    stage: str, narrow: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ramp.sized_gguf.job.find_model", lambda *given: pytest.fail("a model was fetched"))
    monkeypatch.setattr("ramp.sized_gguf.against_mixes.check_model", lambda *given: pytest.fail("a model was read"))
    monkeypatch.setattr(llamacpp, "MODULE", "no_such_library")
    mixes = ["--model-dir", str(narrow.model), "--mix", "Q4_K_M", "--text", str(narrow.text), "--heldout-text"]
    mixes += [str(narrow.held), "--work", str(narrow.folder / "work"), "--out", str(narrow.folder / "mixes")]
    llamacpp.require_llamacpp.cache_clear()
    try:
        call = (lambda: main(narrow.argv())) if stage == "gguf" else (lambda: mixes_main(mixes))
        refused(RampError, {"cannot be loaded from cyllama": call, "no_such_library": call})
    finally:
        llamacpp.require_llamacpp.cache_clear()
