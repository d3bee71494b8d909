"""Outcome of a run in a few lines: the files, the rows with the least KL, the checks, the claims.

    python -m paper.outcome --records results/records

is what `snakemake` prints at the end of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ramp.core import cli

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.evidence import shortages
    from paper.naming import CONTROL_METHODS, REFERENCE_BITS, model_title
    from paper.search_over_banks import runs_over, standings
    from paper.study import Study
    from paper.values_claims import claims_summary
    from paper.words import listed, shown


def outcome_lines(study: Study) -> Iterator[str]:
    """Yield the lines."""
    text = study.primary_text
    for model in study.models:
        own = [e for e in study.find(model) if not e.is_external and e.method not in CONTROL_METHODS]
        rows = [(entry, kl) for entry in own if (kl := study.measured(entry, text, "kl"))]
        same = [(entry, kl) for entry, kl in rows if entry.budget_bits == REFERENCE_BITS]
        several = len(same) > 1  # at equal bytes: one row alone is the least of nothing
        if found := sorted(same if several else rows, key=lambda row: row[1].value)[:3]:
            named = "; ".join(f"{entry.title} {shown(kl, 4)}" for entry, kl in found)
            of = f"least KL to the float model at the bytes of uniform {REFERENCE_BITS:g} bits"
            yield f"{model_title(model)}, {of if several else 'KL to the float model'}: {named}"
    if not shortages(study) and (over_banks := standings(study)):
        yield f"RAMP's search {listed([each.words for each in over_banks])}; over {runs_over(over_banks)}"
    checks = [frame["ok"].astype(bool) for name in ("halo", "gguf_checks") if (frame := study.frame(name)) is not None]
    if total := sum(len(each) for each in checks):
        yield f"checks of exported files: {sum(int(each.sum()) for each in checks)} of {total} hold"
    if study.ran_ramp and (summary := claims_summary(study)):
        yield f"the paper's claims: {summary}"
    if missing := shortages(study):
        yield f"not evidence: {'; '.join(missing)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Print in a few lines what a study ended with.")
    parser.add_argument("--records", type=Path, required=True, help="folder of the records, with claims.json")
    args = parser.parse_args(argv)
    for line in outcome_lines(Study.read(args.records, args.records / "claims.json")):
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
