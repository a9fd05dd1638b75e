"""The zips as a release needs them: nothing newer than the runtime, nothing of the machine or the hour, no more logged than is asked for."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import build  # noqa: E402


def bootstrap(package):
    file = build.folder("x86_64") / f"{package}.zip"
    if not file.exists():
        pytest.fail(f"{file} is missing: run `make build`", pytrace=False)
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["bootstrap"]
        return archive.read("bootstrap")


def test_a_zip_is_built_for_each_that_the_module_deploys():
    deployed = re.findall(r'/([a-z-]+)\.zip"', (REPOSITORY / "terraform/functions.tf").read_text())
    assert sorted(deployed) == sorted(build.PACKAGES)


@pytest.mark.parametrize("package", build.PACKAGES)
def test_no_symbol_is_newer_than_the_runtime(package, tmp_path):
    file = tmp_path / "bootstrap"
    file.write_bytes(bootstrap(package))
    symbols = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found)) for found in re.findall(r"\(?GLIBC_(\d+)\.(\d+)", symbols)}
    # All take part in TLS, threads and files: an empty list would mean that nothing was read.
    assert len(versions) > 3
    assert max(versions) <= (2, 34)


@pytest.mark.parametrize("package", build.PACKAGES)
def test_a_binary_holds_no_path_of_the_machine_that_built_it(package):
    binary = bootstrap(package)
    # A panic names its source file: proof that paths are there, renamed.
    assert re.search(rb"/registry/tokio-\d", binary)
    for path in (REPOSITORY, Path.home(), os.environ.get("CARGO_TARGET_DIR", "target/release")):
        assert f"{path}/".encode() not in binary


@pytest.mark.parametrize("package", build.PACKAGES)
def test_a_function_logs_from_the_level_on_that_its_environment_names(package, tmp_path):
    file = tmp_path / "bootstrap"
    file.write_bytes(bootstrap(package))
    file.chmod(0o755)

    # Without Lambda's own variables it panics at once, which is an error.
    def logged(level):
        return subprocess.run([file], env={"LOG_LEVEL": level}, capture_output=True, text=True).stdout

    assert '"logReference":"LAMBDA9999"' in logged("ERROR")
    assert logged("OFF") == ""


def test_a_binary_that_needs_a_newer_glibc_is_refused():
    build.check_glibc("poll", b"GLIBC_2.2.5\0GLIBC_2.34\0")
    with pytest.raises(SystemExit, match=r"poll needs glibc 2\.35, but provided\.al2023 has 2\.34: build"):
        build.check_glibc("poll", b"GLIBC_2.34\0GLIBC_2.35\0GLIBC_2.9\0")


def test_a_zip_depends_on_nothing_but_the_binary(tmp_path, monkeypatch):
    build.pack(b"binary", tmp_path / "first.zip")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    before = os.umask(0o077)
    try:
        build.pack(b"binary", tmp_path / "second.zip")
    finally:
        os.umask(before)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    entry = zipfile.ZipFile(tmp_path / "first.zip").getinfo("bootstrap")
    # Lambda starts nothing that can't be executed.
    assert entry.external_attr >> 16 == 0o100755
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_a_build_for_another_architecture_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "output", lambda *command: f"{tmp_path}\n{tmp_path}/not-installed")
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", raising=False)
    with pytest.raises(SystemExit) as refused:
        build.environment(build.TARGETS["arm64"])
    assert "rustup target add aarch64-unknown-linux-gnu" in str(refused.value)
    assert "apt-get install gcc-aarch64-linux-gnu" in str(refused.value)


def test_an_unknown_architecture_is_refused(monkeypatch):
    monkeypatch.setenv("ARCH", "riscv64")
    with pytest.raises(SystemExit, match="ARCH=riscv64 is not an architecture of Lambda: use x86_64 or arm64"):
        build.architectures()
