"""Python packages of the peers, installed once beside the jars: they are not among the locked packages of the pipeline."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from engagement.stack.jars import cache_folder

HERE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder to put on PYTHONPATH; it appears whole or not at all. Raises Failed.

    `NAME.txt` beside this file pins versions and hashes; the version of the package in its name makes the folder's.
    """
    requirements = HERE / f"{name}.txt"
    pins = dict(line.removesuffix(" \\").split("==") for line in requirements.read_text().splitlines() if "==" in line)
    package = PACKAGES.get(name, name)
    target = cache_folder() / f"{package}-{pins[package]}"
    if not target.is_dir():
        print(f"bench: installing {target.name} into {target}…", file=sys.stderr)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as scratch:
            command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable, "--no-deps", "--require-hashes"]
            installed = subprocess.run([*command, "--target", f"{scratch}/done", "-r", str(requirements)], check=False)
            if installed.returncode:
                raise measure.Failed(f"{target.name} could not be installed")
            Path(scratch, "done").rename(target)
    return target


PACKAGES = {"spark": "pyspark"}
"""Peers whose package has another name."""
