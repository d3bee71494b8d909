"""The main table of a model: every row with its sizes, perplexity and KL, and its saving against uniform 4 bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from paper.comparisons import saving
from paper.naming import (
    CONTROL_METHODS,
    REFERENCE_BITS,
    SEARCH_METHODS,
    STATIC_MIXES,
    UNIFORM_METHODS,
    bits_title,
    method_title,
    model_title,
)
from paper.noise import floor_of
from paper.study import Entry, Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table


def uniform_reference(study: Study, model: str) -> Entry | None:
    """Return the uniform 4-bit row whose bytes savings are counted from (the affine uniform rows are equally large)."""
    for method in UNIFORM_METHODS:
        if entry := study.one(model, method, REFERENCE_BITS):
            return entry
    return None


def label(study: Study, entry: Entry) -> str:
    """Return the method as the table's first column shows it."""
    if entry.method == "float":
        return study.float_title(entry.model)
    marks = "†" * (entry.grid == "ggml") + "‡" * entry.not_run + "§" * entry.published
    return method_title(entry.method) + (f" {marks}" if marks else "")


def _group(entry: Entry) -> str:
    if entry.grid == "ggml":
        return "mixes" if entry.method in STATIC_MIXES else "ggml"
    if not entry.is_quantized:
        return "reference"
    if entry.method in CONTROL_METHODS:
        return f"control {entry.budget_bits}"
    return f"{'uniform' if entry.is_uniform else 'mixed'} {entry.budget_bits}"


def in_order(entries: list[Entry]) -> list[Entry]:
    """Sort entries: references, uniform rows by width, controls, mixed rows by budget, ggml rows, static mixes."""
    rank = {"reference": 0, "uniform": 1, "control": 2, "mixed": 3, "ggml": 4, "mixes": 5}
    return sorted(entries, key=lambda e: (rank[_group(e).split()[0]], e.budget_bits if e.method != "released" else 0))


def main_table(study: Study, model: str, published: Study | None = None) -> Table:
    """Return all rows of ``model``, and those of packages that stand in the ``published`` records alone."""
    own = [entry for entry in study.find(model, grid=None, stage=None) if not entry.restored]
    entries = in_order(own + (study.external_entries(model, published) if published else []))
    table = _table(study, model, entries, published)
    return replace(table, footnotes=(*table.footnotes, *stored_again(study, model)))


SHORT = 12
"""Rows of the headline table."""

LEFT_OUT = ("rtn", "role_depth", "evolution", "annealing")
"""Methods whose rows the headline table leaves to the main one."""


def headline_table(study: Study, model: str) -> Table:
    """Return at most ``SHORT`` rows: uniform 4 bits, mixed rows at those bytes and at the smallest budget.

    The main table alone has packages, controls, other budgets, grids and tracks.
    """
    rows = [entry for entry in study.find(model) if not entry.is_external and entry.method not in CONTROL_METHODS]
    mixed = [entry for entry in rows if entry.method not in UNIFORM_METHODS]
    searched = [entry.budget_bits for entry in mixed if entry.method in SEARCH_METHODS] or [
        e.budget_bits for e in mixed
    ]
    budgets = {REFERENCE_BITS, *([min(searched)] if searched else [])}
    chosen = [entry for entry in rows if entry.budget_bits in budgets and entry.method not in LEFT_OUT]
    chosen = [*study.find(model, "float", grid=None, stage=None), *chosen[: SHORT - 1]]
    text = study.primary_text
    table = _table(study, model, in_order(chosen))
    title = table.title.replace("of every row", "of the study's own methods")
    return replace(table, name="headline", title=title).only(
        "method", "budget", "linear", "less_linear", "file", f"ppl_{text}", f"kl_{text}", "seeds"
    )


def _table(study: Study, model: str, entries: list[Entry], published: Study | None = None) -> Table:
    uniform = uniform_reference(study, model)
    several = any(len(entry.records) > 1 for entry in entries)
    columns = [
        Column("method", "method", align="left", width="7.5em" if len(study.texts) > 1 else "auto"),
        Column("stage", "stage/grid", align="left", printed=False),
        Column("budget", "budget", "bits"),
        Column("nominal", "nominal", "bits", printed=False),
        Column("bpw", "linears", "bpw"),
        Column("linear", "linears", "MB", scale=1e-6),
        Column("file", "file", "MB", scale=1e-6),
        Column("less_linear", "saved", "% lin.", digits=1, scale=100),
        Column("less_file", "saved", "% file", digits=1, scale=100, printed=False),
    ]
    for text in study.texts:
        sub = {"heldout": "held-out", "wikitext2": "WikiText-2"}.get(text, text)
        columns += [Column(f"ppl_{text}", "perplexity", sub), Column(f"kl_{text}", f"KL, {sub}", "nats", digits=4)]
    if several:
        columns.append(Column("seeds", "seeds", digits=0))
    rows = tuple(Row(_cells(study, entry, uniform, published), _group(entry)) for entry in entries)
    own = [entry for entry in entries if not entry.published]
    measured = [entry for entry in own if entry.method != "released"]
    texts = "; ".join(study.limits(measured, text) for text in study.texts if _has(measured, text))
    notes = _footnotes(study, entries, uniform, published)
    logged = tuple(_row_notes(study, entries, logged=True))
    words = caption("main", *notes, model=model_title(model), texts=texts, seeds=study.seeds(own))
    return Table(f"main_{model}", columns=tuple(columns), rows=rows, aside=logged, **words).filled()


