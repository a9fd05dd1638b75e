"""Each target of the Makefile finds its files in a clone whose path has spaces, and checks what it is there to check."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
# Does nothing but note its call; what it was to run must be there.
STUB = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$(dirname "$0")/calls"
if [[ ${1:-} == list ]]; then printf '%s\\n' one two; fi
for word in "$@"; do
  case $word in
    *.py | /*) [[ -e $word ]] || { echo "$(basename "$0"): no $word in $PWD" >&2; exit 1; } ;;
  esac
done
exit 0
"""


@pytest.fixture
def clone(tmp_path):
    """The repository's own files in a folder with spaces, and tools that do nothing."""
    root, stubs = tmp_path / "a  clone with spaces", tmp_path / "stubs"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / "bench/results").mkdir(parents=True, exist_ok=True)
    (root / "bench/results/latest.json").touch()
    stubs.mkdir()
    for tool in ("cargo", "terraform", "node", "npm", "python3", "python", "cc", "c++", "objdump", "curl", "cargo-deny", "cargo-fuzz"):
        (stubs / tool).write_text(STUB)
        (stubs / tool).chmod(0o755)
    for script, answer in (("scripts/venv", stubs / "python"), ("scripts/cargo-tool", stubs / "$1")):
        (root / script).write_text(f'#!/usr/bin/env bash\n[[ $# == 0 || $1 != /* ]] && echo "{answer}"\n')
    for script in ("tests/terraform-validate.sh", "tests/asl/lint.sh"):
        (root / script).write_text(f'#!/usr/bin/env bash\necho "{script}" >>"{stubs}/calls"\n')
    return root, stubs


def make(clone, tmp_path, *arguments, cwd=None):
    root, stubs = clone
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "CARGO_TARGET_DIR"))}
    env |= {"PATH": f"{stubs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "a cache")}
    done = subprocess.run(["make", *arguments], cwd=cwd or root, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["there", "from elsewhere"])
def test_a_target_works(clone, tmp_path, target, elsewhere):
    if elsewhere:
        make(clone, tmp_path, "-f", str(clone[0] / "Makefile"), target, cwd=tmp_path)
    else:
        make(clone, tmp_path, target)


# What the calls of each target begin with.
CHECKS = {
    "lint": [
        "cargo fmt --all --check",
        "cargo clippy --workspace --all-targets --locked -- -D warnings",
        "cargo-deny --locked check --deny warnings licenses bans sources",
        "terraform fmt -check -recursive -diff terraform",
        "tests/terraform-validate.sh",
        "python scripts/module_docs.py --check",
        "python scripts/costs.py --check",
        "python tests/checkov/run.py",
        "tests/asl/lint.sh",
    ],
    "test": ["cargo clippy ", "cargo test --workspace --locked", "python -m pytest -q -n 4 "],
    "nightly": [
        "python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m nightly ",
        *(f"cargo-fuzz run --fuzz-dir fuzz -s none {name} a cache/mesh-aws/fuzz/corpus/{name} -- -max_total_time=60 " for name in ("one", "two")),
    ],
}


@pytest.mark.parametrize("target", CHECKS)
def test_a_target_makes_each_check(clone, tmp_path, target):
    make(clone, tmp_path, target)
    root, stubs = clone
    calls = (stubs / "calls").read_text().replace(f"{root}/", "").replace(f"{tmp_path}/", "").splitlines()
    assert [check for check in CHECKS[target] if not any(call.startswith(check) for call in calls)] == []


def test_nightly_runs_every_file_that_has_a_test_for_it():
    (named,) = re.findall(r"^NIGHTLY = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    tests = ROOT / "tests"
    marked = {str(file.relative_to(tests)) for file in tests.rglob("test_*.py") if re.search(r"mark\.nightly", file.read_text())}
    assert sorted(named.split()) == sorted(marked)


def test_cargo_fuzz_lists_every_fuzz_target():
    manifest = tomllib.loads((ROOT / "fuzz/Cargo.toml").read_text())
    assert {binary["path"] for binary in manifest["bin"]} == {f"fuzz_targets/{file.name}" for file in (ROOT / "fuzz/fuzz_targets").iterdir()}


def test_clean_removes_this_clones_own(clone, tmp_path):
    root, _ = clone
    (root / "dist").mkdir()
    kept = tmp_path / "a"
    kept.mkdir()
    make(clone, tmp_path, "clean")
    assert not (root / "dist").exists()
    assert kept.exists()
