"""The documentation: links and anchors, commands that parse, studies that plan, messages that the code says."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from ramp.__main__ import COMMANDS
from tests.plans import validate
from tests.tiny_models import random_llama

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([*(REPO / "docs").glob("*.md"), REPO / "README.md", REPO / "config" / "README.md"])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def relative(page: Path) -> str:
    return str(page.relative_to(REPO))


def fenced(page: Path, *languages: str) -> Iterator[str]:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's shell blocks as words, without comments and continued lines."""
    lines = [line for text in fenced(page, "sh", "bash") for line in text.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


# --- links ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_and_anchors_lead_somewhere() -> None:
    seen = 0
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
            if "://" in target:
                continue
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), f"{relative(page)} links to the missing {target}"
            if anchor:
                seen += 1
                assert anchor in anchors(file), f"{relative(page)} links to {target}#{anchor}, which has no heading"
    assert seen > 5


def test_the_index_leads_to_every_page() -> None:
    index = (REPO / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in (REPO / "docs").glob("*.md") if page.name != "index.md" and page.name not in index]
    assert not missing
    assert "docs/index.md" in (REPO / "README.md").read_text(encoding="utf-8")


# --- commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_of_this_suite_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the parser of the command itself: it is stopped as soon as it has read its arguments."""
    for words in commands(page):
        if words[1:2] != ["-m"] or words[2].split(".")[0] not in ("ramp", "paper", "benchmarks", "workflow"):
            continue
        known = {command.name: command for command in COMMANDS}
        name, rest = words[2], words[3:]
        if name == "benchmarks.whole_run":  # it runs the command that follows, and has no options
            assert rest[0] == "snakemake"
            continue
        if name == "ramp":
            if not rest:
                continue
            assert rest[0] in known, f"{relative(page)}: ramp has no command {rest[0]}"
            name, rest = known[rest[0]].module, rest[1:]
        parses(name, rest, monkeypatch, relative(page))


class Parsed(Exception):
    """The arguments were read."""


def parses(name: str, rest: list[str], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    import argparse

    plain = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, args: list[str] | None = None, namespace: object = None) -> None:
        plain(parser, args)
        raise Parsed

    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        module = importlib.import_module(f"{name}.__main__")
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        try:
            module.main(rest)
        except Parsed:
            return
        except SystemExit as ended:
            pytest.fail(f"{where}: python -m {name} {shlex.join(rest)} ends with {ended.code}")
    pytest.fail(f"{where}: python -m {name} reads no arguments")


@cache
def targets() -> set[str]:
    """Return the names of all rules."""
    rules = [REPO / "Snakefile", *(REPO / "workflow" / "rules").glob("*.smk")]
    return {name for file in rules for name in re.findall(r"^rule (\w+):", file.read_text(encoding="utf-8"), re.M)}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_snakemake_is_asked_for_rules_and_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    inline = [shlex.split(each) for each in re.findall(r"`(snakemake [^`]+)`", text)]
    for words in [*commands(page), *inline]:
        calls = [index for index, word in enumerate(words) if word.split("/")[-1] == "snakemake"]
        for index in calls:
            rest = words[index + 1 :]
            for flag, value in pairwise(rest):
                if flag in ("--configfile", "--workflow-profile") and not value.startswith(("my-", "FILE", "results")):
                    assert (REPO / value).exists(), f"{relative(page)}: no {value}"
            plain = asked(rest)
            assert plain <= targets(), f"{relative(page)}: no rule {plain - targets()}"


def asked(words: list[str]) -> set[str]:
    """Return the targets among the arguments of snakemake: what is no flag, no value of one, and no file."""
    found, many = set(), False
    it = iter(words)
    for word in it:
        if word in ("&&", "...", "…"):
            break
        if word in ("--config", "--configfile", "--resources"):
            many = True
        elif word.startswith("-"):
            many = False
            if word in ("--cores", "--workflow-profile", "--snakefile", "--directory", "--sdm", "--retries"):
                next(it, None)
        elif re.fullmatch(r"\w+", word) and not word.isupper():
            found.add(word)
        elif not many:
            assert "/" in word or "=" in word, word
    return found


# --- studies -------------------------------------------------------------------------------------------------

STUDIES = [yaml.safe_load(text) for text in fenced(REPO / "docs" / "own-model.md", "yaml")]


def test_the_page_on_own_studies_shows_four_of_twenty_lines() -> None:
    assert len(STUDIES) == 4
    assert all(len(text.splitlines()) <= 20 for text in fenced(REPO / "docs" / "own-model.md", "yaml"))


@pytest.mark.parametrize("values", STUDIES, ids=lambda values: values["study"])
def test_the_studies_of_the_page_plan(values: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ramp.study.load import make_plan
    from ramp.study.validation import is_path

    monkeypatch.chdir(tmp_path)
    if is_path(values["source"]):
        values = {**values, "source": str(random_llama(tmp_path / "my-model"))}
    for name in {path for path in values.get("texts", {}).values() if is_path(path)}:
        Path(name).write_text("A paragraph.\n\nAnother one.\n", encoding="utf-8")
    plan = make_plan(values, REPO, REPO / "config" / "assets.yaml")
    assert plan.rows
    assert validate(plan.study.model_dump(mode="json"), models=plan.registry.of_type("model")) == plan.study


# --- differences ---------------------------------------------------------------------------------------------


def existing_lines(diff: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each file that a diff changes with its context and removed lines; files that it adds are left out."""
    for part in re.split(r"^--- ", diff, flags=re.M)[1:]:
        head, *lines = part.splitlines()
        assert all(line[:1] in " +-" for line in lines), f"neither context nor change: {lines}"
        if not head.endswith("(new)"):
            yield head.split()[0], [line[1:].strip() for line in lines if line[:1] != "+"]


def stand_in(lines: list[str], text: str) -> str | None:
    """Return the first of ``lines`` that does not stand in ``text`` behind those before it; ``...`` is any text."""
    rest = iter(text.splitlines())
    for line in lines:
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        if not any(pattern.fullmatch(each.strip()) for each in rest):
            return line
    return None


def test_lines_are_sought_in_order_and_whole() -> None:
    text = "a = 1\n    b = [1, 2, 3]\nc = 4\n"
    assert stand_in(["a = 1", "b = [1, ...]"], text) is None
    assert stand_in(["b = [1, ...]", "a = 1"], text) == "a = 1"
    assert stand_in(["c = "], text) == "c = "


def test_diffs_of_the_page_on_adding_things_apply() -> None:
    seen = 0
    for diff in fenced(REPO / "docs" / "adding.md", "diff"):
        for name, lines in existing_lines(diff):
            seen += len(lines)
            gone = stand_in(lines, (REPO / name).read_text(encoding="utf-8"))
            assert gone is None, f"docs/adding.md: {name} does not hold, in this order: {gone}"
    assert seen > 10


# --- messages ------------------------------------------------------------------------------------------------


@cache
def texts_of_the_code() -> str:
    """Return every text that the code holds, adjacent literals joined, one a line."""
    files = [file for name in ("ramp", "paper", "workflow") for file in (REPO / name).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_messages_of_the_page_on_trouble_are_those_of_the_code() -> None:
    page = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## After a run")[0]
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 25
    for message in quoted:
        for part in (piece.strip("' ") for piece in message.split("…")):
            assert part in texts_of_the_code(), f"no message of the code holds: {part}"
