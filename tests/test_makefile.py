"""Each target of the Makefile finds its files in a clone whose path has spaces."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARGETS = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
# Does nothing; what it was to run must be there.
STUB = """#!/usr/bin/env bash
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
    for tool in ("cargo", "terraform", "node", "npm", "python3", "python", "cc", "objdump", "curl"):
        (stubs / tool).write_text(STUB)
        (stubs / tool).chmod(0o755)
    for script, answer in (("scripts/venv", stubs / "python"), ("scripts/cargo-tool", stubs / "cargo")):
        (root / script).write_text(f'#!/usr/bin/env bash\n[[ $# == 0 || $1 != /* ]] && echo "{answer}"\n')
    for script in ("tests/terraform-validate.sh", "tests/asl/lint.sh"):
        (root / script).write_text("#!/usr/bin/env bash\n")
    return root, stubs


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["there", "from elsewhere"])
def test_a_target_works(clone, tmp_path, target, elsewhere):
    root, stubs = clone
    command = ["make", "-f", str(root / "Makefile"), target] if elsewhere else ["make", target]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "CARGO_TARGET_DIR"))}
    env |= {"PATH": f"{stubs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "a cache")}
    done = subprocess.run(command, cwd=tmp_path if elsewhere else root, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_clean_removes_this_clones_own(clone, tmp_path):
    root, stubs = clone
    (root / "dist").mkdir()
    kept = tmp_path / "a"
    kept.mkdir()
    env = os.environ | {"PATH": f"{stubs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "a cache")}
    subprocess.run(["make", "clean"], cwd=root, env=env, check=True, capture_output=True)
    assert not (root / "dist").exists()
    assert kept.exists()
