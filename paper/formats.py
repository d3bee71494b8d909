"""docs/formats.md, from the code that writes the files: no field is described twice.

    python -m paper.formats [--out docs/formats.md]

A format is documented by a class (fields with their comments), by tuples of names, by the tables of the records, or by
the paragraphs and tables of a module's docstring that name fields in double backticks. Sources are read, not imported:
no torch, no models.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_text
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.tables.render import markdown_text
    from ramp.records.column_types import Table
    from ramp.records.schema import CLAIM_FIELDS, TABLES

ROOT = Path(__file__).resolve().parents[1]

HEAD = """# File formats

`python -m paper.formats` writes this page from the code that writes the files; a test keeps it true. `R` is the results
folder of the configuration (`results` for the embedded study). Every file is written beside its final name and then
renamed, so a half-written file is never taken for a whole one. JSON is sorted; what is not finite is null. JSON objects
that a stage reads carry the sha256 of their content (`content_sha256`), safetensors that of their bytes, with zeros in
its place (`bytes_sha256` in the metadata); readers compare them.

Names: a *linear* is its module path (`model.layers.3.self_attn.q_proj`); a *site* is an input that several linears
share (`model.layers.3.attn_in`: q, k and v read it); a *width* is `3` (bits, in the study's groups) or `3g32` (bits and
a group size of its own); a *row* is `METHOD-bBUDGET-sSEED`, with `-ggml` for an exported file, `-fp16` for another
storage of embedding and head, `-draw0` for the allocation of draw 0 on another draw and `-tuned` for tuned scales;
`MODEL.drawN` is a model with calibration text drawn by seed N.
"""


class FormatError(RampError):
    """A source of a format is gone: a class, a name or a docstring that this module lists."""


@dataclass(frozen=True)
class Format:
    """One kind of file: where it lies, what it is, and the sources that document its fields.

    A source is ``file.py`` (its docstring), ``file.py:Class`` (its fields) or ``file.py:NAME`` (a tuple of names).
    """

    title: str
    path: str
    line: str
    sources: tuple[str, ...]


FORMATS = (
    Format(
        "Assets",
        "R/assets/ASSET/asset.json",
        "what was fetched: its name, licence, path and note, and the fields of the source",
        ("ramp/assets/fetched_files.py:Fetched",),
    ),
    Format("Texts", "R/texts/ROLE.jsonl, guard.json", "documents by role", ("ramp/assets/text_roles.py",)),
    Format(
        "Activation statistics",
        "R/calibration/MODEL.safetensors",
        "per input channel, of the unfolded float model",
        ("ramp/calibration/stream.py",),
    ),
    Format("Fold", "R/folds/MODEL/FOLD.safetensors", "scales of Scale Folding", ("ramp/calibration/folding.py",)),
    Format(
        "Bank",
        "R/bank/MODEL/BANK/",
        "every linear at every width, packed; BANK is FOLD-QUANTIZER",
        ("ramp/bank/bank.py", "ramp/models/architecture.py:LinearSpec", "ramp/quantizers/packing.py"),
    ),
    Format(
        "Sensitivities",
        "R/sensitivity/MODEL/BANK[-KIND].json",
        "additive predictions of the KL",
        ("ramp/sensitivity/setting.py",),
    ),
    Format(
        "Allocation",
        "R/allocations/MODEL/METHOD/BUDGET/SEED.json",
        "a width for every linear",
        ("ramp/problem/allocation.py:AllocationRecord",),
    ),
    Format(
        "Search",
        "R/search/MODEL/METHOD/BUDGET/SEED/",
        "what a search leaves beside its allocation",
        ("ramp/search/__main__.py",),
    ),
    Format(
        "Policy",
        "policy.safetensors, policy.json",
        "a trained policy: a network, or a table of role and depth",
        ("ramp/rl/policy.py", "ramp/rl/role_depth.py"),
    ),
    Format("State of a search", "R/.state/HASH/", "for resuming after a kill", ("ramp/search/journal.py",)),
    Format(
        "Packed row",
        "R/quantized/MODEL/ROW/",
        "a quantized model as one safetensors file, and meta.json",
        ("ramp/rows/checkpoint.py",),
    ),
    Format(
        "Tuned row",
        "R/quantized/MODEL/ROW-tuned/",
        "a packed row whose scales were tuned",
        ("ramp/rows/tuned_row.py",),
    ),
    Format(
        "Job of a package",
        "R/packages/MODEL/ROW/",
        "what an external package is asked for, and what it hands back",
        ("ramp/methods/package_job.py", "ramp/packages/prepare_job.py", "ramp/packages/run_job.py"),
    ),
    Format(
        "Environment of a package",
        ".envs/NAME/environment.json",
        "what pip installed",
        ("ramp/packages/package_environment.py",),
    ),
    Format(
        "Static mix", "R/quantized/MODEL/MIX-bBITS-sSEED-ggml/", "a row of llama.cpp", ("ramp/export/static_mix.py",)
    ),
    Format(
        "Exported file",
        "R/halo/MODEL/ROW.gguf, .plan.json, .types.txt, .check.json, .card.md",
        "the GGUF file, the plan of its tensors, its check, its model card",
        (
            "ramp/export/halo.py",
            "ramp/export/plan.py:GgufPlan",
            "ramp/export/plan.py:PlannedTensor",
            "ramp/export/llamacpp_check.py:Check",
        ),
    ),
    Format(
        "Files beside llama.cpp's mixes",
        "R/gguf/MODEL/rows.json, checks.json, windows.json",
        "GGUF files of ours at the bytes of llama.cpp's mixes, and these",
        (
            "ramp/sized_gguf/against_mixes.py",
            "ramp/sized_gguf/against_mixes.py:Row",
            "ramp/export/llamacpp_check.py:Check",
        ),
    ),
    Format(
        "Metrics",
        "R/metrics/MODEL/ROW.json",
        "perplexity and KL of a row on held-out text",
        (
            "ramp/evaluation/metrics.py",
            "ramp/rows/meta_file.py:RowKey",
            "ramp/evaluation/metrics.py:SIZES",
            "ramp/evaluation/metrics.py:MADE",
            "ramp/evaluation/metrics.py:SEARCH",
        ),
    ),
    Format("Scored tasks", "R/tasks_scored/MODEL/ROW.json", "answers by item", ("ramp/evaluation/lm_eval_tasks.py",)),
    Format(
        "League",
        "R/league/MODEL/accepted.json, ALLOCATOR/BUDGET/EVALS/SEED.json",
        "is the model worth comparing on; one search, read at its checkpoints",
        ("ramp/league/acceptance.py", "ramp/league/__main__.py"),
    ),
    Format(
        "Exact optimum",
        "R/optimum/MODEL/UNITS.json, .safetensors, UNITS/ALLOCATOR.json",
        "every allocation of a small problem, and an allocator on it",
        ("ramp/optimum/__main__.py", "ramp/optimum/run.py"),
    ),
    Format(
        "Ablation of folds",
        "R/fold_ablation/MODEL/FILE/METHOD-bBITS.json",
        "one uniform row on one fold",
        ("ramp/league/fold_ablation.py",),
    ),
    Format(
        "Digests",
        "R/records/digests.json, results/published/digests.json",
        "what every stage left behind, as digests",
        (
            "ramp/records/study_digests.py",
            "ramp/records/study_digests.py:StudyDigests",
            "ramp/records/study_digests.py:StageDigests",
            "ramp/core/provenance.py:Machine",
            "ramp/records/intermediate_digests.py",
        ),
    ),
    Format("Comparison", "R/compared/NAME.json", "ours beside another implementation", ("benchmarks/measure.py",)),
)
"""Every file that a stage writes for another, in the order in which data passes; the records follow."""


def literals(text: str) -> str:
    """Return reStructuredText literals as those of Markdown."""
    return text.replace("``", "`")


def docstring_parts(file: str) -> Iterator[str]:
    """Yield the paragraphs and tables of a module's docstring that name something in literals; no commands."""
    text = ast.get_docstring(ast.parse((ROOT / file).read_text(encoding="utf-8"))) or ""
    for paragraph in text.split("\n\n")[1:]:
        table = paragraph.startswith("|")
        if table or ("``" in paragraph and not paragraph.startswith(" ")):
            yield literals(paragraph)


