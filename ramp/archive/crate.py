"""RO-Crate 1.1 metadata of an archive: what it is, who made it, every file with its sha256 and size, as JSON-LD.

Source: https://w3id.org/ro/crate/1.1 (metadata descriptor, root data set, data entities, contextual entities).
``sha256`` is a term of schema.org that the context of 1.1 does not have yet; it is defined beside it. An ``@id`` is a
URI: names are percent-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ramp.core.errors import RampError
from ramp.core.yaml_file import read_yaml

METADATA = "ro-crate-metadata.json"
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
CONFORMS_TO = "https://w3id.org/ro/crate/1.1"
SPDX = "https://spdx.org/licenses/"

TYPES = {
    ".csv": "text/csv", ".json": "application/json", ".jsonl": "application/jsonl", ".md": "text/markdown",
    ".pdf": "application/pdf", ".png": "image/png", ".html": "text/html", ".py": "text/x-python", ".txt": "text/plain",
    ".yaml": "application/yaml", ".yml": "application/yaml", ".typ": "text/plain", ".tex": "text/x-tex",
    ".smk": "text/plain", ".bib": "text/x-bibtex", ".svg": "image/svg+xml", ".toml": "application/toml",
}  # fmt: skip
"""Media types by ending; the system's own table differs from machine to machine."""

Entity = dict[str, Any]


@dataclass(frozen=True)
class Described:
    """One file of an archive."""

    sha256: str
    size: int


@dataclass(frozen=True)
class About:
    """Metadata of an archive as a whole."""

    study: str
    date: str  # ISO 8601 day
    commit: str  # of the project's files; empty outside git
    row_commits: tuple[str, ...]  # commits that the rows were evaluated at
    machine: str  # that ran the study, in words; empty where it was not recorded
    citation: Mapping[str, Any]  # CITATION.cff

    @property
    def licence(self) -> str:
        """SPDX name of the licence."""
        return str(self.citation["license"])


def read_citation(path: Path) -> dict[str, Any]:
    """Read CITATION.cff; ``RampError`` where it lacks what the metadata needs."""
    found = read_yaml(path, "citation file")
    for name in ("title", "abstract", "version", "license", "authors"):
        if not isinstance(found, dict) or not found.get(name):
            raise RampError(f"{path} has no '{name}': the metadata of an archive needs it")
    return dict(found)


def author_entities(citation: Mapping[str, Any]) -> list[Entity]:
    """Return the authors: persons have family names, organisations a name alone."""
    found = []
    for number, author in enumerate(citation["authors"], start=1):
        entity = {"@id": author.get("orcid") or f"#author-{number}"}
        if "family-names" in author:
            given, family = author.get("given-names", ""), author["family-names"]
            entity |= {"@type": "Person", "name": f"{given} {family}".strip(), "familyName": family, "givenName": given}
        else:
            entity |= {"@type": "Organization", "name": author["name"]}
        found.append(entity)
    return found


def media_type(name: str) -> str:
    """Return the media type of a file by its ending."""
    return TYPES.get(Path(name).suffix.lower(), "application/octet-stream")


def metadata(files: Mapping[str, Described], about: About) -> Entity:
    """Return the whole document; ``files`` are all but the metadata file and the list of checksums."""
    authors = author_entities(about.citation)
    people = [{"@id": each["@id"]} for each in authors]
    licence = {"@id": f"{SPDX}{about.licence}"}
    workflow = next((name for name in files if name.endswith("/Snakefile") and name.count("/") == 1), None)
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Records of the study '{about.study}', with the software that made them",
        "description": (
            f"What the study '{about.study}' of {about.citation['title']} left behind: tables of measurements, metrics "
            "per window, manifests with digests, allocations and policies, tables, figures and paper, and the sources "
            "of the software. Weights of models and texts are not in it."
        ),
        "datePublished": about.date,
        "license": licence,
        "author": people,
        "hasPart": [{"@id": quote(name)} for name in sorted(files)],
        "mentions": {"@id": "#run"},
    }
    software: Entity = {
        "@id": "#suite",
        "@type": "SoftwareApplication",
        "name": about.citation["title"],
        "description": " ".join(str(about.citation["abstract"]).split()),
        "softwareVersion": str(about.citation["version"]),
        "version": about.commit or str(about.citation["version"]),
        "license": licence,
        "author": people,
    }
    run: Entity = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"The run of the study '{about.study}'",
        "instrument": {"@id": "#suite"},
        "result": {"@id": "./"},
        "description": _run_in_words(about),
    }
    if workflow:
        root["mainEntity"] = {"@id": quote(workflow)}
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": CONFORMS_TO},
    }
    name = {"@id": licence["@id"], "@type": "CreativeWork", "name": about.licence}
    parts = [_file(file, files[file], file == workflow) for file in sorted(files)]
    return {"@context": CONTEXT, "@graph": [descriptor, root, software, run, name, *authors, *parts]}


def _run_in_words(about: About) -> str:
    """Return machine and commits of the rows in one line."""
    commits = ", ".join(about.row_commits) or "not recorded"
    return f"Rows were evaluated at commit {commits}; machine: {about.machine or 'not recorded'}."


def _file(name: str, found: Described, workflow: bool) -> Entity:
    """Return the entity of one file."""
    types = ["File", "SoftwareSourceCode", "ComputationalWorkflow"] if workflow else "File"
    entity: Entity = {
        "@id": quote(name),
        "@type": types,
        "name": name,
        "contentSize": str(found.size),
        "encodingFormat": media_type(name),
        "sha256": found.sha256,
    }
    return entity | ({"programmingLanguage": "Snakemake"} if workflow else {})


def described(document: Any) -> dict[str, Described]:
    """Return the files that a metadata document describes; ``RampError`` where it is no RO-Crate with checksums."""
    try:
        graph = {entity["@id"]: entity for entity in document["@graph"]}
        parts = [part["@id"] for part in graph["./"]["hasPart"]]
        return {unquote(one): Described(str(graph[one]["sha256"]), int(graph[one]["contentSize"])) for one in parts}
    except (KeyError, TypeError, ValueError):
        raise RampError(f"{METADATA} describes no files with sha256 and size: get the archive again") from None
