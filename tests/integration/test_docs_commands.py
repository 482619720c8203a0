"""Every command that README and docs show is run, in a small lake beside a real broker: none is wrong use, none breaks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pandas as pd
import pytest

from engagement import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = ("engagement", "dagster", "promtool", "amtool", "prometheus", "python")
"""Programs that are run. Others on the pages are the machine's or the reader's."""
OTHERS = {"make", "curl", "df", "date", "timedatectl", "ls", "cp", "export", "aws", "sudo", "git", "openssl", "cat", "systemctl", "set"}
LONG = (
    "engagement ingest", "engagement broker", "prometheus ", "prometheus-alertmanager", "python -m streamlit",
    "python -m engagement.stack.s3", "python -m engagement_assets.code_server", "dagster-daemon run", "dagster-webserver",
)  # fmt: skip
LONG_SECONDS = 5
MAY_SAY_NO = ("engagement check", "engagement anomalies accept", "dagster-daemon liveness-check", "engagement exporter --once", "grep")
"""Exit code 1 is an answer here: nothing is held, nothing runs, nothing was found."""
SHORTER = {
    "2026-11-30": "2026-11-01",
    "2026-11-07": "2026-11-01",
    "/backup": "BACKUP",
    "/tmp": "TMP",  # noqa: S108 - words of a page
}
"""What the pages say -> what a test can afford, or has."""
WITH = {
    "engagement restore": {"ENGAGEMENT_LAKE_URL": "other/{number}/lake", "ENGAGEMENT_STATE_DIR": "other/{number}/state"},
    "taps_per_session": {"ENGAGEMENT_MODEL": "docs/examples/model.toml"},
    "engagement ingest": {"ENGAGEMENT_METRICS_PORT": "0"},
}
"""Words of a command -> settings that its page has set by then."""
ASSIGNED = re.compile(r"[A-Za-z_]+=")
ELSEWHERE = "docs/late-event.md"
"""A page that a test of its own follows, step by step."""
NOT_HERE = {
    "ENGAGEMENT_CATALOG=glue engagement catalog refresh": "needs Glue: tests/integration/test_catalog_readers.py has one",
    "ENGAGEMENT_TOPIC_REPLICATION=3 ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=… engagement topics": "needs three brokers: test_cluster.py",
    "engagement broker --nodes 3 --data-dir /tmp/cluster": "the same",
}
"""Commands that another test has the world for."""


def commands():
    """Command -> a page that shows it."""
    found = {}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for command in of_page(page.read_text()) if name != ELSEWHERE else ():
            if command not in NOT_HERE:
                found.setdefault(command, name)
    return found


def of_page(text):
    """Commands of the blocks of a page: fenced as sh, or indented by four."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    blocks += ["\n".join(line[4:] for line in block.splitlines()) for block in re.findall(r"(?:^    .*\n?)+", rest, re.MULTILINE)]
    for block in blocks:
        for line in joined(block.splitlines()):
            words = [word for word in line.split() if not ASSIGNED.match(word)]
            program = words[0].removeprefix(".venv/bin/") if words else ""
            if program.split("-")[0] in OURS:
                # prose beside a command stands behind two blanks, or behind a #
                yield re.split(r"\s#\s|  +(?![^\"']*[\"'](?:\s|$))", line.replace(".venv/bin/", ""))[0].strip()


def joined(lines):
    """Lines whose quotes or backslash go on in the next, as one."""
    pending = ""
    for line in lines:
        pending = f"{pending} {line.strip()}".strip() if pending else line.strip()
        if pending.endswith("\\"):
            pending = pending[:-1]
        elif pending.count('"') % 2 == 0:
            yield pending
            pending = ""


COMMANDS = commands()


def test_the_pages_show_commands_and_no_program_is_overlooked():
    assert len(COMMANDS) > 50
    assert "engagement backfill --from 2026-11-01 --to 2026-11-07 --resume" in COMMANDS
    assert any(command.startswith("promtool") for command in COMMANDS)
    unknown = set()
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in joined(block.splitlines()):
                words = [word for word in line.split() if not ASSIGNED.match(word)]
                if words and not line.startswith("#"):
                    unknown.add(words[0].removeprefix(".venv/bin/"))
    assert {word for word in unknown if word.split("-")[0] not in OURS} <= OTHERS


