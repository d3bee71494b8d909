"""``python -m ramp``: every command is in its table, its parser exists, and the documents name commands that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ramp import __version__
from ramp.__main__ import COMMANDS, listing, main
from ramp.core import cli
from tests.unit.test_sources import LAYERS

REPO = Path(__file__).resolve().parents[2]


def command_lines(package: str) -> set[str]:
    """Modules of ``package`` that ``python -m`` runs: those that define ``main`` and end in a ``__main__`` guard."""
    found = set()
    for path in sorted((REPO / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^def main\(", text, re.M) and '__name__ == "__main__"' in text:
            found.add(".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__main__"))
    return found


@pytest.mark.parametrize("package", ["ramp", "paper"])
def test_every_module_with_a_command_line_is_in_the_table(package: str) -> None:
    listed = [command.module for command in COMMANDS if command.module.split(".")[0] == package]
    assert len(listed) == len(set(listed)) > 5
    assert command_lines(package) - {"ramp"} == set(listed)


@pytest.mark.parametrize("package", ["ramp", "paper"])
def test_outputs_are_looked_at_before_the_work(package: str) -> None:
    """Their options have the types that the command line knows."""
    lines = [line for file in sorted((REPO / package).rglob("*.py")) for line in file.read_text("utf-8").splitlines()]
    options = [line for line in lines if re.search(r'\("--(out|artifacts|state-dir)", ', line)]
    assert len(options) > 4
    assert [line for line in options if "type=Output" not in line and "type=kind" not in line] == []


def test_names_are_unique_and_listed_one_a_line() -> None:
    names = [command.name for command in COMMANDS]
    assert len(names) == len(set(names))
    lines = listing().splitlines()
    assert [line.split()[0] for line in lines[2:]] == names
    assert all(len(line) <= 120 for line in lines)


def test_the_listing_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, ramp.__main__ as m; m.main([]); print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_has_a_parser(name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ramp"])
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: ramp {name} [-h]" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert cli.run(main, ["serch"]) == 2
    assert "did you mean 'search'" in capsys.readouterr().err


REMEDY = r"(?:\brun|python -m) ((?:ramp|paper)(?:\.[a-z_]+)*)\b(?: ([a-z][a-z-]+))?"

DOCUMENTS = sorted(
    path for path in REPO.rglob("*.md") if path.relative_to(REPO).parts[0] not in (".venv", ".envs", "results")
)


def test_commands_in_the_documents_exist() -> None:
    names = {command.name for command in COMMANDS}
    seen = 0
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for module, argument in re.findall(r"python -m ([a-z_.]+)(?: ([a-z-]+))?", text):
            if module.split(".")[0] not in ("ramp", "paper", "benchmarks", "workflow"):
                continue
            seen += 1
            assert importlib.util.find_spec(module), f"{path.relative_to(REPO)} names the missing module {module}"
            if module == "ramp" and argument:
                assert argument in names, f"{path.relative_to(REPO)} names the missing command {argument}"
            if module in ("ramp", "paper", "benchmarks"):
                assert module == "ramp", f"{path.relative_to(REPO)}: python -m {module} runs nothing"
    assert seen > 10


def test_commands_in_messages_exist() -> None:
    """A remedy such as "run ramp.bank again" names a module that ``python -m`` runs, or a name of the table."""
    modules, names = {command.module for command in COMMANDS}, {command.name for command in COMMANDS}
    seen = 0
    folders = ("ramp", "paper", "baselines", "workflow")
    for path in sorted(path for folder in folders for path in REPO.glob(f"{folder}/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            for module, name in re.findall(REMEDY, node.value):
                seen += 1
                assert module in modules or (module == "ramp" and (not name or name in names)), f"{path}: {node.value}"
    assert seen > 20


def test_links_between_the_documents_lead_somewhere() -> None:
    seen = 0
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if target and "://" not in target:
                seen += 1
                assert (path.parent / target).exists(), f"{path.relative_to(REPO)} links to the missing {target}"
    assert seen > 10


def test_the_architecture_lists_the_packages_in_their_order() -> None:
    page = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", page, re.M) == list(LAYERS)


@pytest.mark.parametrize(("page", "words"), [("architecture.md", 1100), ("decisions.md", 4000)])
def test_pages_stay_short(page: str, words: int) -> None:
    assert len((REPO / "docs" / page).read_text(encoding="utf-8").split()) <= words


def test_citation_licence_and_catalogue_name_the_suite() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
    assert "Apache License" in (REPO / "LICENSE").read_text(encoding="utf-8")
    assert "2603.17891" in citation["references"][0]["url"]
    usage = yaml.safe_load((REPO / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    assert (REPO / "workflow" / "Snakefile").is_file()
