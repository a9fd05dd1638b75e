"""What the documents point to exists: a control that names a test that is gone has no proof."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path for folder in ("", "docs", "terraform", "crates/*", "bench") for path in (ROOT.glob(f"{folder}/*.md") if folder else ROOT.glob("*.md"))
)


def of(document, pattern):
    return sorted(set(re.findall(pattern, document.read_text())))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_it_names_exist(document):
    missing = [
        f"{file}::{name}"
        for file, name in of(document, r"`((?:tests|bench|crates|terraform)/[\w/-]+\.(?:py|rs|tftest\.hcl))::(\w+)`")
        if not (ROOT / file).exists() or not re.search(rf"\b(?:def|fn) {name}\(|^run \"{name}\" ", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_it_names_exist(document):
    paths = of(document, r"`((?:crates|terraform|tests|docs|scripts|bench)/[\w./-]+)`")
    linked = [link for link in of(document, r"\]\(([^)#]+)[^)]*\)") if "://" not in link]
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing += [link for link in linked if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_that_it_names_exist(document):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(of(document, r"`make ([a-z0-9-]+)")) <= targets


@pytest.mark.parametrize(("document", "identifier"), [("guarantees", r"[A-Z]\d+"), ("clinical-safety", r"\d+")])
def test_every_guarantee_and_every_hazard_has_an_identifier_of_its_own_and_a_test(document, identifier):
    lines = (ROOT / f"docs/{document}.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if re.match(rf"\| {identifier} \|", line)]
    ids = [row[1].strip() for row in rows]
    assert len(ids) > 15 and len(ids) == len(set(ids))
    # Each by its name; that they exist is checked above. A control in another document has its proof there.
    tests = {row[1].strip(): re.findall(r"`([^`]+)`", row[-2]) for row in rows if row[-3] != " see there "}
    assert [name for name, named in tests.items() if not named or not all("::" in one for one in named)] == []