def assignments(file: str) -> dict[str, ast.stmt]:
    """Return classes and assigned names of a module."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
    return found


def class_table(file: str, node: ast.ClassDef) -> str:
    """Return the fields of a class as a table: name, type, and the comment or docstring of each."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    rows = ["| field | type | meaning |", "| --- | --- | --- |"]
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        comment = lines[(field.end_lineno or 1) - 1].partition("  # ")[2]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            comment = str(after.value.value)
        cells = (f"`{field.target.id}`", f"`{ast.unparse(field.annotation)}`", comment)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def source_parts(source: str) -> list[str]:
    """Return what one source says, as Markdown; ``FormatError`` where it is gone or says nothing."""
    file, _, name = source.partition(":")
    if not (ROOT / file).is_file():
        raise FormatError(f"docs/formats.md needs {source}: the file is gone; correct paper.formats.FORMATS")
    if not name:
        parts = list(docstring_parts(file))
    else:
        node = assignments(file).get(name)
        if isinstance(node, ast.ClassDef):
            parts = [f"`{name}` ({file}):", class_table(file, node)]
        elif isinstance(node, ast.Assign):
            parts = [f"`{name.lower()}`: " + ", ".join(f"`{each}`" for each in ast.literal_eval(node.value)) + "."]
        else:
            parts = []
    if not parts:
        raise FormatError(f"docs/formats.md needs {source}, which names no field; correct paper.formats.FORMATS")
    return parts


def record_table(table: Table) -> list[str]:
    """Return one table of the records as Markdown."""
    rows = ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    for column in table.columns:
        meaning = f"{column.meaning}; older tables lack it" if column.optional else column.meaning
        cells = (f"`{column.name}`", column.dtype, column.unit, markdown_text(meaning))
        rows.append("| " + " | ".join(cells) + " |")
    unique = ", ".join(f"`{name}`" for name in table.unique)
    return [
        f"### {table.file}",
        f"{table.meaning[0].upper()}{table.meaning[1:]}. One row per {unique}.",
        "\n".join(rows),
    ]


def anchor(title: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def page() -> str:
    """Return the whole page."""
    titles = [*(each.title for each in FORMATS), "Records"]
    parts = [HEAD.strip(), "\n".join(f"- [{title}](#{anchor(title)})" for title in titles)]
    for each in FORMATS:
        parts += [f"## {each.title}", f"`{each.path}`: {each.line}."]
        parts += [part for source in each.sources for part in source_parts(source)]
    parts += ["## Records", "`R/records/*.csv`: tidy tables, the only input of tables, figures, claims and the paper."]
    parts += [part for table in TABLES.values() for part in record_table(table)]
    fields = "\n".join(f"| `{name}` | {markdown_text(meaning)} |" for name, meaning in CLAIM_FIELDS.items())
    parts += ["### claims.json", "A list of verdicts.", f"| field | meaning |\n| --- | --- |\n{fields}"]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Write docs/formats.md from the code that writes the files.")
    parser.add_argument("--out", type=OutputFile, default="docs/formats.md", help="file to write anew")
    args = parser.parse_args(argv)
    write_text(args.out, page())
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
