"""What a client says aside becomes one line, the same at every try; a property it refuses is named."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from helpers import eventually

from engagement import settings as settings_module
from engagement.connection import ClientRefused, Heard, client


class Said:
    """An error as the client library hands it to `error_cb`."""

    def __init__(self, name, text):
        self._name, self._text = name, text

    def name(self):
        return self._name

    def str(self):
        return self._text


class Polled:
    """A client whose poll serves what waits for its callback."""

    def __init__(self, heard, *waiting):
        self.heard, self.waiting = heard, list(waiting)

    def poll(self, seconds):
        assert seconds == 0
        while self.waiting:
            self.heard(self.waiting.pop(0))


REFUSED = "SASL authentication error: Authentication failed: Invalid username or password"


@pytest.mark.parametrize("millis", [301, 999])
@pytest.mark.parametrize("suffix", ["", ", 2 identical error(s) suppressed"])
@pytest.mark.parametrize("node", ["bootstrap", "1"])
def test_the_cause_is_the_same_text_at_every_try(millis, suffix, node):
    heard = Heard()
    text = f"sasl_ssl://127.0.0.1:9092/{node}: {REFUSED} (after {millis}ms in state AUTH_REQ{suffix})"
    assert heard.of(Polled(heard, Said("_AUTHENTICATION", text), Said("_ALL_BROKERS_DOWN", "1/1 brokers are down"))) == REFUSED


def test_a_broker_that_is_only_away_is_no_cause_and_an_old_cause_is_not_told_again():
    heard = Heard()
    away = Said("_TRANSPORT", "Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT)")
    assert heard.of(Polled(heard, Said("_SSL", "certificate verify failed"), away)) == "certificate verify failed"
    assert heard.of(Polled(heard, away)) is None


def test_a_certificate_refused_for_the_first_time_comes_as_a_lost_connection_and_is_a_cause():
    heard = Heard()
    text = "ssl://127.0.0.1:9092/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 7ms in state SSL_HANDSHAKE)"
    assert heard.of(Polled(heard, Said("_TRANSPORT", text))) == "error:0A000086:SSL routines::certificate verify failed"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("ENGAGEMENT_KAFKA__sasl__pasword", 'No such configuration property: "sasl.pasword"'),
        ("ENGAGEMENT_KAFKA__security__protocol", 'Invalid value "s3cr3t" for configuration property "security.protocol"'),
        ("ENGAGEMENT_KAFKA__ssl__ca__location", "ssl.ca.location failed"),
    ],
)
def test_a_property_that_the_client_refuses_is_named_in_one_line(tmp_path, key, said):
    secure = {"ENGAGEMENT_KAFKA__security__protocol": "SSL"}
    settings = settings_module.load(environ={**secure, key: "s3cr3t"}, folder=tmp_path)
    with pytest.raises(ClientRefused) as refused:
        client(AdminClient, settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_that_nobody_knows_is_heard_from_the_real_client(tmp_path):
    settings = settings_module.load(environ={}, folder=tmp_path, kafka_bootstrap_servers="nobody.invalid:9092")
    heard = Heard()
    made = client(AdminClient, settings, heard=heard)
    assert "Failed to resolve 'nobody.invalid:9092'" in eventually(lambda: heard.of(made))
