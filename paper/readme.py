"""README's outcome and plan, and docs/results.md with its pages, from the published records: no number there is typed.

    python -m paper.readme --records results/published --readme README.md --results docs/results.md

replaces what stands between a pair of marks of README.md: ``outcome`` with the sentences of the first screen.
docs/results.md is written anew, and so is a page for each section in the folder docs/results: together they hold every
table of the records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_text
from ramp.core.errors import RampError
from ramp.core.marked_page import with_part

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.comparisons import pair
    from paper.league import OWN
    from paper.naming import bits_title
    from paper.publish import OF_OTHERS
    from paper.search_over_banks import standings
    from paper.study import Study
    from paper.tables.__main__ import all_tables
    from paper.tables.main import headline_table
    from paper.tables.model import Table
    from paper.tables.render import to_markdown
    from paper.values import low_budget, values
    from paper.words import listed, plural, shown
    from ramp.methods.names import BAR

KNAPSACK = {
    "over banks": (
        "On {source}, the exact knapsack on Fisher sensitivities, which needs no search, has {banks.knapsack} times "
        "the KL to the float model (lower is better) of uniform AWQ + GPTQ at the bytes of 4 bits; the "
        "interval runs over {banks.knapsack.runs}."
    ),
    "one bank": (
        "On {source}, the exact knapsack on Fisher sensitivities, which needs no search, has {row.knapsack.4.kl} nats "
        "of KL to the float model (lower is better) at the bytes of uniform 4 bits; uniform AWQ + GPTQ "
        "has {row.awq_gptq.4.kl} (one bank)."
    ),
}
SEARCH = {
    "over banks": (
        "RAMP's search from the knapsack {over_banks}; {interval} over {runs}.{settled} The main table's rows, "
        "{bank} ({windows}, {seeds}), end {ends} ({kl} nats)."
    ),
    "one bank": (
        "RAMP's search from the knapsack ended {ends} at {budget} bits in the published run "
        "({kl} nats; one bank, {windows}, {seeds}): another bank may say otherwise."
    ),
}
"""The sentences on knapsack and search: where rows over banks are published, and where they are not."""

BESIDE_ODD_ROWS = (
    " Rows of {gguf.not_256} are no multiple of 256: its mixes fall back to other types; its released {released.type} "
    "file ({released.mb} MB) is exact."
)
"""Said of files of a model whose rows take no block of 256 weights, and that was released quantized."""

ENDS = {"better": "below it", "worse": "above it", "within noise": "within noise of it", "identical": "at it"}
SETTLED = {-1: "", 0: " **No gain is settled.**", 1: " **The search is not recommended.**"}
"""Side of the interval over banks -> what follows it."""

OUTCOME = (
    "{knapsack}",
    "{search}",
    "KL of GGUF files of ours, at most as large as llama.cpp's mixes with the same importance matrix (one bank each). "
    "{gguf.matrix.outcome}.{odd}",
    "Of the paper's {claims} [claims](docs/results/claims.md), tested by analogues on small models: {claims.summary}.",
)
"""The sentences of the first screen. Numbers in braces come from the records (``paper.values``)."""


@dataclass(frozen=True)
class Section:
    """One page of the results: its title, one line about it, and its tables by the beginning of their names."""

    title: str
    line: str
    starts: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of the page inside docs/results."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") + ".md"


SECTIONS = (
    Section("Claims", "each claim of the paper: what was measured, and the verdict", ("claims",)),
    Section("Rows", "size, perplexity and KL of every quantized model, by model", ("main_",)),
    Section("Paired differences", "rows against each other on the same windows, with intervals", ("paired_",)),
    Section(
        "Controls",
        "the same bytes spent on smaller groups",
        ("controls_",),
    ),
    Section("Commonsense tasks", "accuracy by lm-evaluation-harness", ("tasks_",)),
    Section("Bytes", "where the bytes of each file lie; what 3.65 bits can weigh on Llama-2-7B", ("ledger_", "sizes")),
    Section("Transfer", "a policy trained on one model, used untouched on another", ("transfer",)),
    Section("Cost", "what each search cost, and its gain over its warm start", ("cost",)),
    Section("Banks", "allocators repeated over draws of calibration text: intervals over banks", ("banks",)),
    Section(
        "League",
        "allocators on one bank at equal numbers of evaluations, and ablations",
        ("league_summary", "league", "ablations", "equal_quality"),
    ),
    Section(
        "Optimum",
        "distance from the exact optimum of a small problem; how additive the loss is",
        ("optimum", "additivity"),
    ),
    Section("Folds", "Scale Folding varied and nothing else", ("foldings",)),
    Section(
        "Tuned scales",
        "scales tuned by KL after quantizing; mixed rows beside uniform ones, tuned alike",
        ("tuning",),
    ),
    Section("Leakage", "rows that saw text near the held-out text", ("leakage",)),
    Section("Stability", "where two machines part, stage by stage", ("stability",)),
    Section("Noise floor", "the float model against itself: what rounding alone moves", ("noise",)),
    Section(
        "Exported files",
        "checks of the GGUF files in stock llama.cpp",
        ("halo", "gguf"),
    ),
    Section(
        "Quantizers", "our quantizers beside the field's packages: error, KL, speed, memory", ("parity", "benchmarks")
    ),
    Section("Other papers", "numbers quoted from other papers", ("quoted",)),
    Section("Choices", "amounts of text; what was chosen where the paper is silent", ("settings", "choices")),
)
"""The pages of docs/results, in reading order."""

HEAD = """# Results

