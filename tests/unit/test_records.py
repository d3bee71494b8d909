"""The records: schema, stable files, and errors that name what is wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.records.schema import KEY_NAMES, TABLES
from ramp.records.table import (
    RecordsError,
    instances,
    match_column,
    read_all,
    read_claims,
    read_table,
    table,
    write_claims,
    write_table,
)
from ramp.rows.meta_file import KEY
from tests.refusals import refused
from tests.rows import row_key


def test_schema_is_well_formed():
    assert KEY_NAMES == KEY  # one key from the evaluation to the records
    for schema in TABLES.values():
        names = [column.name for column in schema.columns]
        assert len(names) == len(set(names))
        assert set(schema.unique) <= set(names)
        assert all(column.required for column in schema.columns if column.name in schema.unique), schema.name
        assert all(column.meaning for column in schema.columns)


def test_values_come_back_exactly(tmp_path):
    path = tmp_path / "records.csv"
    row = row_key(ppl_heldout=0.1 + 0.2, kl_heldout=1e-17, bytes_file=2**53 + 1, projected=True, note='a "b", c\nd')
    write_table(path, [row, row_key(method="float", ppl_heldout=math.inf)])
    frame = read_table(path)
    assert list(frame["method"]) == ["float", "rtn"]  # sorted
    got = frame.iloc[1]
    for name, value in row.items():
        assert got[name] == value, name
    assert frame["bytes_file"].isna().tolist() == [True, False]
    assert math.isinf(frame["ppl_heldout"][0])
    assert math.isnan(frame["kl_heldout"][0])
    assert frame["note"][0] == ""
    assert {"ppl_low_heldout", "n_windows_heldout", "length_heldout"} <= set(frame.columns)  # whole groups


def test_same_rows_same_bytes_whatever_the_order(tmp_path):
    import pandas

    rows = [row_key(seed=seed, budget_bits=bits, kl_heldout=seed / 3) for seed in (10, 9, 2) for bits in (3.65, 4.0)]
    write_table(tmp_path / "a" / "records.csv", rows)
    write_table(tmp_path / "b" / "records.csv", list(reversed([dict(reversed(list(r.items()))) for r in rows])))
    write_table(tmp_path / "c" / "records.csv", pandas.DataFrame(rows))
    texts = {(tmp_path / name / "records.csv").read_bytes() for name in "abc"}
    assert len(texts) == 1
    assert [int(seed) for seed in read_table(tmp_path / "a" / "records.csv")["seed"]] == [2, 9, 10, 2, 9, 10]
    write_table(tmp_path / "d" / "records.csv", read_table(tmp_path / "a" / "records.csv"))  # and through reading
    assert (tmp_path / "d" / "records.csv").read_bytes() in texts


@settings(max_examples=50)
@given(values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_any_float_survives(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "windows.csv"
    write_table(path, [row_key(text="heldout", window=i, tokens=7, nll=value) for i, value in enumerate(values)])
    assert list(read_table(path)["nll"]) == values


def test_columns_of_texts_and_tasks():
    schema = table("records")
    assert match_column(schema, "ppl_low_wikitext2")[0].name == "ppl_low_{text}"
    assert match_column(schema, "ppl_wikitext2") == (match_column(schema, "ppl_heldout")[0], "wikitext2")
    assert match_column(schema, "acc_norm_arc_easy")[1] == "arc_easy"
    assert match_column(schema, "acc_arc_easy")[1] == "arc_easy"
    assert match_column(schema, "kl_start")[0].name == "kl_start"  # a column of its own, no text named "start"
    assert match_column(schema, "kl_search")[1] is None
    assert match_column(schema, "ppl_") is None
    columns = ["ppl_heldout", "kl_low_wikitext2", "acc_se_piqa", "kl_start", "note"]
    assert instances(columns, "text") == ["heldout", "wikitext2"]
    assert instances(columns, "task") == ["piqa"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bits_nominl": 3.0}, "'bits_nominal'"),
        ({"bytes_file": 3.5}, "int and holds 3.5"),
        ({"bytes_file": True}, "should be int"),
        ({"bpw_file": "4"}, "should be float"),
        ({"projected": 1}, "should be bool"),
        ({"note": 3}, "should be str"),
        ({"model": ""}, "'model' is empty"),
        ({"seed": None}, "'seed' is empty"),
    ],
)
def test_writing_refuses(change, says, tmp_path):
    with pytest.raises(RecordsError, match=says):
        write_table(tmp_path / "records.csv", [row_key(**change)])
    assert not list(tmp_path.iterdir())


def test_two_rows_of_one_name_are_refused(tmp_path):
    with pytest.raises(RecordsError, match="two rows"):
        write_table(tmp_path / "records.csv", [row_key(kl_heldout=0.1), row_key(kl_heldout=0.2)])


def test_an_empty_table_has_its_header(tmp_path):
    write_table(tmp_path / "transfer.csv", [])
    frame = read_table(tmp_path / "transfer.csv")
    assert len(frame) == 0
    assert "gap_closed" in frame.columns
    assert set(read_all(tmp_path)) == {"transfer"}  # the others' stages did not run


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kl_optimum", "kl_optimun", "'kl_optimun' .*'kl_optimum'"),
        ("0.25", "abc", "line 2: column 'kl'.*'abc'"),
        (",100,", ",,", "'evals' is empty"),
        (",100,", ",1.5,", "should be int"),
        (",100,", ",9223372036854775808,", "should be int"),
        (",0.25,", ",0.25,9,", "cells for"),
    ],
)
def test_reading_refuses(old, new, says, tmp_path):
    path = tmp_path / "optimum.csv"
    write_table(
        path,
        [
            {"model": "m", "units": "halves-8", "budget_bits": 3.5, "allocator": "ramp", "evals": 100, "seed": 0}
            | {"kl": 0.25, "kl_optimum": 0.125, "gap": 0.0625}
        ],
    )
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecordsError, match=says):
        read_table(path)


def test_a_stray_quote_in_a_large_table_is_one_sentence(tmp_path):
    """Python's reader takes the rest of the table for one cell, and refuses one of more than 131,072 characters."""
    rows = [{**row_key(), "text": "heldout", "window": number, "tokens": 1, "nll": 1.0} for number in range(3000)]
    path = tmp_path / "windows.csv"
    write_table(path, rows)
    text = path.read_text()
    assert len(text) > 131_072
    start = text.index("\n") + 1
    path.write_text(text[:start] + '"' + text[start:])
    refused(RecordsError, {"windows.csv": lambda: read_table(path)})
    path.write_bytes(text.encode() + b"\xff")
    refused(RecordsError, {"windows.csv": lambda: read_table(path)})


