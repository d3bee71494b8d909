"""Which source files a stage runs: what its rule must depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ramp.sources import closure

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
    stage = [
        "__init__",
        "inside",
        "member",
        "package/__init__",
        "package/leaf",
        "package/sibling",
        "plain",
        "relative",
        "stage",
    ]
    assert closure(root, "ramp/stage.py") == [f"ramp/{name}.py" for name in stage]
    assert closure(root, "baselines/mine.py") == [
        "baselines/mine.py",
        "ramp/__init__.py",
        "ramp/plain.py",
        "ramp/relative.py",
    ]


def test_closure_of_a_missing_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ramp/gone\.py"):
        closure(tmp_path, "ramp/gone.py")


def test_the_searcher_of_ramp_stands_on_sac_and_that_of_the_knapsack_does_not() -> None:
    assert "ramp/sac.py" in closure(REPO, "ramp/search.py", "baselines/ramp.py")
    assert "ramp/sac.py" not in closure(REPO, "ramp/search.py", "baselines/knapsack.py")
    for stage in ("calibration", "folding", "bank", "sensitivity", "evaluation"):
        assert "ramp/sac.py" not in closure(REPO, f"ramp/{stage}.py")


def test_no_stage_stands_on_the_configuration() -> None:
    """Else a new key would rerun the world."""
    for stage in sorted((REPO / "ramp").glob("*.py")):
        if stage.stem not in ("config", "validation", "validation_league"):
            assert not {"ramp/config.py", "ramp/validation.py"} & set(closure(REPO, f"ramp/{stage.name}")), stage


def test_closure_is_what_python_really_imports() -> None:
    """Against the interpreter: every project module that is loaded by importing a stage is in its closure."""
    listed = "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'ramp'), sep='\\n')"
    code = f"import sys, ramp.search; {listed}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {str(Path(line).relative_to(REPO)) for line in done.stdout.split()}
    assert len(loaded) > 3
    assert loaded <= set(closure(REPO, "ramp/search.py"))