Every table of the published records ([results/published](../results/published); its manifest.json names commands
and commits of the tables that studies made; {apart} were made apart).
`python -m paper.readme` writes this page and those below it; the same tables are
set in the paper (`snakemake --cores all paper --config records=published`).

How to read them: KL is to the float model, in nats per token, lower is better; brackets are 95 % intervals; a budget of
b bits is the bytes of the packed linears of the uniform b-bit row.

{search}
"""


def outcome(study: Study) -> str:
    """Return the sentences of ``OUTCOME`` as a list."""
    known = values(study)
    knapsack = KNAPSACK["over banks" if "banks.knapsack" in known else "one bank"]
    runs = known.get("banks.knapsack.runs")
    search = search_sentence(study).replace(f"over {runs}", "over the same banks", 1)
    odd = ""
    if {"gguf.not_256", "released.mb"} <= known.keys():
        odd = filled(BESIDE_ODD_ROWS, known)
    known |= {"knapsack": filled(knapsack, known), "search": search, "odd": odd}
    return "\n".join(f"- {filled(sentence, known)}" for sentence in OUTCOME)


def filled(sentence: str, known: Mapping[str, str]) -> str:
    """Return a sentence with the values of its braces; ``RampError`` where the records lack one."""
    if missing := [name for name in re.findall(r"\{([^}]*)\}", sentence) if name not in known]:
        raise RampError(f"the records have no '{missing[0]}', which README names: collect all tables first")
    return re.sub(r"\{([^}]*)\}", lambda found: known[found.group(1)], sentence)


def search_sentence(study: Study) -> str:
    """Return what README says of RAMP's search at its smallest budget: over banks, or of the one of the rows.

    Rows of two banks, or on other windows, are told one beside the other and never compared.
    """
    budget = low_budget(study)
    ours, start = (study.one(study.source, method, budget) for method in (OWN, BAR))
    found = pair(study, ours, start, study.primary_text) if ours and start else None
    if found is None or found.kl_difference is None:
        raise RampError(
            f"the records hold no rows of {OWN} and {BAR} on the same windows: README has a sentence on them"
        )
    known = {
        "ends": ENDS[found.reading],
        "budget": bits_title(found.entry.budget_bits),
        "kl": shown(found.kl_difference, 4, signed=True),
        "windows": plural(found.n_windows, "window"),
        "seeds": plural(len(found.entry.records), "search seed"),
    }
    over_banks = [each for each in standings(study) if each.budget == budget]
    if not over_banks:
        return filled(SEARCH["one bank"], known)
    [standing] = over_banks
    known["over_banks"], known["runs"] = standing.words, standing.ratio.runs_over
    known["interval"] = "measured" if standing.ratio.banks < 2 else "the interval runs"
    known["bank"] = "on one of these banks" if standing.has_record else "of another run"
    known["settled"] = SETTLED[standing.side]
    return filled(SEARCH["over banks"], known)


def paper_plan(study: Study) -> str:
    """Return the plan of the paper's study as a short table: stages of an hour or more, the others in one line."""
    plan = study.frames["plan_paper"].set_index("stage")
    total, stages = plan.loc["total"], plan.drop("total").sort_values("hours", ascending=False)
    long = stages["hours"] >= 1
    rows = [*stages["hours"][long].items(), (f"{(~long).sum()} others", stages["hours"][~long].sum())]
    rows.append(("from start to end", total["hours"]))
    return "\n".join(["| stage | hours |", "|---|--:|", *(f"| {name} | {hours:.1f} |" for name, hours in rows)])


