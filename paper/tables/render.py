"""One table as booktabs LaTeX, typst and Markdown: the same cells, the same footnotes."""

from __future__ import annotations

import json
from pathlib import Path

from paper.tables.model import Cell, Column, Row, Table, heading, parts
from ramp.core.atomic_files import write_text

MODEL = "model"
"""Column of models."""

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "·": r"$\cdot$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "ü": r"\"u",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
}


def latex_text(text: str) -> str:
    """Return plain text for LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def markdown_text(text: str) -> str:
    """Return plain text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def typst_text(text: str) -> str:
    """Return plain text as a typst string literal, in which nothing is markup."""
    return json.dumps(text, ensure_ascii=False)


def _joined(cell: tuple[str, str]) -> str:
    return " ".join(part for part in cell if part)


def _groups(rows: tuple[Row, ...]) -> list[bool]:
    """Return for each row whether a rule is drawn before it."""
    return [i > 0 and row.group != rows[i - 1].group for i, row in enumerate(rows)]


def to_latex(table: Table) -> str:
    """Return a booktabs table environment."""
    lines = ["\\begin{table}", f"\\caption{{{latex_text(table.title)}}}", f"\\label{{tab:{table.name}}}", "\\centering"]
    if not table.rows:
        return "\n".join([*lines, latex_text(table.absent), "\\end{table}", ""])
    alignment = "".join("l" if column.align == "left" else "r" for column in table.columns)
    lines += [f"\\begin{{tabular}}{{{alignment}}}", "\\toprule"]
    lines += [" & ".join(latex_text(heading(column)) for column in table.columns) + " \\\\", "\\midrule"]
    for row, rule in zip(table.rows, _groups(table.rows), strict=True):
        lines += ["\\midrule"] if rule else []
        cells = (latex_text(_joined(parts(row.cells.get(c.key), c))) for c in table.columns)
        lines.append(" & ".join(cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par\\footnotesize {latex_text(note)}" for note in (*table.footnotes, *table.aside)]
    return "\n".join([*lines, "\\end{table}", ""])


def to_markdown(table: Table) -> str:
    """Return a pipe table under its title."""
    lines = [f"**{table.title}**", ""]
    if not table.rows:
        return "\n".join([*lines, table.absent, ""])
    lines.append("| " + " | ".join(markdown_text(heading(column)) for column in table.columns) + " |")
    lines.append("| " + " | ".join(":---" if c.align == "left" else "---:" for c in table.columns) + " |")
    for row in table.rows:
        cells = (markdown_text(_joined(parts(row.cells.get(c.key), c))) for c in table.columns)
        lines.append("| " + " | ".join(cells) + " |")
    for note in (*table.footnotes, *table.aside):
        lines += ["", note]
    return "\n".join([*lines, ""])


def _typst_cell(row: Row, column: Column) -> str:
    main, interval = parts(row.cells.get(column.key), column)
    if not interval:
        return typst_text(main)
    interval = interval.replace(" ", "\u00a0")  # an interval never breaks across lines
    return f"[#{typst_text(main)} #box({typst_text(interval)})]"


def _by_model(table: Table) -> bool:
    """Return whether a printed page names each model once, in a line above its rows, and has no column of models."""
    models = [row.cells.get(MODEL) for row in table.rows if MODEL in (column.key for column in table.columns)]
    changes = sum(model != before for model, before in zip(models, [None, *models], strict=False))
    return 0 < 2 * changes <= len(models)


def to_typst(table: Table) -> str:
    """Return a typst figure of kind table, for ``#include``; the rules are those of booktabs, all text of one size."""
    caption = f"  caption: [#{typst_text(table.title)}],"
    if not table.rows:
        return "\n".join(["#figure(", caption, "  kind: table,", f"  [#emph({typst_text(table.absent)})],", ")", ""])
    by_model = _by_model(table)
    columns = [column for column in table.columns if column.printed and not (by_model and column.key == MODEL)]
    widths = ", ".join(column.width for column in columns)
    alignment = ", ".join(column.align for column in columns)
    head = ", ".join(f"strong({typst_text(column.title)})" for column in columns)
    units = [typst_text(column.unit) for column in columns]
    lines = ["#figure(", caption, "  kind: table,", "  block[", "    #table("]
    lines += [f"      columns: ({widths},),", f"      align: ({alignment},),", "      stroke: none,"]
    lines += ["      table.hline(stroke: 0.8pt),", f"      table.header({head},"]
    lines += [f"        {', '.join(units)}"] if any(column.unit for column in columns) else []
    lines += ["      ),", "      table.hline(stroke: 0.4pt),"]
    model: Cell = None
    for row, rule in zip(table.rows, _groups(table.rows), strict=True):
        lines += ["      table.hline(stroke: 0.2pt),"] if rule else []
        if by_model and row.cells[MODEL] != model:
            model = row.cells[MODEL]
            lines.append(f"      table.cell(colspan: {len(columns)}, align: left, emph({typst_text(str(model))})),")
        lines.append("      " + ", ".join(_typst_cell(row, column) for column in columns) + ",")
    lines += ["      table.hline(stroke: 0.8pt),", "    )"]
    lines += [f"    #align(left, {typst_text(note)})" for note in table.footnotes]
    return "\n".join([*lines, "  ],", f") #label({typst_text(f'table-{table.name}')})", ""])


def write(table: Table, folder: Path) -> None:
    """Write ``{name}.tex``, ``{name}.typ`` and ``{name}.md`` into ``folder``."""
    for suffix, render in (("tex", to_latex), ("typ", to_typst), ("md", to_markdown)):
        write_text(folder / f"{table.name}.{suffix}", render(table))
