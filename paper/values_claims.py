"""Numbers of the claims in the paper's text: verdicts, and how single comparisons behind two of them end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paper.claims import CLAIMS_FILE, holds, limit_words, read_claims_file
from paper.measures import MEASURES, Comparison, NotTested
from paper.naming import model_title
from paper.study import Study
from paper.words import listed, shown
from ramp.evaluation.bootstrap import Estimate
from ramp.records.schema import PARTLY, VERDICTS

Items = Iterator[tuple[str, str]]


def claim_values(study: Study) -> Items:
    """Yield ``claim.*`` and ``claims.*``, and the comparisons of two claims that are told one by one."""
    yield from _claims(study)
    yield from _role_bits(study)
    yield from _folds(study)


def _claims(study: Study) -> Items:
    """Yield ``claim.{id}.{verdict,scale,measure,value}`` and which claims ended how."""
    entries = study.claims or []
    limits = {claim["id"]: limit_words(claim) for claim in read_claims_file(CLAIMS_FILE)}
    for entry in entries:
        yield f"claim.{entry['id']}.verdict", entry["verdict"]
        yield f"claim.{entry['id']}.scale", entry["scale"]
        yield f"claim.{entry['id']}.measure", entry["measure"]
        if entry["id"] in limits:
            yield f"claim.{entry['id']}.limit", limits[entry["id"]]
        if entry["value"] is not None:
            estimate = Estimate(entry["value"], *(entry["margin"] or (None, None)))
            yield f"claim.{entry['id']}.value", shown(estimate, digits=3)
    if summary := claims_summary(study):
        yield "claims.summary", summary
    later = [f"{claim['id']}: {claim['revised']}" for claim in read_claims_file(CLAIMS_FILE) if "revised" in claim]
    if later:
        yield "claims.revised", "; ".join(later)
    yield "claims", str(len(entries))


def claims_summary(study: Study) -> str:
    """Return how many claims ended with which verdict, and which; nothing without judged claims."""
    endings, parts = [], {claim["id"]: claim["part"] for claim in read_claims_file(CLAIMS_FILE) if "part" in claim}
    for verdict in VERDICTS:
        ids = [entry["id"] for entry in study.claims or [] if entry["verdict"] == verdict]
        ids = [f"{name}: {parts[name]}" if name in parts and verdict == PARTLY else name for name in ids]
        endings += [f"{len(ids)} {verdict} ({', '.join(ids)})"] if ids else []
    return "; ".join(endings)


def _comparisons(study: Study, measure: str) -> tuple[dict[str, Any], list[Comparison]]:
    """Return the claim of a measure and the comparisons behind it; none where the records cannot speak to it."""
    [claim] = [claim for claim in read_claims_file(CLAIMS_FILE) if claim["measure"] == measure]
    try:
        return claim, MEASURES[measure](study, **claim["params"])
    except NotTested:
        return claim, []


def _role_bits(study: Study) -> Items:
    """Yield ``role_bits.{0,1,...}``: each comparison behind C11, whose verdict names the least favourable one alone.

    ``role_depths.{last,middle}``: depths of the last and of the middle layers, in per cent.
    """
    claim, found = _comparisons(study, "extra_bits")
    if not found:
        return
    params = claim["params"]
    yield "role_depths.last", f"{100 * (1 - params['last_share']):.0f}"
    yield "role_depths.middle", listed([f"{100 * end:.0f}" for end in params["middle"]])
    for name, label in (("o", "output projections"), ("last", "the last layers")):
        sides = [each.estimate.side(0) for each in found if label in each.label]
        yield f"role_bits_above.{name}", f"{sides.count(1)} of {len(sides)}"
    for index, comparison in enumerate(found):
        yield f"role_bits.{index}", f"{comparison.label}: {shown(comparison.estimate, digits=2)}"


def _folds(study: Study) -> Items:
    """Yield ``fold.counts``: how the comparisons behind C6 end on each model; ``fold.alpha``: of SmoothQuant's."""
    claim, found = _comparisons(study, "folded_against_plain")
    if not found:
        return
    endings: dict[str, list[bool | None]] = {}
    for each in found:
        endings.setdefault(each.rows[0].split("/")[0], []).append(holds(each.estimate, claim["rule"]))
    counts = [
        f"{outcomes.count(True)} of {len(outcomes)} hold on {model_title(model)}, {outcomes.count(False)} fail"
        for model, outcomes in endings.items()
    ]
    yield "fold.counts", "; ".join(counts)
    yield "fold.alpha", f"{claim['params']['alpha']:g}"
