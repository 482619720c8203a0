"""Events with something odd in one of their own fields, each with what must become of it (`record_cases.py` has the rest)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

from any_record import EVENT_ID, MANDATORY, NESTED, OPTIONAL_TEXTS, Case, changed, shortest, with_raw


def times(moment: datetime) -> Iterator[Case]:
    local, later = moment.strftime("%Y-%m-%dT%H:%M:%S"), timedelta(hours=23, minutes=59)
    digits = "12345678901234567890"
    for count in (1, 3, 6, 7, 9, 20):
        expected = moment.replace(microsecond=int(digits[: min(count, 6)].ljust(6, "0")))
        yield _time(moment, f"{local}.{digits[:count]}Z", expected)
    yield _time(moment, f"{local}.999999999Z", moment.replace(microsecond=999_999))
    yield _time(moment, f"{local}.{'0' * 10_000}Z", moment)
    yield _time(moment, f"{local}.{'9' * 1_000_000}Z", moment.replace(microsecond=999_999))
    for text in (
        f"{local}Z",
        f"{local}z",
        f"{local}+00:00",
        f"{local}-00:00",
        local.replace("T", "t") + "Z",
        local.replace("T", " ") + "Z",
    ):
        yield _time(moment, text, moment)
    yield _time(moment, f"{moment + later:%Y-%m-%dT%H:%M:%S}+23:59", moment)
    yield _time(moment, f"{moment - later:%Y-%m-%dT%H:%M:%S}-23:59", moment)
    yield _time(moment, f"{moment + timedelta(minutes=5):%Y-%m-%dT%H:%M:%S}+00:05", moment)
    day = local[:10]
    for text in (
        local, day, f"{local}.Z", f"{local},5Z", f"{local}+24:00", f"{local}+23:60", f"{local}+01:60", f"{local}+01:99", f"{local}-00:60",
        f"{local}+0100",
        f"{local}+01", f"{local}+1:00", f"{local}UTC", f"{local} Z", f" {local}Z", f"{local}Z ", f"{local}Z\n", f"{local}+01:00:00",
        f"{local}Z+01:00", f"{local}\u2212 01:00", f"{local}\u221201:00", f"{day}T10:00Z", f"{day}T10Z", f"{day}T24:00:00Z",
        f"{day}T23:59:60Z", f"{day}T10:60:00Z", f"{day}T10:00:61Z", f"{day}T1:00:00Z", f"{day}T-1:00:00Z", f"{day}_10:00:00Z",
        f"{day}T10:00:00.-5Z", "2026-02-29T00:00:00Z", "2025-02-30T00:00:00Z", "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-04-31T00:00:00Z", "2026-W10-3T00:00:00Z", "2026-070T00:00:00Z",
        "20260311T100000Z", "26-03-11T10:00:00Z", "+2026-03-11T10:00:00Z", "-001-03-11T10:00:00Z", "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "0001-01-01T23:58:59.999999+23:59",
        "9999-12-31T23:59:59.999999-00:01", "9999-12-31T00:01:00-23:59", "1773223200", "1773223200000", "Tue, 11 Mar 2026 10:00:00 GMT",
        "now", "0", "x" * 100_000, "\u0662\u0660\u0662\u0666-03-11T10:00:00Z", "\uff12026-03-11T10:00:00Z", f"{local}\uff3a",
    ):  # fmt: skip
        yield _time(moment, text, "bad_value:timestamp")
    for text in (
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59+00:01",
        "2262-04-11T23:47:16.854776Z",
        "9999-12-30T23:59:59.999999-23:59",
    ):
        yield _time(moment, text, "in_future")
    for text in ("0001-01-01T00:00:00Z", "0001-01-01T00:01:00+00:01", "0004-02-29T12:00:00.5Z", "1969-12-31T23:59:59.999999Z",
                 "1677-09-21T00:12:43Z", "1970-01-01T00:00:00Z", "1582-10-10T00:00:00Z", "2019-12-31T23:59:59.999999Z",
                 "2020-01-01T00:00:00+00:01"):  # fmt: skip
        yield _time(moment, text, "before_history_start")
    for text in ("2020-01-01T00:00:00Z", "2019-12-31T23:59:00-00:01", "2024-02-29T23:59:59Z", "2020-02-29T00:00:00.000001+14:00"):
        yield _time(moment, text, "too_late")
    hour = timedelta(hours=1)
    for name, at, reason in (("a month late", moment - 24 * 31 * hour, "too_late"), ("an hour ahead", moment + hour, "in_future")):
        yield Case(name, changed(moment, timestamp=at.isoformat()), reason)


def _time(moment: datetime, text: str, expected: str | datetime) -> Case:
    shown = repr(text) if len(text) < 40 else f"{text[:24]}… ({len(text)} characters)"
    return Case(f"time {shown}", changed(moment, timestamp=text), expected if isinstance(expected, str) else {"event_time": expected})


def identities(moment: datetime) -> Iterator[Case]:
    for text in (EVENT_ID.upper(), EVENT_ID.title(), "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"):
        yield Case(f"id {text}", changed(moment, event_id=text), {"event_id": text})
    for text in (
        EVENT_ID.replace("-", ""), "{" + EVENT_ID + "}", "urn:uuid:" + EVENT_ID, EVENT_ID + "\n", " " + EVENT_ID, EVENT_ID[:-1],
        EVENT_ID + "0", EVENT_ID.replace("-", "_"), EVENT_ID.replace("0", "g"), EVENT_ID.replace("0", "\u0660"),
        EVENT_ID.replace("-", "\u2010"), "42", EVENT_ID.replace("-", "", 1) + "-", "0" * 36, "-" * 36, EVENT_ID.replace("a", "\uff41"),
    ):  # fmt: skip
        yield Case(f"id {text!r}", changed(moment, event_id=text), "bad_value:event_id")
    for name, text in (("128 characters", "u" * 128), ("128 emoji", "\U0001f600" * 128), ("one blank", " "), ("128 umlauts", "ü" * 128)):
        yield Case(f"user of {name}", changed(moment, user_id=text), {"user_id": text})
    yield Case(
        "user of 128 escaped emoji",
        json.dumps(shortest(moment) | {"user_id": "\U0001f600" * 128}).encode(),
        {"user_id": "\U0001f600" * 128},
    )
    for name, text in (("129 characters", "u" * 129), ("129 emoji", "\U0001f600" * 129), ("a million characters", "u" * 10**6)):
        yield Case(f"user of {name}", changed(moment, user_id=text), "bad_value:user_id")
    for text in ("t", "t1", "a_b_c", "a1_2", "x" * 10_000):
        yield Case(f"type {text[:20]!r} ({len(text)})", changed(moment, event_type=text), {"event_type": text})
    for text in (
        "Tap",
        "tap-tap",
        "_tap",
        "tap_",
        "a__b",
        "1tap",
        "tap\n",
        "täp",
        "tap ",
        "_",
        "TAP",
        "tap.tap",
        "a_" * 5000,
        "\U0001f600",
        "\u0430",
    ):
        yield Case(f"type {text[:20]!r} ({len(text)})", changed(moment, event_type=text), "bad_value:event_type")


def fields(moment: datetime) -> Iterator[Case]:
    base = shortest(moment)
    for name in MANDATORY:
        yield Case(f"{name} absent", json.dumps({key: value for key, value in base.items() if key != name}).encode(), f"missing:{name}")
        shouted = json.dumps({key.upper() if key == name else key: value for key, value in base.items()})
        yield Case(f"{name} in another case", shouted.encode(), f"missing:{name}")
        for value in (None, ""):
            yield Case(f"{name} {value!r}", changed(moment, **{name: value}), f"missing:{name}")
        for value in (0, 1.5, True, [], [base[name]], {}, {"a": 1}):
            yield Case(f"{name} {value!r}", changed(moment, **{name: value}), f"bad_type:{name}")
    columns = {"model": "device_model"}
    for name in OPTIONAL_TEXTS:
        holder, _, field = name.rpartition(".")
        column = columns.get(field, field)
        for value in (None, "", "\U0001f600", "UNKNOWN", "ALL_DEVICES"):
            yield Case(f"{name} {value!r}", changed(moment, **({holder: {field: value}} if holder else {field: value})), {column: value})
        for value in (0, False, [], {}, ["x"]):
            yield Case(f"{name} {value!r}", changed(moment, **({holder: {field: value}} if holder else {field: value})), f"bad_type:{name}")
    for holder in (*NESTED, "properties"):
        for value in (0, False, "", "x", [], [{}]):
            yield Case(f"{holder} {value!r}", changed(moment, **{holder: value}), f"bad_type:{holder}")
        yield Case(f"{holder} null", changed(moment, **{holder: None}), {})
    yield Case("empty objects", changed(moment, device_info={}, geo_location={}, properties={}), {"properties": b"{}"})
    optional = dict.fromkeys(["session_id", "app_version", "properties"]) | {
        holder: dict.fromkeys(names) for holder, names in NESTED.items()
    }
    yield Case("null in every optional field", changed(moment, **optional), {})
    yield Case("null in every field", json.dumps(dict.fromkeys([*base, *optional])).encode(), "missing:event_id")
    yield Case("empty texts in all fields", json.dumps(dict.fromkeys(MANDATORY, "")).encode(), "missing:event_id")


def duplicates(moment: datetime) -> Iterator[Case]:
    """RFC 8259 leaves their meaning open; the last one wins, as in nearly every parser."""
    for name, members, expected in (
        ("user_id twice", b'"user_id":"u2"', {"user_id": "u2"}),
        ("user_id, then null", b'"user_id":null', "missing:user_id"),
        ("user_id, then a number", b'"user_id":5', "bad_type:user_id"),
        ("user_id, a number, then a text", b'"user_id":5,"user_id":"u3"', {"user_id": "u3"}),
        ("user_id under an escaped name", b'"user\\u005fid":"u4"', {"user_id": "u4"}),
        ("timestamp, then no time", b'"timestamp":"x"', "bad_value:timestamp"),
        ("device_info twice", b'"device_info":{"model":"a","locale":"b"},"device_info":{"model":"c"}', {"device_model": "c"}),
        ("device_info, then null", b'"device_info":{"model":"a"},"device_info":null', {}),
        ("device_info.model twice", b'"device_info":{"model":"a","model":"b"}', {"device_model": "b"}),
        ("device_info.model, a number first", b'"device_info":{"model":1,"model":"b"}', {"device_model": "b"}),
        ("properties twice", b'"properties":{"a":1},"properties":{"b":2}', {"properties": b'{"b":2}'}),
        ("properties, a text first", b'"properties":"x","properties":{"b":2}', {"properties": b'{"b":2}'}),
        ("properties, then a list", b'"properties":{},"properties":[]', "bad_type:properties"),
        ("a name twice in properties", b'"properties":{"a":1,"a":2}', {"properties": b'{"a":1,"a":2}'}),
        (
            "a name twice in properties beside an unknown field",
            b'"properties":{"a":1,"a":2},"n":1',
            {"properties": b'{"a":2,"_extra":{"n":1}}'},
        ),
        ("an unknown name twice", b'"n":1,"n":2', {"properties": b'{"_extra":{"n":2}}'}),
    ):
        yield Case(name, with_raw(moment, members), expected)
    yield Case("one name 10,000 times", with_raw(moment, *[b'"user_id":"u%d"' % number for number in range(10_000)]), {"user_id": "u9999"})


def unknown(moment: datetime) -> Iterator[Case]:
    for member, kept in (
        (b'"new":null', b'{"_extra":{"new":null}}'),
        (b'"new":{"a":[1,{}]}', b'{"_extra":{"new":{"a":[1,{}]}}}'),
        (b'"":1', b'{"_extra":{"":1}}'),
        (b'"device_info":{"battery":0.5}', b'{"_extra":{"device_info":{"battery":0.5}}}'),
        (b'"geo_location":{"lat":1,"lon":2,"":null}', b'{"_extra":{"geo_location":{"lat":1,"lon":2,"":null}}}'),
        (b'"new":1,"properties":{"a":1}', b'{"a":1,"_extra":{"new":1}}'),
        (b'"new":1,"properties":{}', b'{"_extra":{"new":1}}'),
        (b'"new":1,"properties":null', b'{"_extra":{"new":1}}'),
        (b'"_extra":{"a":1}', b'{"_extra":{"_extra":{"a":1}}}'),
        (b'"properties":{"_extra":{"a":1}}', b'{"_extra":{"a":1}}'),
        (b'"properties":{"_extra":{"a":1}},"new":2', b'{"_extra":{"new":2,"properties._extra":{"a":1}}}'),
        (b'"properties":{"_extra":null},"new":2', b'{"_extra":{"new":2,"properties._extra":null}}'),
        (
            b'"properties":{"_extra":1},"properties._extra":2,"properties._extra_":3',
            b'{"_extra":{"properties._extra":2,"properties._extra_":3,"properties._extra__":1}}',
        ),
        (b'"User_id":"x"', b'{"_extra":{"User_id":"x"}}'),
        (b'"event_time":"x"', b'{"_extra":{"event_time":"x"}}'),
        (
            b'"reject_reason":"bad_json","payload":"x","kafka_offset":-1',
            '{"_extra":{"reject_reason":"bad_json","payload":"x","kafka_offset":-1}}',
        ),
    ):
        yield Case(f"unknown {member.decode()}", with_raw(moment, member), {"properties": kept})
    yield Case("an unknown field and a list as properties", with_raw(moment, b'"new":1,"properties":[]'), "bad_type:properties")
    yield Case("an unknown field and no user", with_raw(moment, b'"new":1,"user_id":null'), "missing:user_id")
