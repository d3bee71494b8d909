"""The results page: one HTML file, made from the records, that opens without a server and without a network.

    python -m paper.page --records results/published --out results/published/index.html

Scripts, styles and data stand inside the file. Links lead to the CSV files of the records, relative to it.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_text, write_text
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.page.content import content
    from paper.page.origin import Origin
    from paper.study import Study

HERE = Path(__file__).parent


def rendered(page: dict[str, Any]) -> str:
    """Return the file: the template with title, style, scripts and data in place of its marks."""
    parts = {
        "TITLE": html.escape(page["title"]),
        "STYLE": read_text(HERE / "page.css"),
        "DATA": json.dumps(page, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False).replace(
            "<", "\\u003c"
        ),
        "SCRIPT": "".join(read_text(HERE / name) for name in ("tables.js", "plots.js", "page.js")),
    }
    text = read_text(HERE / "page.html")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part, 1)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Draw the results page from the records.")
    parser.add_argument("--records", type=Path, default=Path("results/published"), help="folder of the records")
    parser.add_argument("--out", type=OutputFile, default=None, help="HTML file; default: index.html among the records")
    args = parser.parse_args(argv)
    out = args.out or args.records / "index.html"
    study = Study.read(args.records, args.records / "claims.json")
    origin = Origin.of(args.records, study, os.path.relpath(args.records, out.parent))
    write_text(out, rendered(content(study, origin)))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
