"""List the commands in pipeline order, or run one of them: ``python -m ramp [NAME [OPTIONS]]``.

``python -m ramp NAME OPTIONS`` runs the same module as ``python -m MODULE OPTIONS``. The table is data, so that
listing imports none of the commands (and no torch).
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from typing import NamedTuple

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest


class Command(NamedTuple):
    """One command: its short name, the module that ``python -m`` runs, one line about it."""

    name: str
    module: str
    line: str


COMMANDS = (
    Command("schema", "ramp.study", "print the JSON schema of the configuration"),
    Command(
        "check",
        "ramp.study.check_command",
        "check configuration files and list every fault, before Snakemake reads them",
    ),
    Command("plan", "ramp.plan", "plan a study: jobs, hours, memory, disk and downloads by stage, before it runs"),
    Command("fetch", "ramp.assets.fetch", "fetch one asset that the registry names, and check it"),
    Command("import-model", "ramp.assets.import_model", "make a checkpoint folder of a fetched model"),
    Command("task-rows", "ramp.assets.task_rows", "write the rows of commonsense tasks from a fetched asset"),
    Command("texts", "ramp.assets.text_roles", "assign every document to one role and check that roles are disjoint"),
    Command("count-tokens", "ramp.assets.count_tokens", "count the tokens of texts, before any long job needs them"),
    Command("train", "ramp.assets.train_tiny", "train a tiny model of the suite's own family"),
    Command("calibration", "ramp.calibration", "measure activation statistics of every linear's input"),
    Command("fold", "ramp.calibration.fold_search", "search the scales of a Scale Folding"),
    Command("bank", "ramp.bank", "quantize every linear at every width once, and keep the results packed"),
    Command("sensitivity", "ramp.sensitivity", "measure sensitivities of a bank's linears at every width, of one kind"),
    Command("search", "ramp.search", "search the widths of all linears under a budget of bytes"),
    Command("transfer", "ramp.search.transfer", "allocate a model's bits with a policy trained on another model"),
    Command("quantize", "ramp.rows.quantize", "quantize one row sequentially and pack it"),
    Command("retrack", "ramp.rows.storage_track", "store a row again with embedding and head in another format"),
    Command("tune", "ramp.rows.tune", "tune the scales of a row by KL to the float model, codes frozen"),
    Command("environment", "ramp.packages.package_environment", "make the virtual environment of an external package"),
    Command("package-job", "ramp.packages.prepare_job", "ask an external package for one row"),
    Command("run-job", "ramp.packages.run_job", "run a package's job (package-job starts it in the environment)"),
    Command("package-row", "ramp.packages.record_row", "repack what a package left as a row of ours"),
    Command("skipped-row", "ramp.evaluation.skipped_row", "write the row of a method that cannot run on this machine"),
    Command("halo", "ramp.export.halo", "write an allocation as a GGUF file and check it in llama.cpp"),
    Command("static-mix", "ramp.export.static_mix", "quantize to a static mix of llama.cpp and write it as a row"),
    Command("gguf", "ramp.sized_gguf", "write a model as a GGUF file of the size you ask for, and prove what it is"),
    Command(
        "gguf-mixes",
        "ramp.sized_gguf.against_mixes",
        "make GGUF files at the bytes of llama.cpp's mixes, score both",
    ),
    Command("evaluation", "ramp.evaluation", "score a row on held-out text: perplexity and KL with intervals"),
    Command("card", "ramp.export.halo_card", "write the model card of an exported allocation, with its scores"),
    Command("noise", "ramp.evaluation.noise_floor", "evaluate the float model against itself under other conditions"),
    Command("scored-text", "ramp.evaluation.scored_text", "write scored windows as text, for the leakage meter alone"),
    Command("tasks", "ramp.evaluation.lm_eval_tasks", "score a row on commonsense tasks through lm-evaluation-harness"),
    Command("acceptance", "ramp.league.acceptance", "check that rounding costs a trained model enough for the league"),
    Command("league", "ramp.league", "run one search of the league and score it at its checkpoints"),
    Command("fold-ablation", "ramp.league.fold_ablation", "quantize and score one uniform row on one fold"),
    Command("enumerate", "ramp.optimum", "score every allocation of a small problem"),
    Command("optimum", "ramp.optimum.run", "run one allocator on an enumerated problem"),
    Command("collect", "ramp.records.collect", "collect the measurements of a study into the records"),
    Command("collect-banks", "ramp.records.collect_banks", "collect rows over banks into the records"),
    Command("collect-entropy", "ramp.records.collect_entropy", "measure what lossless coding of rows would save"),
    Command("collect-folding", "ramp.records.collect_folding", "collect the ablation of folds into the records"),
    Command("collect-gguf", "ramp.records.collect_gguf", "collect files beside llama.cpp's mixes into the records"),
    Command("collect-leakage", "ramp.records.collect_leakage", "collect what leaks of text buy into the records"),
    Command("collect-league", "ramp.records.collect_league", "collect the league or the optimum into the records"),
    Command("collect-noise", "ramp.records.collect_noise", "collect the float model against itself into the records"),
    Command("collect-tuning", "ramp.records.collect_tuning", "collect rows with tuned scales into the records"),
    Command("settings", "ramp.records.settings", "write the configuration of a study as it was run"),
    Command("digests", "ramp.records.digests", "write digests of everything that a finished study left behind"),
    Command("claims", "paper.claims", "judge the paper's claims by the records"),
    Command("compare", "ramp.records.compare", "compare two runs, or a run with what was published"),
    Command("tables", "paper.tables", "write every table as LaTeX, typst and Markdown"),
    Command("figures", "paper.figures", "draw every figure as PDF and PNG"),
    Command("page", "paper.page", "draw the results page: one HTML file that sorts, filters and plots the records"),
    Command("paper", "paper.build", "typeset the paper"),
    Command("archive", "ramp.archive", "pack a finished study into one file that checks itself, without weights"),
    Command("verify", "ramp.archive.verify", "check an archive, and on request make one of its rows again"),
    Command("merge", "ramp.archive.merge", "merge rows of other people's runs, with who, what machine and which bank"),
    Command("dataset", "paper.dataset", "write the records as a data set of the Hugging Face hub, with their schema"),
    Command("publish", "paper.publish", "copy a finished study's records to results/published"),
    Command("outcome", "paper.outcome", "print in a few lines what a study ended with"),
    Command("audit", "paper.audit", "list the ways of counting that fit stated bits and gigabytes of a model"),
    Command(
        "extend",
        "paper.extend",
        "add rows over banks, tuned rows, leaks, GGUF files, runs of the league to published ones",
    ),
    Command("readme", "paper.readme", "write README's claims and docs/results.md from the published records"),
    Command("formats", "paper.formats", "write docs/formats.md from the code that writes the files"),
)
"""Every command of ``ramp`` and ``paper``, in the order in which data passes."""


def listing() -> str:
    """Return the table of commands as text, one line each."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:<{width}}  {command.line}" for command in COMMANDS]
    return "\n".join(["usage: python -m ramp NAME [OPTIONS]   (NAME --help: its options)", "", *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring. ``RampError`` names the nearest command."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        print(listing())
        return 0
    modules = {command.name: command.module for command in COMMANDS}
    if given[0] not in modules:
        raise RampError(f"unknown command '{given[0]}'{nearest(given[0], modules)}: `python -m ramp` lists them all")
    sys.argv = [f"ramp {given[0]}", *given[1:]]  # what argparse calls the program, and reads
    runpy.run_module(modules[given[0]], run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
