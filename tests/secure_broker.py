"""A broker that takes only TLS with a password, and the settings of a client that may use it.

Keys and certificates come from the `keytool` beside the Java that runs the broker.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engagement.stack import java

STORE_PASSWORD = "only-for-this-test"  # noqa: S105


@dataclass(frozen=True)
class Certificates:
    """A throw-away authority, a key for 127.0.0.1 that it signed, and an authority that signed nothing."""

    keystore: Path
    ca: Path
    other_ca: Path


def certificates(folder: Path) -> Certificates:
    folder.mkdir(parents=True, exist_ok=True)
    authority, other, node = (folder / f"{name}.p12" for name in ("authority", "other", "node"))
    for store in (authority, other):
        _key(store, "authority", "-ext", "bc:c")
        store.with_suffix(".pem").write_bytes(_keytool(store, "-exportcert", "-alias", "authority", "-rfc"))
    _key(node, "127.0.0.1")
    request, signed = folder / "node.csr", folder / "node.pem"
    _keytool(node, "-certreq", "-alias", "127.0.0.1", "-file", str(request))
    _keytool(authority, "-gencert", "-alias", "authority", "-infile", str(request), "-outfile", str(signed), "-ext", "san=ip:127.0.0.1")
    _keytool(node, "-importcert", "-noprompt", "-alias", "authority", "-file", str(authority.with_suffix(".pem")))
    _keytool(node, "-importcert", "-noprompt", "-alias", "127.0.0.1", "-file", str(signed))
    return Certificates(node, authority.with_suffix(".pem"), other.with_suffix(".pem"))


def broker_properties(found: Certificates, user: str, password: str) -> dict[str, Any]:
    """Put over a broker's own: clients come by TLS and name themselves, by PLAIN or by SCRAM."""
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    return {
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": found.keystore,
        "ssl.keystore.password": STORE_PASSWORD,
        "ssl.key.password": STORE_PASSWORD,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": found.ca,
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": f'{plain} username="{user}" password="{password}" user_{user}="{password}";',
        "listener.name.client.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    }


def client_properties(found: Certificates, user: str, password: str, mechanism: str = "PLAIN") -> dict[str, str]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
        "ssl.ca.location": str(found.ca),
    }


def _key(store: Path, alias: str, *extension: str) -> None:
    _keytool(store, "-genkeypair", "-alias", alias, "-dname", f"CN={alias}", "-keyalg", "EC", "-validity", "2", *extension)


def _keytool(store: Path, *arguments: str) -> bytes:
    keytool = java.executable().with_name("keytool")
    quick = ["-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1"]
    common = ["-keystore", str(store), "-storetype", "PKCS12", "-storepass", STORE_PASSWORD]
    return subprocess.run([keytool, *quick, *arguments, *common], check=True, capture_output=True).stdout
