"""Loading method files: what is refused, and how it is said."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ramp.methods.kinds import MethodError, Package, Quantizer
from ramp.methods.loader import discover, find_method, load_method, method_files, parse_params
from tests.refusals import refused

GOOD = """
from __future__ import annotations
from pydantic import Field
from ramp.methods.kinds import Params, Quantizer

class Mine(Params):
    damping: float = Field(default=0.1, gt=0)

METHOD = Quantizer(name="mine", title="Mine", source="here", fold="none", quantizer="rtn", params=Mine)
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_becomes_a_method(tmp_path: Path) -> None:
    method = load_method(write(tmp_path, "mine.py", GOOD))
    assert isinstance(method, Quantizer)
    assert parse_params(method, {"damping": 0.5}).model_dump() == {"damping": 0.5}
    assert method.skip() is None


def test_files_with_an_underscore_are_no_methods(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_template.py", "__init__.py", "notes.md"):
        write(tmp_path, name, "")
    assert [file.name for file in method_files(tmp_path)] == ["a.py", "b.py"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("other.py", GOOD, r"'mine', .* 'other'"),
        ("mine.py", "x = 1", "registers no METHOD"),
        ("mine.py", "METHOD = 3", "METHOD is a int"),
        ("mine.py", "import does_not_exist", "ModuleNotFoundError"),
        ("mine.py", "def (", "SyntaxError"),
        ("mine.py", GOOD.replace('"rtn"', '"rnt"'), "'rnt'"),
        ("mine.py", GOOD.replace("params=Mine", "params=dict"), "pydantic model"),
        ("mine.py", GOOD.replace('fold="none"', 'fold="../none"'), "'../none'"),
        ("mine.py", GOOD.replace("params=Mine", 'params=Mine, requirements=("a",)'), "'a' is not pinned"),
        ("Mine.py", GOOD.replace('name="mine"', 'name="Mine"'), "'Mine'"),
    ],
)
def test_faults_are_one_sentence(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(MethodError, match=said) as caught:
        load_method(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


PACKAGE = """
from ramp.methods.kinds import Package, Params

METHOD = Package(name="mine", title="Mine", source="here", quantize=print, params=Params, requirements=("a==1.0",))
"""


def test_a_package_is_a_method_without_a_fold(tmp_path: Path) -> None:
    method = load_method(write(tmp_path, "mine.py", PACKAGE))
    assert isinstance(method, Package)
    assert (method.fold, method.learned, method.env_name, method.skip()) == ("none", False, "mine", None)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('("a==1.0",)', "()", "needs requirements"),
        ('("a==1.0",)', '"a==1.0"', "a tuple"),
        ('("a==1.0",)', '("a>=1.0",)', "'a>=1.0'"),
        ('("a==1.0",)', '("a",)', "'a' is not pinned"),
        ('("a==1.0",)', '("a==1.0",), bits=(1,)', "from 2 to 8"),
        ('("a==1.0",)', '("a==1.0",), environment="A b"', "'A b'"),
        ('("a==1.0",)', '("a==1.0",), fold="awq"', "'awq' does not apply"),
        ('("a==1.0",)', '("a==1.0",), learned=True', "learned is for allocators"),
    ],
)
def test_a_faulty_package_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        load_method(write(tmp_path, "mine.py", PACKAGE.replace(old, new)))


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "knapsack.py", "")
    with pytest.raises(MethodError, match="'knapsack'"):
        load_method(tmp_path / "knapsak.py")


def test_parameters_tell_all_faults_at_once(tmp_path: Path) -> None:
    method = load_method(write(tmp_path, "mine.py", GOOD))
    with pytest.raises(MethodError, match=r"damping: 0 .*'dampnig' .*'damping'"):
        parse_params(method, {"damping": 0, "dampnig": 1})


VARIED = (
    GOOD
    + """
VARIANTS = {"mine_g32": {"title": "Mine, groups of 32", "group_size": 32}}
"""
)


def test_a_file_registers_variants_that_differ_in_the_named_fields(tmp_path: Path) -> None:
    file = write(tmp_path, "mine.py", VARIED)
    catalog = discover(tmp_path)
    changed = replace(catalog["mine"], name="mine_g32", title="Mine, groups of 32", group_size=32)
    assert catalog["mine_g32"] == changed
    assert load_method(f"{file}:mine_g32").group_size == 32
    assert load_method(file).group_size is None
    assert list(catalog) == ["mine", "mine_g32"]
    assert catalog.files["mine_g32"] == file
    assert [str(catalog.reference(name)) for name in catalog] == [str(file), f"{file}:mine_g32"]
    assert find_method(tmp_path, "mine_g32") == catalog.reference("mine_g32")
    with pytest.raises(MethodError, match=r"'mine_g23'.*'mine_g32'"):
        load_method(f"{file}:mine_g23")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[]", "VARIANTS"),
        ('{"mine_g32": {"groupsize": 32}}', "'groupsize'.*'group_size'"),
        ('{"mine_g32": {"name": "other"}}', "'name'"),
        ('{"Mine32": {}}', "'Mine32'"),
        ('{"mine_g32": {"quantizer": "rnt"}}', "'rnt'"),
    ],
)
def test_a_faulty_variant_is_refused(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        load_method(write(tmp_path, "mine.py", f"{GOOD}\nVARIANTS = {table}\n"))


def test_a_broken_file_is_kept_with_its_error_and_stops_nobody_else(tmp_path: Path) -> None:
    write(tmp_path, "broken.py", "raise SystemExit(3)")
    write(tmp_path, "mine.py", VARIED)
    write(tmp_path, "other.py", GOOD.replace('"mine"', '"other"') + '\nVARIANTS = {"mine_g32": {}}\n')
    catalog = discover(tmp_path)
    assert list(catalog.methods) == ["mine", "mine_g32"]
    assert list(catalog) == ["broken", "mine", "mine_g32", "other"]
    asked = {"SystemExit": "broken", "mine.py already": "other", "did you mean 'mine'": "mien"}
    refused(MethodError, {words: partial(catalog.__getitem__, name) for words, name in asked.items()})
