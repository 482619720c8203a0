"""Records of every kind that a log can hold, around one instant, each with what must become of it.

Unit tests (a fixed clock) and the real broker (its own clock) share them: a record received within minutes of `moment`
meets exactly the outcome written here. Here stand framing, encodings, depths, numbers, texts and sizes; what is wrong or
odd with an event's own fields stands in `event_cases.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from any_record import Case, Headers, changed, shortest, with_raw
from event_cases import duplicates, fields, identities, times, unknown

HUGE = 10_000_000
DEEPEST = 500
_IN_EXTRA = b'{"_extra":{"device_info":{"x":%s}}}'


def cases(moment: datetime) -> list[Case]:
    """All of them; `moment` is aware, UTC and a whole second."""
    parts = (_coordinates, _framing, _encodings, _depths, _numbers, _texts, times, identities, fields, duplicates, unknown, _sizes)
    return [case for part in parts for case in part(moment)]


def _coordinates(moment: datetime) -> Iterator[Case]:
    good = json.dumps(shortest(moment)).encode()
    for value, name in ((good, "good"), (b"{", "bad"), (None, "tombstone")):
        expected: str | dict[str, Any] = {"good": {}, "bad": "bad_json", "tombstone": "empty"}[name]
        yield Case(f"{name}, no key", value, expected, None)
        yield Case(f"{name}, empty key", value, expected, b"")
        yield Case(f"{name}, key of no text", value, expected, b"\xff\x00\xfe")
        yield Case(f"{name}, key of 100 kB", value, expected, b"k" * 100_000)
        headers: dict[str, Headers] = {
            "one header": (("trace", b"1"),),
            "one name three times": (("a", b"1"), ("b", b"2"), ("a", b"1"), ("a", b"3")),
            "headers null and empty": (("null", None), ("empty", b""), ("", b"no name"), ("", None)),
            "headers of no text": (("bytes", bytes(range(256))), ("\N{SNOWMAN}\U0001f600", b"\xff")),
            "a thousand headers": tuple((f"h{number}", b"%d" % number) for number in range(1000)),
            "a header of 900 kB": (("long", b"\x00" * 900_000),),
            "a header name of 30 kB": (("n" * 30_000, b"v"),),
        }
        for kind, found in headers.items():
            yield Case(f"{name}, {kind}", value, expected, headers=found)


def _framing(moment: datetime) -> Iterator[Case]:
    good = json.dumps(shortest(moment)).encode()
    yield Case("null value", None, "empty")
    yield Case("no bytes", b"", "empty")
    yield Case("blanks before and after", b" \t\r\n" + good + b"\n\r\t ", {})
    yield Case("line breaks between all members", json.dumps(shortest(moment), indent=1).encode(), {})
    yield Case("line breaks of the other systems", json.dumps(shortest(moment), indent=1).replace("\n", "\r").encode(), {})
    for name, value in {
        "blanks alone": b" \t\r\n",
        "one line break": b"\n",
        "one NUL": b"\x00",
        "form feed in front": b"\x0c" + good,
        "no-break space in front": "\u00a0".encode() + good,
        "byte order mark in front": b"\xef\xbb\xbf" + good,
        "NUL behind": good + b"\x00",
        "a bracket behind": good + b"}",
        "a comma behind": good + b",",
        "text behind": good + b" x",
        "two documents": good + good,
        "two documents, a line break between": good + b"\n" + good,
        "a document and half of another": good + b"\n" + good[:20],
        "half of a document": good[:-1],
        "the other half": good[20:],
        "a line break in the middle of a text": good.replace(b"tap", b"t\nap"),
        "a comma before the end": good[:-1] + b",}",
        "a comma at the begin": b"{," + good[1:],
        "no colon": good.replace(b'"user_id":', b'"user_id"'),
        "a comment": good[:-1] + b"/* */}",
        "single quotes": good.replace(b'"', b"'"),
        "names without quotes": b"{user_id: 1}",
        "an event in a list": b"[" + good + b"]",
        "an event in a text": json.dumps(good.decode()).encode(),
        "an empty list": b"[]",
        "a text": b'"x"',
        "an empty text": b'""',
        "a number": b"1",
        "null": b"null",
        "true": b"true",
        "half of true": b"tru",
        "a length in front, as schema registries put it": b"\x00\x00\x00\x00\x01" + good,
        "gzip": bytes.fromhex("1f8b0800") + good,
    }.items():
        yield Case(name, value, "bad_encoding" if name == "gzip" else "bad_json")
    yield Case("an empty object", b"{}", "missing:event_id")


def _encodings(moment: datetime) -> Iterator[Case]:
    good = json.dumps(shortest(moment))
    yield Case("UTF-16", good.encode("utf-16"), "bad_encoding")
    yield Case("UTF-16 without mark", good.encode("utf-16-le"), "bad_json")
    yield Case("UTF-32", good.encode("utf-32"), "bad_encoding")
    places = {
        "a mandatory text": b'"user_id":"u%s"', "an optional text": b'"app_version":"%s"', "a nested text": b'"device_info":{"model":"%s"}',
        "properties": b'"properties":{"a":{"b":["%s"]}}', "a name in properties": b'"properties":{"%s":1}',
        "an unknown field": b'"new":"%s"', "an unknown name": b'"%s":1', "an unknown nested name": b'"geo_location":{"%s":1}',
        "properties beside an unknown field": b'"new":1,"properties":{"a":"%s"}',
        "properties that a later duplicate replaces": b'"properties":{"a":"%s"},"properties":{}',
        "properties that a later null replaces": b'"properties":"%s","properties":null',
        "an unknown field that a later duplicate replaces": b'"new":"%s","new":1',
    }  # fmt: skip
    wrong = {
        "Latin-1": b"K\xf6ln", "a lone byte of a sequence": b"\x80", "half a sequence": b"\xe2\x82", "a surrogate": b"\xed\xa0\x80",
        "an overlong NUL": b"\xc0\x80", "beyond Unicode": b"\xf4\x90\x80\x80", "0xff": b"\xff",
    }  # fmt: skip
    for place, member in places.items():
        for name, data in wrong.items():
            yield Case(f"{name} in {place}", with_raw(moment, member % data), "bad_encoding")
        for text in (b"\\ud800", b"\\udc00\\ud800", b"\\ud800x", b"\\ud800\\u0041"):
            yield Case(f"{text.decode()} in {place}", with_raw(moment, member % text), "bad_json")
        yield Case(f"a raw NUL in {place}", with_raw(moment, member % b"\x00"), "bad_json")
        yield Case(f"a raw tabulator in {place}", with_raw(moment, member % b"\t"), "bad_json")
    yield Case("no UTF-8 between members", with_raw(moment, b"\xff"), "bad_encoding")
    yield Case("no UTF-8 behind", with_raw(moment) + b"\xff", "bad_encoding")


def _depths(moment: datetime) -> Iterator[Case]:
    for levels in (100, 1000, 10_000, 100_000):
        for kind, deep in {"lists": b"[" * levels + b"]" * levels, "objects": b'{"a":' * levels + b"1" + b"}" * levels}.items():
            title, flat = f"{levels} levels of {kind}", levels == 100
            yield Case(f"{title} at top", deep, "missing:event_id" if flat and kind == "objects" else "bad_json")
            properties = b'{"x":%s}' % deep
            kept = {"properties": properties} if flat else "bad_json"
            yield Case(f"{title} in properties", with_raw(moment, b'"properties":' + properties), kept)
            extra = {"properties": b'{"_extra":{"new":%s}}' % deep} if flat else "bad_json"
            yield Case(f"{title} in an unknown field", with_raw(moment, b'"new":' + deep), extra)
            yield Case(f"{title} as user_id", with_raw(moment, b'"user_id":' + deep), "bad_type:user_id" if flat else "bad_json")
        yield Case(f"{levels} brackets never closed", with_raw(moment, b'"properties":{"x":' + b"[" * levels), "bad_json")
        yield Case(
            f"{levels} brackets within a text",
            with_raw(moment, b'"app_version":"' + b"[{" * levels + b'"'),
            {"app_version": "[{" * levels},
        )
        yield Case(
            f"{levels} backslashes in a text",
            with_raw(moment, b'"app_version":"' + b"\\\\" * levels + b'"'),
            {"app_version": "\\" * levels},
        )

    for levels, name in ((DEEPEST, "exactly as deep as allowed"), (DEEPEST + 1, "one level too deep")):
        deep = b"[" * (levels - 2) + b"]" * (levels - 2)
        within = {"properties": (b'"properties":{"x":%s}', b'{"x":%s}'), "an unknown nested field": (b'"device_info":{"x":%s}', _IN_EXTRA)}
        for place, (member, kept) in within.items():
            expected: str | dict[str, Any] = {"properties": kept % deep} if levels == DEEPEST else "bad_json"
            yield Case(f"{name} in {place}", with_raw(moment, member % deep), expected)
    side_by_side = b"[" + b"[]," * 10_000 + b"{}]"
    yield Case(
        "10,000 brackets side by side",
        with_raw(moment, b'"properties":{"x":%s}' % side_by_side),
        {"properties": b'{"x":%s}' % side_by_side},
    )
    yield Case("a text of escaped quotes that never ends, then brackets", b'{"a":"' + b'\\"' * 200_000 + b"[" * 1000, "bad_json")


def _numbers(moment: datetime) -> Iterator[Case]:
    fine = (b"-0", b"-0.0", b"0e0", b"1e400", b"-1e400", b"1e-400", b"1E+5", b"9" * 10_000, b"-" + b"9" * 10_000, b"0." + b"1" * 10_000,
            b"1e5000000", b"18446744073709551616", b"9223372036854775808", b"1.7976931348623157e309", b"5e-325")  # fmt: skip
    wrong = (b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"01", b"-", b"+1", b".5", b"1.", b"1e", b"0x10", b"1_000", b"--1", b"1,5",
             "\u0661".encode(), b"True", b"None", b"undefined")  # fmt: skip
    for number in fine:
        shown = number.decode() if len(number) < 30 else f"{number[:4].decode()}… ({len(number)} bytes)"
        yield Case(f"{shown} in properties", with_raw(moment, b'"properties":{"n":%s}' % number), {"properties": b'{"n":%s}' % number})
        yield Case(f"{shown} unknown", with_raw(moment, b'"n":[%s]' % number), {"properties": b'{"_extra":{"n":[%s]}}' % number})
        for name in ("user_id", "timestamp", "app_version"):
            yield Case(f"{shown} as {name}", with_raw(moment, b'"%s":%s' % (name.encode(), number)), f"bad_type:{name}")
    for number in wrong:
        for place, member in {
            "in properties": b'"properties":{"n":%s}', "unknown": b'"n":%s', "as user_id": b'"user_id":%s',
            "as app_version": b'"app_version":%s',
        }.items():  # fmt: skip
            yield Case(f"{number.decode()} {place}", with_raw(moment, member % number), "bad_json")


def _texts(moment: datetime) -> Iterator[Case]:
    texts = {
        "an escaped NUL": ("\\u0000", "\0"), "escaped control characters": ("\\u0001\\b\\f\\n\\r\\t\\u001f", "\x01\b\f\n\r\t\x1f"),
        "DEL": ("\x7f", "\x7f"), "C1 control characters": ("\x80\x9f", "\x80\x9f"), "line separators": ("\u2028\u2029", "\u2028\u2029"),
        "a byte order mark inside": ("\ufeff", "\ufeff"), "no characters": ("\uffff\ufffe", "\uffff\ufffe"),
        "a surrogate pair": ("\\ud83d\\ude00", "\U0001f600"), "an emoji": ("\U0001f600", "\U0001f600"),
        "escapes that need none": ("\\/\\u0041", "/A"), "quotes and backslashes": ('\\"\\\\', '"\\'),
        "right to left": ("\u202eabc", "\u202eabc"),
        "combining marks": ("e" + "\u0301" * 100, "e" + "\u0301" * 100), "a blank": (" ", " "), "the word null": ("null", "null"),
    }  # fmt: skip
    for name, (sent, text) in texts.items():
        data = sent.encode()
        yield Case(f"{name} in user_id", with_raw(moment, b'"user_id":"%s"' % data), {"user_id": text})
        yield Case(f"{name} in app_version", with_raw(moment, b'"app_version":"%s"' % data), {"app_version": text})
        yield Case(f"{name} in device_info.model", with_raw(moment, b'"device_info":{"model":"%s"}' % data), {"device_model": text})
        yield Case(
            f"{name} in properties", with_raw(moment, b'"properties":{"screen":"%s"}' % data), {"properties": b'{"screen":"%s"}' % data}
        )
        yield Case(f"{name} as a name", with_raw(moment, b'"properties":{"%s":1}' % data), {"properties": b'{"%s":1}' % data})
        yield Case(f"{name} unknown", with_raw(moment, b'"new":"%s"' % data), {"properties": b'{"_extra":{"new":"%s"}}' % data})
        for field in ("event_id", "event_type", "timestamp"):
            if (field, text) != ("event_type", "null"):  # snake_case like any other
                yield Case(f"{name} in {field}", with_raw(moment, b'"%s":"%s"' % (field.encode(), data)), f"bad_value:{field}")
    yield Case("names with escapes", with_raw(moment).replace(b"user_id", b"user\\u005fid"), {})
    for escape in (b"\\x41", b"\\u12", b"\\u00zz", b"\\U0041", b"\\'", b"\\"):
        yield Case(f"the escape {escape.decode()}", with_raw(moment, b'"app_version":"%s"' % escape), "bad_json")
        yield Case(f"the escape {escape.decode()} in properties", with_raw(moment, b'"properties":{"a":"%s"}' % escape), "bad_json")


def _sizes(moment: datetime) -> Iterator[Case]:
    long = "x" * HUGE
    yield Case("10 MB of blanks", b" " * HUGE, "bad_json")
    yield Case("10 MB of zeros", b"\x00" * HUGE, "bad_json")
    yield Case("10 MB of brackets", b"[" * HUGE, "bad_json")
    yield Case("10 MB that never end", with_raw(moment, b'"app_version":"' + b"x" * HUGE)[:-1], "bad_json")
    yield Case("10 MB as user_id", changed(moment, user_id=long), "bad_value:user_id")
    yield Case("10 MB as app_version", changed(moment, app_version=long), {"app_version": long})
    yield Case("10 MB in properties", changed(moment, properties={"x": long}), {"properties": b'{"x":"%s"}' % long.encode()})
    yield Case("10 MB unknown", changed(moment, new=long), {"properties": b'{"_extra":{"new":"%s"}}' % long.encode()})
    yield Case(
        "10 MB in properties, the last byte no UTF-8", with_raw(moment, b'"properties":{"x":"' + b"x" * HUGE + b'\xff"}'), "bad_encoding"
    )
    many = {f"k{number}": number for number in range(100_000)}
    yield Case("100,000 properties", changed(moment, properties=many), {"properties": json.dumps(many).encode()})
    yield Case("100,000 unknown fields", changed(moment, **many), {"properties": json.dumps({"_extra": many}).encode()})
