"""Verdicts on the paper's claims, computed from the records by the rules of claims.yaml.

    python -m paper.claims --records results/records --claims paper/claims.yaml --out results/records/claims.json

writes claims.json: a list of {id, verdict, scale, measure, value, margin, rows} (``ramp.records.schema.CLAIM_FIELDS``).
Every verdict has a number and its interval. Where the records lack what a claim needs it is "not tested"; where they
hold too little text or one seed the number stands without a verdict, as "not evidence" (``paper.evidence``). ``scale``
says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.core.output_path import OutputFile
from ramp.core.yaml_file import read_yaml

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.evidence import lacking
    from paper.measures import MEASURES, Comparison, NotTested
    from paper.naming import model_title
    from paper.study import Study
    from paper.words import listed
    from ramp.evaluation.bootstrap import Estimate
    from ramp.records.schema import NO_EVIDENCE, NOT_TESTED, PARTLY, REPLICATED
    from ramp.records.table import write_claims

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")
FIELDS = {"id", "text", "paper_value", "scale", "measure", "rule", "params", "part", "limit", "revised"}
REQUIRED = {"id", "text", "paper_value", "measure", "rule"}


def read_claims_file(path: str | Path) -> list[dict[str, Any]]:
    """Read claims.yaml; every fault is one sentence that names the claim.

    Raises:
        RampError: no such file, unknown field, measure or rule.
    """
    loaded = read_yaml(path, "claims")
    claims = loaded.get("claims") if isinstance(loaded, dict) else None
    if not isinstance(claims, list):
        raise RampError(f"{path} should hold a list under the key 'claims'")
    for claim in claims:
        if not isinstance(claim, dict):
            raise RampError(f"{path}: '{claim}' is no claim: give each as fields, {', '.join(sorted(REQUIRED))}")
        where = f"{path}, claim {claim.get('id', '?')}"
        for name in map(str, claim):
            if name not in FIELDS:
                raise RampError(f"{where}: no field '{name}'{nearest(name, FIELDS)}")
        for name in sorted(REQUIRED - set(claim)):
            raise RampError(f"{where} lacks the field '{name}'")
        measure, rule = str(claim["measure"]), claim["rule"]
        if measure not in MEASURES:
            raise RampError(f"{where}: no measure '{measure}'{nearest(measure, MEASURES)}")
        limits = [*rule.values()] if isinstance(rule, dict) and set(rule) <= {"below", "above"} else []
        if len(limits) != 1 or not isinstance(limits[0], int | float):
            raise RampError(f"{where}: a rule is 'below: number' or 'above: number'")
    return claims


def holds(estimate: Estimate, rule: dict[str, float]) -> bool | None:
    """Return True if the whole interval is on the rule's side, False if on the other, None if across or without one."""
    direction, limit = next(iter(rule.items()))
    side = estimate.side(float(limit))
    return None if side == 0 else (side < 0) == (direction == "below")


def limit_words(claim: dict[str, Any]) -> str:
    """Return where the interval has to lie for a claim to hold: in the claim's own words, else ``below 1.05``."""
    direction, limit = next(iter(claim["rule"].items()))
    return str(claim.get("limit") or f"{direction} {limit:g}")


def verdict(outcomes: Sequence[bool | None]) -> str:
    """Return one verdict for several comparisons, all of which must hold."""
    if all(outcome is True for outcome in outcomes):
        return REPLICATED
    if all(outcome is False for outcome in outcomes):
        return "not replicated"
    if True in outcomes and False in outcomes:
        return PARTLY
    return "not replicated" if False in outcomes else "inconclusive"


def judge(study: Study, claim: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of claims.json for one claim."""
    entry: dict[str, Any] = {"id": claim["id"], "value": None, "margin": None, "rows": []}
    try:
        found = MEASURES[claim["measure"]](study, **claim.get("params", {}))
    except NotTested as reason:
        scale = f"not testable in this study: {reason}"
        return entry | {"verdict": NOT_TESTED, "scale": scale, "measure": claim["measure"].replace("_", " ")}
    outcomes = [holds(comparison.estimate, claim["rule"]) for comparison in found]
    deciding = _deciding(found, outcomes, claim["rule"])
    held = outcomes.count(True)
    more = f" (least favourable of {len(found)} comparisons, {held or 'none'} of which hold{'s' * (held < 2)})"
    more = more if len(found) > 1 else ""
    estimate = deciding.estimate
    margin = None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]
    rows = sorted({row for comparison in found for row in comparison.rows})
    known = [lack for comparison in found if comparison.lacks is not None for lack in comparison.lacks]
    if own := [row for comparison in found if comparison.lacks is None for row in comparison.rows]:
        known = [*lacking(study, own), *known]
    missing = list(dict.fromkeys(known))
    ending = verdict(outcomes)
    if ending == REPLICATED and "part" in claim:  # the rest of the claim was not tried
        ending = PARTLY
    scale = claim.get("scale") or _scale(study, found)
    return entry | {
        "verdict": NO_EVIDENCE if missing else ending,
        "scale": f"{NO_EVIDENCE}: {'; '.join(missing)}" if missing else scale,
        "measure": deciding.label + more,
        "value": estimate.value,
        "margin": margin,
        "rows": rows,
    }


def _deciding(found: list[Comparison], outcomes: list[bool | None], rule: dict[str, float]) -> Comparison:
    """Return the least favourable comparison: failed before unclear before held, then by value."""
    sign = 1 if "below" in rule else -1
    rank = {False: 0, None: 1, True: 2}
    return min(zip(found, outcomes, strict=True), key=lambda each: (rank[each[1]], -sign * each[0].estimate.value))[0]


def _scale(study: Study, found: list[Comparison]) -> str:
    """Return the models of the compared rows in words, the source first; the source where no row is named."""
    named = {row.split("/")[0] for comparison in found for row in comparison.rows} or {study.source}
    models = sorted(named, key=lambda model: (model != study.source, model))
    if all(study.is_paper_model(model) for model in models):
        return f"{listed([model_title(model) for model in models])}, the paper's model"
    return f"analogue on {listed([model_title(model) for model in models])}"


def judge_all(study: Study, claims: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all entries of claims.json."""
    return [judge(study, claim) for claim in claims]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Judge the paper's claims from the records.")
    parser.add_argument("--records", type=Path, required=True, help="folder of the records")
    parser.add_argument("--claims", type=Path, default=CLAIMS_FILE, help="rules of the claims")
    parser.add_argument("--out", type=OutputFile, required=True, help="claims.json to write")
    args = parser.parse_args(argv)
    write_claims(args.out, judge_all(Study.read(args.records), read_claims_file(args.claims)))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
