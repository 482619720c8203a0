"""The page docs/late-event.md does what it says: every command of it is run, and every line compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def test_the_page_shows_what_its_commands_print(tmp_path):
    page = (ROOT / "docs/late-event.md").read_text()
    commands = [found for block in BLOCK.findall(page) for found in COMMAND.findall(block)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    environment |= {
        "ENGAGEMENT_STATE_DIR": str(tmp_path),
        "ENGAGEMENT_LAKE_URL": str(tmp_path / "lake"),
        "ENGAGEMENT_BACKGROUND_NICE": "0",
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
    }
    assert len(commands) >= 8
    for command, expected in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert (command, done.stdout) == (command, expected)