PARTS: dict[str, Callable[[Study], str]] = {"outcome": outcome, "plan": paper_plan}
"""Name of a pair of marks of the README -> what stands between them."""


def marks(name: str) -> tuple[str, str]:
    """Return the comments before and behind a table."""
    return f"<!-- {name}: begin (python -m paper.readme writes this) -->", f"<!-- {name}: end -->"


def with_results(readme: str, study: Study) -> str:
    """Return ``readme`` with every part between its marks; ``RampError`` where marks are missing."""
    for name, make in PARTS.items():
        readme = with_part(readme, *marks(name), make(study))
    return readme


def section_of(table: Table) -> Section:
    """Return the section of a table: the one with the longest beginning of its name."""
    found = [(len(start), section) for section in SECTIONS for start in section.starts if table.name.startswith(start)]
    if not found:
        raise RampError(f"table '{table.name}' has no section in docs/results: add it to paper.readme.SECTIONS")
    return max(found, key=lambda pair: pair[0])[1]


def results_pages(tables: Sequence[Table]) -> dict[str, str]:
    """Return file name -> text of the pages of docs/results that have a table with rows; ``tables``: all of a study."""
    parts: dict[Section, list[str]] = {section: [] for section in SECTIONS}
    for table in tables:
        if table.rows:
            parts[section_of(table)].append(to_markdown(table).strip())
    return {
        section.file: "\n\n".join(
            [
                f"# {section.title}",
                f"{section.line[0].upper()}{section.line[1:]}. [All results](../results.md)",
                *texts,
            ]
        )
        + "\n"
        for section, texts in parts.items()
        if texts
    }


def results_index(study: Study, pages: dict[str, str]) -> str:
    """Return docs/results.md: the contents, and the study's own methods in short."""
    contents = [f"- [{s.title}](results/{s.file}): {s.line}" for s in SECTIONS if s.file in pages]
    short = to_markdown(headline_table(study, study.source)).strip()
    apart = listed(sorted(name for name in OF_OTHERS if name.endswith(".csv")))
    head = HEAD.strip().replace("{search}", search_sentence(study)).replace("{apart}", apart)
    return "\n\n".join([head, "\n".join(contents), "## In short", short]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Write README's outcome and docs/results from the published records.")
    parser.add_argument("--records", type=Path, default=Path("results/published"), help="folder of the records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="file to edit in place")
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results.md"), help="page to write anew, and its folder"
    )
    args = parser.parse_args(argv)
    study = Study.read(args.records, args.records / "claims.json")
    write_text(args.readme, with_results(args.readme.read_text(encoding="utf-8"), study))
    pages = results_pages(all_tables(study))
    write_text(args.results, results_index(study, pages))
    for name, text in pages.items():
        write_text(args.results.with_suffix("") / name, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
