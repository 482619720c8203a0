"""Sends records whose header names are no text: the Python client refuses to, the C library below it does what others may do."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka

_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _HEADERS = 1, 3, 4, 5, 7, 10  # rd_kafka_vtype_t
_COPY = 2
_pointer = ctypes.c_void_p


class _Bytes(ctypes.Structure):
    _fields_ = (("data", _pointer), ("size", ctypes.c_size_t))


class _Any(ctypes.Union):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("number", ctypes.c_int32),
        ("bytes", _Bytes),
        ("headers", _pointer),
        ("room", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("value", _Any))


def _library() -> ctypes.CDLL:
    (path,) = Path(confluent_kafka.__file__).parent.parent.glob("confluent_kafka.libs/librdkafka*")
    library = ctypes.CDLL(str(path))
    for name, result, arguments in (
        ("rd_kafka_conf_new", _pointer, []),
        ("rd_kafka_conf_set", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_new", _pointer, [ctypes.c_int, _pointer, ctypes.c_char_p, ctypes.c_size_t]),
        ("rd_kafka_headers_new", _pointer, [ctypes.c_size_t]),
        ("rd_kafka_header_add", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.c_ssize_t, ctypes.c_char_p, ctypes.c_ssize_t]),
        ("rd_kafka_produceva", _pointer, [_pointer, _pointer, ctypes.c_size_t]),
        ("rd_kafka_flush", ctypes.c_int, [_pointer, ctypes.c_int]),
        ("rd_kafka_destroy", None, [_pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def send(bootstrap: str, topic: str, partition: int, records: list[tuple[bytes, bytes, list[tuple[bytes, bytes]]]]) -> None:
    """Send (key, value, headers) in order and wait for the broker's word."""
    library, error = _library(), ctypes.create_string_buffer(512)
    conf = library.rd_kafka_conf_new()
    assert library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, 512) == 0, error.value
    client = library.rd_kafka_new(0, conf, error, 512)
    for key, value, headers in records:
        held = library.rd_kafka_headers_new(len(headers))
        for name, data in headers:
            library.rd_kafka_header_add(held, name, len(name), data, len(data))
        arguments = (_Argument * 6)()
        for argument, kind in zip(arguments, (_TOPIC, _PARTITION, _KEY, _VALUE, _FLAGS, _HEADERS), strict=True):
            argument.kind = kind
        buffers = [ctypes.create_string_buffer(data, len(data)) for data in (key, value)]
        arguments[0].value.text = topic.encode()
        arguments[1].value.number = partition
        for place, buffer in zip((2, 3), buffers, strict=True):
            arguments[place].value.bytes = _Bytes(ctypes.cast(buffer, _pointer), len(buffer))
        arguments[4].value.number = _COPY
        arguments[5].value.headers = held
        assert not library.rd_kafka_produceva(client, arguments, len(arguments))
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)
