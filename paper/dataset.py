"""The records as a data set of the Hugging Face hub: a table per configuration, and a card with every column's meaning.

    python -m ramp dataset RESULTS --out FOLDER

RESULTS is a results folder, a folder of records (results/published) or a merged one (python -m ramp merge). FOLDER
gets ``data/TABLE.parquet``, typed by the schema of the records, and ``README.md``, the card: its metadata list every
table as a configuration, its text the columns. ``datasets.load_dataset("FOLDER", "records")`` reads it, from the disk
or, once the folder is uploaded, from the hub.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import atomic_path, write_text
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.formats import record_table
    from ramp.archive.crate import read_citation
    from ramp.records.compare_side import Recorded
    from ramp.records.schema import TABLES
    from ramp.records.table import expand, read_all

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("records", "merged")
"""The configuration that is read where none is named: the first of these that is there."""

TAGS = ["quantization", "mixed-precision", "language-models", "benchmark", "replication"]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Categories of the hub by the number of rows of all tables."""


def arrow_table(name: str, frame: pd.DataFrame) -> pyarrow.Table:
    """Return a table of the records in Arrow's types; each column's meaning and unit are its metadata."""
    import pyarrow

    kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    fields = [
        pyarrow.field(column, kinds[about.dtype], metadata={"meaning": about.meaning, "unit": about.unit})
        for column, about in expand(TABLES[name], [str(each) for each in frame.columns])
    ]
    frame = frame.astype(object).where(frame.notna() & (frame != ""), None)
    return pyarrow.Table.from_pandas(frame, schema=pyarrow.schema(fields), preserve_index=False)


def size_category(rows: int) -> str:
    """Return the hub's category of a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "1M<n<10M")


def card(tables: Mapping[str, pd.DataFrame], citation: Mapping[str, Any], origin: str) -> str:
    """Return the data set's card: metadata, how to read it, and the schema of every table."""
    from huggingface_hub import DatasetCardData

    first = next((name for name in FIRST if name in tables), next(iter(tables)))
    configs = [
        {"config_name": name, "data_files": f"data/{name}.parquet"} | ({"default": True} if name == first else {})
        for name in sorted(tables, key=lambda each: each != first)
    ]
    data = DatasetCardData(
        license=str(citation["license"]).lower(),
        language=["en"],
        pretty_name=f"{citation['title']}: records",
        tags=TAGS,
        size_categories=[size_category(sum(len(frame) for frame in tables.values()))],
        configs=configs,
    )
    rows = "\n".join(f"| `{name}` | {len(frame):,} | {TABLES[name].meaning} |" for name, frame in tables.items())
    schema = "\n\n".join(part for name in tables for part in record_table(TABLES[name]))
    return f"""---
{data.to_yaml()}
---

# {data.pretty_name}

{" ".join(str(citation["abstract"]).split())}

{origin}

```python
from datasets import load_dataset

rows = load_dataset("FOLDER_OR_REPOSITORY", "{first}", split="train")
```

| table | rows | one row is |
| --- | --- | --- |
{rows}

An empty cell is null: not measured, or not finite. `{{text}}` and `{{task}}` in a name stand for one column per
evaluated text or task. Rows of two banks are of other roundings and calibration text: compare rows of one bank, paired
on windows.

## Columns

{schema}
"""


def origin_of(folder: Path) -> str:
    """Return where records come from, in one paragraph; empty for a merged folder, whose rows say it themselves."""
    place = folder / "records" if (folder / "records").is_dir() else folder
    if not (place / "records.csv").is_file():
        return "Every row names who ran it, the machine and the bank."
    found = Recorded.read(folder)
    assert found.records is not None  # records.csv is there
    studies = sorted(found.studies)
    commits = sorted({str(each) for each in found.records["commit"] if each})
    machines = sorted({found.machine(study) for study in studies})
    return (
        f"Study: {', '.join(studies)}. Rows were evaluated at commit {', '.join(commits) or 'not recorded'}, on: "
        f"{'; '.join(machines)}."
    )


def dataset(folder: Path, out: Path) -> dict[str, int]:
    """Write the data set of a folder; return the number of rows by table.

    Raises:
        RampError: no records, a damaged table, or ``out`` holds something else.
    """
    import pyarrow.parquet

    tables = read_all(folder / "records" if (folder / "records").is_dir() else folder)
    if not tables:
        raise RampError(f"{folder} holds no table of the records: finish the study, or name its results folder")
    data = [path for path in (out / "data").rglob("*") if path.suffix != ".parquet"]
    if out.exists() and any(out.iterdir()) and (data or not (out / "data").is_dir()):
        raise RampError(f"{out} holds something else: give --out a new folder")
    text = card(tables, read_citation(ROOT / "CITATION.cff"), origin_of(folder))
    with atomic_path(out / "data") as partial:  # tables of an older study go
        partial.mkdir()
        for name, frame in tables.items():
            pyarrow.parquet.write_table(arrow_table(name, frame), partial / f"{name}.parquet")
    write_text(out / "README.md", text)
    return {name: len(frame) for name, frame in tables.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Write the records as a data set of the Hugging Face hub.")
    parser.add_argument("results", type=Path, help="results folder, folder of records, or a merged folder")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder to write")
    args = parser.parse_args(argv)
    counts = dataset(args.results, args.out)
    print(f"{args.out}: {', '.join(f'{name} {count}' for name, count in counts.items())}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