@pytest.fixture(scope="module")
def world(broker, tmp_path_factory):
    """A folder to work in and the environment: a lake with some days of events, a Dagster home, the files that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ENGAGEMENT_", "AWS_", "DAGSTER_"))}
    environment = inherited | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "DAGSTER_HOME": str(folder / "state" / "dagster"),
        "ENGAGEMENT_LAKE_URL": str(folder / "lake"),
        "ENGAGEMENT_BACKGROUND_NICE": "0",
        "ENGAGEMENT_STATE_DIR": str(folder / "state"),
        "ENGAGEMENT_HISTORY_START": "2025-01-01",
        "ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
        "ENGAGEMENT_TOPIC_PREFIX": "docs-",
        "ENGAGEMENT_HASH_KEY": secrets.token_hex(16),
    }
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "engagement" / "dashboard", folder / "engagement" / "dashboard")
    for name, day in (("history", "2026-11-01"), ("samples", "2026-11-01"), ("build/events", "2026-11-24"), ("exports/one", "2026-11-24")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events(day)))
    rows = [{"event_id": event["event_id"], "user_id": event["user_id"], "event_type": event["event_type"], "timestamp": event["timestamp"]}
            for event in events("2025-06-01")]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "2025-06.csv.gz", index=False)
    pd.DataFrame(rows).rename(columns={"user_id": "uid", "event_type": "kind"}).to_parquet(folder / "users.parquet")
    (folder / "asked.txt").write_text("8f14e45f-ceea\n")
    for command in ("topics", "import history.jsonl exports/", "refresh", "monitoring monitoring-config", "backup BACKUP/engagement"):
        code, said = run(f"engagement {command}", folder, environment)
        assert code == 0, said
    return folder, environment


def events(day):
    """A few visits of two users at ten o'clock of a day."""
    for number in range(12):
        yield {
            "event_id": str(uuid.uuid4()),
            "user_id": f"u{number % 2}",
            "event_type": "screen_view",
            "timestamp": f"{day}T10:{4 * number:02}:00Z",
            "app_version": "1.0",
            "device_info": {"device_type": "iPhone"},
            "geo_location": {"country": "DE"},
            "properties": {"screen": "Home"},
        }


def run(command, folder, environment, *, seconds=None):
    """Its exit code and what it said; one that runs long is stopped with Ctrl-C."""
    limited = f"timeout --signal=INT --kill-after=30 {seconds} {command}" if seconds else command
    argv = ["bash", "-o", "pipefail", "-c", limited]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def called(command, folder, environment, monkeypatch):
    """The same without a process of its own."""
    said = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        patch.chdir(folder)
        for name in [name for name in os.environ if name.startswith(("ENGAGEMENT_", "AWS_", "DAGSTER_"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            code = cli.run(shlex.split(command)[1:])
        except SystemExit as left:
            code = left.code or 0
    return code, said.getvalue()


def test_each_does_what_its_page_says(world, monkeypatch):
    folder, environment = world
    broken = {}
    for number, shown in enumerate(sorted(COMMANDS)):
        command = shown
        for word, had in SHORTER.items():
            command = command.replace(word, had)
        more = next((found for words, found in WITH.items() if words in command), {})
        more = {name: value.format(number=number) for name, value in more.items()}
        long = command.startswith(LONG)
        plain = command.startswith("engagement ") and not long and not set("|>&;*") & set(command)
        if plain:  # in this process: most of a command's time is its imports
            code, said = called(command, folder, environment | more, monkeypatch)
        else:
            code, said = run(command, folder, environment | more, seconds=LONG_SECONDS if long else None)
        fine = {0, 124, 130} if long else {0, 1} if any(word in command for word in MAY_SAY_NO) else {0}
        if code not in fine or "Traceback" in said:
            broken[command] = f"{code}: {said[-1500:]}"
    assert not broken, "\n\n".join(f"{command}\n{said}" for command, said in broken.items())