LOGGED = " -> "
"""Stands in notes that list what a program did, tensor by tensor: no printed page needs them."""


def _cells(study: Study, entry: Entry, uniform: Entry | None, published: Study | None) -> dict:
    quantized = entry.is_quantized
    source = published if published and entry.published else study
    cells: dict = {
        "method": label(study, entry),
        "stage": f"{entry.stage}/{entry.grid}" if quantized else "–",
        "budget": bits_title(entry.budget_bits) if quantized and entry.method not in STATIC_MIXES else None,
        "nominal": entry.mean("bits_nominal") if quantized else None,
        "bpw": entry.mean("bpw_linear"),
        "linear": entry.mean("bytes_linear"),
        "file": entry.mean("bytes_file"),
        "seeds": len(entry.records) if quantized else None,
    }
    if uniform and quantized:
        cells["less_linear"] = saving(entry, uniform, "bytes_linear")
        cells["less_file"] = saving(entry, uniform, "bytes_file")
    for text in study.texts:
        cells[f"ppl_{text}"] = source.measured(entry, text, "ppl")
        if entry.method != "float":
            cells[f"kl_{text}"] = source.measured(entry, text, "kl")
    return cells


def _has(entries: list[Entry], text: str) -> bool:
    return any(entry.mean(f"ppl_{text}") is not None for entry in entries)


def _footnotes(study: Study, entries: list[Entry], uniform: Entry | None, published: Study | None) -> tuple[str, ...]:
    notes = []
    if uniform:
        notes.append(
            "Saved: bytes less than the uniform 4-bit rows, on the packed linears (codes, scales, zeros) and on the "
            "whole file. A budget of b bits is the bytes of the packed linears of the uniform b-bit row."
        )
    if any(entry.grid == "ggml" for entry in entries):
        notes.append(
            "† exported to GGUF in block types of llama.cpp: another grid with budgets of its own; compare it with no "
            "row above on equal terms."
        )
    if any(entry.not_run for entry in entries):
        notes.append("‡ could not run here and has no numbers; the reason stands below.")
    if published and (shown := [entry for entry in entries if entry.published]):
        limits = "; ".join(published.limits(shown, text) for text in published.texts if _has(shown, text))
        notes.append(f"§ published with this suite (results/published), not run here{f': {limits}' if limits else ''}.")
    if entries and (floor := floor_of(study, entries[0].model)):
        notes.append(floor)
    return (*notes, *_row_notes(study, entries, logged=False))


def stored_again(study: Study, model: str) -> list[str]:
    """Return one sentence on rows whose linears were stored again beside another embedding and head; none without."""
    found = [
        (own, other, 1e-6 * abs(size - stored), abs(b.value / a.value - 1))
        for other in study.find(model, grid=None, stage=None)
        if other.restored
        for own in study.find(model, other.method, other.budget_bits)
        if own.group_size == other.group_size
        if (a := study.measured(own, study.primary_text, "kl"))
        and (b := study.measured(other, study.primary_text, "kl"))
        and (size := other.mean("bytes_file"))
        and (stored := own.mean("bytes_file"))
        and a.value
    ]
    if not found:
        return []
    names = "; ".join(other.title for _, other, *_ in found)
    more, apart = (max(line[place] for line in found) for place in (2, 3))
    return [
        f"The same linears stored with embedding and head in another format: {names}. These files differ by "
        f"{more:.2f} MB at most, and their KL is within {100 * apart:.1f} % of that above."
    ]


def _row_notes(study: Study, entries: list[Entry], logged: bool) -> Iterator[str]:
    """Yield the notes of single rows: rows with one note share a line, a note on some budgets names them.

    ``logged``: the clauses that list what a program did, else the others.
    """
    noted = [(label(study, entry), entry, _note(study, entry, logged)) for entry in entries]
    lines: dict[str, list[str]] = {}
    for name, entry, note in noted:
        some = any(other != note for same, _, other in noted if same == name)
        lines.setdefault(note, []).append(f"{name}, {bits_title(entry.budget_bits)} bits" if some else name)
    for note, names in lines.items():
        if note:
            yield f"{'; '.join(dict.fromkeys(names))}: {note}."


def _note(study: Study, entry: Entry, logged: bool) -> str:
    """Return the notes of a row beyond its label: those of all its seeds, then those of single ones."""
    notes = entry.records.set_index("seed")["note"].to_dict() if "note" in entry.records else {}
    found = {
        seed: [clause for clause in _clauses(study, entry, str(note)) if (LOGGED in clause) == logged]
        for seed, note in notes.items()
    }
    every = list(found.values())
    shared = [clause for clause in (every[0] if every else []) if all(clause in clauses for clauses in every)]
    own = {seed: [clause for clause in clauses if clause not in shared] for seed, clauses in found.items()}
    return "; ".join(shared + [f"seed {seed}: {', '.join(clauses)}" for seed, clauses in own.items() if clauses])


def _clauses(study: Study, entry: Entry, note: str) -> list[str]:
    """Return the clauses of one note, each once, without those that repeat the row's title."""
    name, reference = label(study, entry), study.float_title(entry.model)
    found = []
    for clause in dict.fromkeys(clause.strip() for clause in note.split(";")):
        if clause in name or clause == reference or clause.startswith("static mix "):
            continue
        clause = clause.replace("row float", f"row “{reference}”")
        found.append(clause.removeprefix(name).strip(" ()") if clause.startswith(f"{name} (") else clause)
    return found
