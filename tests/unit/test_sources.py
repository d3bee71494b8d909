"""Source files that a stage runs: what its rule must depend on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from ramp.core import source_closure
from ramp.core.source_closure import _files_of, closure, imported, modules_of
from ramp.study.known_imports import KnownImports

REPO = Path(__file__).resolve().parents[2]


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_closure_follows_every_kind_of_import(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "ramp/__init__.py": "",
            "ramp/stage.py": "import ramp.plain\nfrom ramp import member\ndef f():\n    from ramp.inside import g\n",
            "ramp/plain.py": "from .relative import x\n",
            "ramp/relative.py": "",
            "ramp/member.py": "from ramp.package.leaf import y\n",
            "ramp/inside.py": "import ramp.stage\n",  # a circle ends
            "ramp/package/__init__.py": "from . import sibling\n",
            "ramp/package/leaf.py": "",
            "ramp/package/sibling.py": "",
            "ramp/hints.py": "",
            "ramp/unused.py": "",
            "baselines/mine.py": "if TYPE_CHECKING:\n    import ramp.hints\nimport ramp.plain\n",
        },
    )
    stage = "__init__ inside member package/__init__ package/leaf package/sibling plain relative stage".split()
    assert closure(root, "ramp/stage.py") == [f"ramp/{name}.py" for name in stage]
    plain = ["baselines/mine.py", "ramp/__init__.py", "ramp/plain.py", "ramp/relative.py"]
    assert closure(root, "baselines/mine.py") == plain


def test_closure_of_a_missing_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ramp/gone\.py"):
        closure(tmp_path, "ramp/gone.py")


def test_imports_are_read_once_and_again_where_a_file_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kept imports give the closures that reading every file gives, and are never older than a file."""
    files = {"ramp/stage.py": "import ramp.one\nfrom . import two\n", "ramp/one.py": "", "ramp/two.py": ""}
    texts = {**files, "ramp/three.py": ""}
    kept, read = tmp_path / "kept.json", []
    monkeypatch.setattr(source_closure, "modules_of", lambda *what: read.append(what[1]) or modules_of(*what))

    def found() -> list[str]:
        known = KnownImports(kept)
        root = tree(tmp_path / "project", texts)
        imported.cache_clear()
        _files_of.cache_clear()
        made = closure(root, "ramp/stage.py", modules=known.modules)
        known.keep()
        assert made == closure(root, "ramp/stage.py")
        return made

    assert found() == sorted(files)
    assert sorted(read) == sorted(files)
    read.clear()
    assert found() == sorted(files)
    assert read == []
    texts["ramp/one.py"] = "import ramp.three\n"
    assert found() == sorted(texts)
    assert sorted(read) == ["ramp/one.py", "ramp/three.py"]
    for damage in ("", "{", kept.read_text().replace("ramp.three", "ramp.thref")):
        kept.write_text(damage)
        assert found() == sorted(texts)


