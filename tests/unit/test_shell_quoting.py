"""No rule hands a shell a value that it could read as anything but one word."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shell_strings import commands, unquoted

REPO = Path(__file__).resolve().parents[2]
RULES = [REPO / "Snakefile", REPO / "workflow" / "Snakefile", *sorted((REPO / "workflow" / "rules").glob("*.smk"))]


def test_every_value_in_every_rule_is_quoted() -> None:
    found = [command for file in RULES for command in commands(file)]
    assert len(found) == sum(file.read_text().count(" shell:\n") for file in RULES) > 35
    faults = {f"{command.file}:{command.line}": unquoted(command.text) for command in found}
    assert not {place: values for place, values in faults.items() if values}


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ('x {input.a:q} --out "$(dirname {output.b:q})" --threads {threads} > {log:q} 2>&1', []),
        ("x {input.a}", ["input.a"]),
        ("x {params[0]} {wildcards.m:q}", ["params[0]"]),
        ("x '{input.a:q}'", ["input.a"]),
        ('x "{input.a:q}"', ["input.a"]),
        ("x \"$(y '{input.a:q}' {input.b:q})\" {input.c:q}", ["input.a"]),
        ("x {config[study]} {resources.gpu} {input.a!r}", ["config[study]", "resources.gpu", "input.a"]),
        ("x 'it''s' \\' {input.a:q}", []),
    ],
)
def test_the_check_finds_what_a_shell_would_split(command: str, values: list[str]) -> None:
    assert unquoted(command) == values


def test_a_command_that_is_put_together_is_refused(tmp_path: Path) -> None:
    for text in ('f"x {R}"', '"x " + R', "COMMAND"):
        (tmp_path / "a.smk").write_text(f"rule a:\n    shell:\n        {text}\n")
        with pytest.raises(ValueError, match="plain strings"):
            list(commands(tmp_path / "a.smk"))


def test_snakemakes_quotes_make_one_word() -> None:
    """Of blanks, quotes, substitutions and braces."""
    from snakemake.utils import format as filled

    value = "a b'c\"$(touch x)`y`{z}é*?"
    said = subprocess.run(
        ["bash", "-c", filled("printf '%s|' {value:q} \"$(dirname {value:q}/x)\"", value=value)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == f"{value}|{value}|"