def test_reading_refuses_missing_columns_files_and_folders(tmp_path):
    path = tmp_path / "halo.csv"
    path.write_text("file,check,value,ok\n")
    calls = {
        "'limit'": lambda: read_table(path),
        "items.csv": lambda: read_table(tmp_path / "items.csv"),
        "'windows'": lambda: read_table(tmp_path / "window.csv"),
        "no records": lambda: read_all(tmp_path / "nowhere"),
    }
    refused(RecordsError, calls)
    path.write_text("file,check,value,limit,ok\na,b,1.0,2.0,true\na,b,1.5,2.0,true\n")
    refused(RecordsError, {"row a, b": lambda: read_table(path)})
    path.write_text("file,check,value,limit,okay\n")
    refused(RecordsError, {f"{path}: no column 'okay'": lambda: read_table(path)})


def test_claims(tmp_path):
    def claim(name, **more):
        base = {"verdict": "not tested", "scale": "", "measure": "", "value": None, "margin": None, "rows": []}
        return {"id": name, **base, **more}

    path = tmp_path / "claims.json"
    write_claims(path, [claim("C10"), claim("C2", verdict="partly", value=0.5, margin=[0.1, 0.9], rows=["a"])])
    assert [each["id"] for each in read_claims(path)] == ["C2", "C10"]
    lacking = {k: v for k, v in claim("C1").items() if k != "rows"}
    calls = {
        "'maybe'": lambda: write_claims(path, [claim("C1", verdict="maybe")]),
        "'verdict'": lambda: write_claims(path, [claim("C1", verdct="partly")]),
        "'rows'": lambda: write_claims(path, [lacking]),
        "0.id": lambda: write_claims(path, [claim(3)]),
        "0.value": lambda: write_claims(path, [claim("C1", value="much")]),
        "0.margin": lambda: write_claims(path, [claim("C1", margin=[1.0])]),
    }
    refused(RecordsError, calls)


def test_an_optional_column_stands_where_it_is_known(tmp_path):
    """Tables that are older than a column still read, and are written again as they were."""
    plain = {"model": "m", "method": "knapsack", "budget_bits": 4.0, "bank_seed": 0, "allocation_bank": 0}
    for extra in ({}, {"arithmetic": "fast"}):
        write_table(tmp_path / "banks.csv", [plain | {"search_seed": 0, **extra}])
        table = read_table(tmp_path / "banks.csv")
        assert ("arithmetic" in table) == bool(extra)
        before = (tmp_path / "banks.csv").read_bytes()
        write_table(tmp_path / "banks.csv", table)
        assert (tmp_path / "banks.csv").read_bytes() == before


def test_published_tables_are_written_again_to_the_byte(tmp_path):
    files = sorted((Path(__file__).resolve().parents[2] / "results" / "published").glob("*.csv"))
    assert len(files) > 10
    for file in files:
        write_table(tmp_path / file.name, read_table(file))
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
