"""Headers that the client library cannot hand out, among many that it can, in loops that the interpreter has specialised."""

from __future__ import annotations

import c_producer
from confluent_kafka import Consumer, TopicPartition

from engagement.ingest import headers

PLAIN = [(b"a", b"1")]


def test_names_that_are_no_text_cost_only_their_own_headers(kafka_settings):
    topic = next(iter(kafka_settings.topics))
    names = [PLAIN] * 100 + [[(b"\xff", b"v")], PLAIN, [(b"b", b"2"), (b"\xc3", b"v")], [(b"\xff", b"v")]] + [PLAIN] * 2
    c_producer.send(kafka_settings.kafka_bootstrap_servers, topic, 0, [(b"k", b"v", held) for held in names])
    consumer = Consumer(kafka_settings.kafka_config(**{"group.id": "test-headers"}))
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = []
    while len(messages) < len(names):
        messages += consumer.consume(len(names), 1.0)
    for _ in range(50):
        assert headers.of(messages[:100]) == [[("a", b"1")]] * 100
    good = [("a", b"1")]
    assert headers.of(messages[100:]) == [None, good, None, None, good, good]
    assert headers.of([]) == []
    consumer.close()