STAGES = sorted(path for path in (REPO / "ramp").rglob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
"""Every module with a command line."""


def stage_closure(*files: str) -> set[str]:
    return set(closure(REPO, *files))


def below(files: set[str], *packages: str) -> set[str]:
    return {file for file in files if file.split("/")[1] in packages and not file.endswith("__init__.py")}


def test_the_searcher_of_ramp_stands_on_sac_and_that_of_the_knapsack_does_not() -> None:
    assert "ramp/rl/sac_discrete.py" in stage_closure("ramp/search/__main__.py", "baselines/ramp.py")
    assert "ramp/rl/sac_discrete.py" not in stage_closure("ramp/search/__main__.py", "baselines/knapsack.py")
    for stage in ("calibration/__main__", "calibration/fold_search", "bank/__main__", "sensitivity/__main__"):
        assert "ramp/rl/sac_discrete.py" not in stage_closure(f"ramp/{stage}.py")


def test_no_stage_stands_on_the_configuration() -> None:
    """Else a new key would rerun the world."""
    assert len(STAGES) > 25
    for stage in STAGES:
        if stage.parent.name not in ("study", "plan"):  # commands of a person, which no rule runs
            assert not below(stage_closure(str(stage.relative_to(REPO))), "study"), stage


def test_a_new_kind_of_asset_reruns_no_calibration_bank_or_search() -> None:
    for stage in ("calibration/__main__", "calibration/fold_search", "bank/__main__", "sensitivity/__main__",
                  "search/__main__", "rows/quantize", "evaluation/__main__", "evaluation/lm_eval_tasks", "export/halo",
                  "league/__main__", "optimum/__main__"):  # fmt: skip
        assert not below(stage_closure(f"ramp/{stage}.py"), "assets"), stage


def test_fetching_importing_and_task_rows_stand_on_nothing_of_each_other() -> None:
    """Else an edit to the import of GGUF files would fetch every text again and rerun all below it."""
    fetch, imported_model, tasks, texts = (
        stage_closure(f"ramp/assets/{stage}.py") for stage in ("fetch", "import_model", "task_rows", "text_roles")
    )
    own = {f"ramp/assets/{name}.py" for name in ("fetch", "fetch_hub", "fetch_wheel", "checksum_lock", "import_model")}
    assert fetch & own == own - {"ramp/assets/import_model.py"}
    assert imported_model & own == {"ramp/assets/import_model.py"}
    assert not (tasks | texts) & own
    assert below(imported_model, "gguf_format")
    for files in (fetch, tasks, texts):
        assert not below(files, "gguf_format", "quantizers", "calibration", "scoring")
    for files in (fetch, tasks):
        assert not below(files, "models")


def test_a_new_column_of_the_records_reruns_no_model_work() -> None:
    for stage in STAGES:
        if stage.parent.name not in ("records", "study", "plan", "archive"):
            assert not below(stage_closure(str(stage.relative_to(REPO))), "records"), stage


def test_an_edit_to_the_stage_of_the_search_reruns_neither_league_nor_optimum() -> None:
    for stage in ("league/__main__", "optimum/run", "optimum/__main__"):
        files = stage_closure(f"ramp/{stage}.py")
        assert not {"ramp/search/__main__.py", "ramp/search/results.py"} & files, stage


def test_no_module_imports_a_stage() -> None:
    """A stage is a command line; what others need of it lies in a module of its own."""
    stages = {str(path.relative_to(REPO)) for path in STAGES}
    for path in sorted((REPO / "ramp").rglob("*.py")):
        file = str(path.relative_to(REPO))
        assert not stages & set(imported(REPO, file)), file


LAYERS = (
    "core models quantizers gguf_format assets scoring calibration tuning bank problem sensitivity methods allocators "
    "study rl agent rows packages evaluation export search sized_gguf league optimum records plan archive"
).split()
"""The packages of ramp/ from the ground up: an import points to the left."""


def test_imports_point_down_the_layers() -> None:
    packages = {path.name for path in (REPO / "ramp").iterdir() if (path / "__init__.py").is_file()}
    assert packages == set(LAYERS)
    for path in sorted((REPO / "ramp").rglob("*.py")):
        file = str(path.relative_to(REPO))
        own = path.relative_to(REPO / "ramp").parts[0]
        if own not in LAYERS:
            continue
        for other in below(set(imported(REPO, file)), *LAYERS):
            assert LAYERS.index(other.split("/")[1]) <= LAYERS.index(own), f"{file} imports {other}"


def test_every_init_holds_a_docstring_and_nothing_else() -> None:
    """A closure follows the ``__init__`` of every package on the way: an import there would fire everywhere."""
    found = sorted((REPO / "ramp").rglob("__init__.py"))
    assert len(found) > 20
    for path in found:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        extra = [node for node in body[1:] if path.parent.name != "ramp" or "__version__" not in ast.unparse(node)]
        assert not extra, path
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_closure_is_what_python_really_imports() -> None:
    """Against the interpreter: every project module that is loaded by importing a stage is in its closure."""
    listed = "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'ramp'), sep='\\n')"
    code = f"import sys, ramp.search.run; {listed}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {str(Path(line).relative_to(REPO)) for line in done.stdout.split()}
    assert len(loaded) > 3
    assert loaded <= set(closure(REPO, "ramp/search/__main__.py"))
