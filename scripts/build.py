#!/usr/bin/env python3
"""Builds each Lambda's binary and packs it into dist/<package>.zip, the same bytes for the same binary."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("poll", "fetch-chunk", "ack", "send")
# Of the runtime provided.al2023.
GLIBC = (2, 34)


def main():
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    (ROOT / "dist").mkdir(exist_ok=True)
    for package in PACKAGES:
        # One package at a time: a workspace build unifies features and would link S3 into poll.
        cargo = ["cargo", "build", "--release", "--locked", "--package", package]
        built = subprocess.run(cargo, cwd=ROOT)
        if built.returncode:
            sys.exit(built.returncode)
        binary = (target / "release" / package).read_bytes()
        needed = max(tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", binary))
        if needed > GLIBC:
            sys.exit(
                f"{package} needs glibc {needed[0]}.{needed[1]}, but provided.al2023 has {GLIBC[0]}.{GLIBC[1]}: "
                "build on an older Linux, or with cargo-zigbuild for x86_64-unknown-linux-gnu.2.34"
            )
        pack(binary, ROOT / "dist" / f"{package}.zip")


def pack(binary, file):
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o100755 << 16
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    unfinished = file.with_suffix(".new")
    with zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr(entry, binary)
    unfinished.replace(file)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB ({len(binary) / 1e6:.1f} MB unpacked)", flush=True)


if __name__ == "__main__":
    main()
