"""TLS and passwords: settings alone are enough for every command, and the password is seen nowhere."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from helpers import eventually
from ingest_helpers import environment, ingest, rows_of
from secure_broker import Certificates, broker_properties, certificates, client_properties

from engagement import settings as settings_module
from engagement.lake import open_lake
from engagement.settings import Settings
from engagement.stack import jars, processes
from engagement.stack.broker import Broker

USER = "engagement"
PASSWORD = f"pw-{secrets.token_hex(12)}"
WRONG = f"pw-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Secure:
    broker: Broker
    found: Certificates

    def settings(self, folder: Path, mechanism: str = "PLAIN", **over: str) -> Settings:
        """Settings of a new lake and of topics that no other test knows, from the environment alone."""
        kafka = client_properties(self.found, USER, PASSWORD, mechanism) | over
        environ = {f"ENGAGEMENT_KAFKA__{name.replace('.', '__')}": value for name, value in kafka.items()}
        environ |= {
            "ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "ENGAGEMENT_TOPIC_PREFIX": f"t{secrets.token_hex(4)}-",
            "ENGAGEMENT_TOPIC_PARTITIONS": "2",
            "ENGAGEMENT_LAKE_URL": "lake",
            "ENGAGEMENT_STATE_DIR": "state",
        }
        return settings_module.load(environ=environ, folder=folder)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    assert jars.main([]) == 0
    folder = tmp_path_factory.mktemp("secure")
    found = certificates(folder / "keys")
    client = client_properties(found, USER, PASSWORD)
    with Broker(folder / "kafka", 0, broker_properties(found, USER, PASSWORD), client) as running:
        admin = AdminClient({**client, "bootstrap.servers": running.bootstrap})
        scram = UserScramCredentialUpsertion(USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), PASSWORD.encode())
        admin.alter_user_scram_credentials([scram])[USER].result(30)
        yield Secure(running, found)


def start(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "engagement", *arguments]
    return subprocess.Popen(argv, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    child = start(settings, *arguments)
    output, errors = child.communicate(timeout=120)
    return child.returncode, output, errors


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_settings_alone_bring_records_to_the_tables_and_the_password_is_seen_nowhere(secure: Secure, tmp_path: Path) -> None:
    settings = secure.settings(tmp_path)
    said = []
    for command in (
        ("topics",),
        ("simulate", "--rate", "1000", "--max-events", "200"),
        ("ingest", "--until-idle"),
        ("refresh",),  # Dagster runs with their metadata, in the state folder
        ("settings",),
        ("status", "--json"),
    ):
        code, output, errors = run(settings, *command)
        assert code == 0, (command, errors)
        said.append(output + errors)
    status = json.loads(output)
    assert len(rows_of(settings)) == 200
    assert sum(partition["lake_end"] for partition in status["partitions"]) == 200
    assert sum(partition["lag"] for partition in status["partitions"]) == 0
    assert any((settings.state_dir / "dagster").rglob("*.db"))
    assert "ENGAGEMENT_KAFKA__sasl__password" in said[4], "settings names it, masked"
    assert not [text for text in said if PASSWORD in text]
    assert not files_with(tmp_path, PASSWORD)


def test_a_password_that_is_never_sent_works_too(secure: Secure, tmp_path: Path) -> None:
    settings = secure.settings(tmp_path, "SCRAM-SHA-256")
    for command in ("topics", "simulate --rate 1000 --max-events 50", "ingest --until-idle"):
        code, _, errors = run(settings, *command.split())
        assert code == 0, errors
        assert PASSWORD not in errors
    assert len(rows_of(settings)) == 50
    assert not files_with(tmp_path, PASSWORD)


def test_metrics_and_the_log_of_a_running_consumer_do_not_tell_the_password(secure: Secure, tmp_path: Path) -> None:
    settings = secure.settings(tmp_path)
    assert run(settings, "topics")[0] == 0
    (port,) = processes.free_ports("127.0.0.1", 1)
    child = ingest(settings, log=tmp_path / "ingest.log", ENGAGEMENT_METRICS_PORT=str(port))
    try:
        eventually(lambda: (tmp_path / "ingest.log").read_text().count("positioned") == 6, 60)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
    assert "engagement_heartbeat_seconds" in metrics
    assert PASSWORD not in metrics
    assert not files_with(tmp_path, PASSWORD)


@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_a_client_that_may_not_enter_says_why_in_one_line(secure: Secure, tmp_path: Path, wrong: str) -> None:
    over, cause = {
        "password": ({"sasl.password": WRONG}, "SASL authentication error: Authentication failed: Invalid username or password"),
        "authority": ({"ssl.ca.location": str(secure.found.other_ca)}, "certificate verify failed"),
    }[wrong]
    settings = secure.settings(tmp_path, **over)
    open_lake(settings)
    commands = ("topics", "status --json", "simulate --rate 10", "ingest")
    topics, status, *waiting = [start(settings, *command.split()) for command in commands]
    output, errors = topics.communicate(timeout=60)
    assert (topics.returncode, output, errors.count("\n")) == (1, "", 1)
    assert cause in errors
    problems, _ = status.communicate(timeout=60)
    assert status.returncode == 0
    assert cause in " ".join(json.loads(problems)["problems"])
    said = [errors, problems]
    for child in waiting:
        assert child.stderr is not None
        line = child.stderr.readline()
        assert cause in line
        assert child.poll() is None, "it keeps trying: somebody may mend the broker"
        child.send_signal(signal.SIGTERM)
        assert child.communicate(timeout=60)[1] == ""
        said.append(line)
    assert not [text for text in said if PASSWORD in text or WRONG in text]


def test_a_misspelt_property_is_named_and_its_value_is_not(secure: Secure, tmp_path: Path) -> None:
    good = secure.settings(tmp_path)
    settings = replace(good, kafka={**good.kafka, "sasl.pasword": WRONG})
    for command in ("topics", "ingest", "simulate"):
        code, output, errors = run(settings, command)
        assert (code, output) == (1, "")
        assert errors == 'engagement: ENGAGEMENT_KAFKA__ settings: No such configuration property: "sasl.pasword"\n'
