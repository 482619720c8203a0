"""Files of every kind give the rows that the same events give as JSON lines; what cannot be a file of events is refused whole."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta

import lake_helpers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement.contract import TEXTS
from engagement.ingest import importer
from engagement.ingest.history import decoding, lines, mapping, streams
from engagement.ingest.importer import BadFile
from engagement.lake import LocalLake, open_lake

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
TIME = "2025-01-02T03:04:05.678901Z"
COORDINATES = ("kafka_topic_id",)


def event(number=0, **fields):
    return {"event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": f"u{number}", "event_type": "tap", "timestamp": TIME} | fields


def json_lines(events):
    return b"".join(json.dumps(found, ensure_ascii=False).encode() + b"\n" for found in events)


def flat(found):
    """An event with its nested fields under dotted names; properties are JSON text."""
    row = {}
    for name, value in found.items():
        if name in TEXTS and isinstance(value, dict):
            row |= {f"{name}.{inner}": text for inner, text in value.items()}
        else:
            row[name] = json.dumps(value, ensure_ascii=False) if name == "properties" and value is not None else value
    return row


def columns_of(rows):
    return list(dict.fromkeys(name for row in rows for name in row))


def as_csv(rows, **options):
    names = columns_of(rows)
    text = io.StringIO()
    writer = csv.writer(text, **options)
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in rows)
    return text.getvalue().encode()


def as_parquet(rows, schema=None, **options):
    names = columns_of(rows)
    table = pa.table({name: [row.get(name) for row in rows] for name in names}, schema)
    return table_bytes(table, **options)


def table_bytes(table, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def zstd(data):
    return pa.compress(data, "zstd", asbytes=True)


@pytest.fixture
def bring(tmp_path):
    """Imports a file into a lake of its own and gives its rows, without the hash."""
    numbers = iter(range(10**6))

    def bring(name, data, *pairs, renames=None):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        (folder / name).write_bytes(data)
        options = lake_helpers.settings_of(folder)
        source = importer.inspect(folder / name, mapping.parse(pairs) if renames is None else renames)
        lake, lake_format = open_lake(options)
        importer.import_file(source, lake, lake_format, options, NOW)
        return rows_of(lake)

    return bring


def rows_of(lake):
    found = [row for entry in lake.list("raw") for row in pq.ParquetFile(lake.path(entry.key)).read().to_pylist()]
    return [{name: value for name, value in row.items() if name not in COORDINATES} for row in found]


def told(row):
    """What a raw row says of its event."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and not name.startswith("kafka") and name not in ("received_at", "headers")
    }


def naive(*parts):
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


# ------------------------------------------------------------------------------------------------ the law

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
optional = st.none() | words.filter(bool)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
)
instants = st.datetimes(naive(2019, 12, 1), naive(2026, 4, 1)).map(lambda moment: moment.isoformat() + "Z")
events = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str) | st.sampled_from(["x", '"', "é"]),
        "user_id": words.filter(bool),
        "event_type": st.sampled_from(["tap", "screen_view", "Bad", "ta\np"]),
        "timestamp": instants | st.sampled_from(["yesterday", "2025-01-01"]),
    },
    optional={
        "session_id": optional,
        "app_version": optional,
        "device_info": st.dictionaries(st.sampled_from(sorted(TEXTS["device_info"])), optional, max_size=4),
        "geo_location": st.dictionaries(st.sampled_from(sorted(TEXTS["geo_location"])), optional, max_size=3),
        "properties": st.none() | st.dictionaries(words, values, max_size=3),
        "battery": words.filter(bool),  # a null of an unknown field is kept where JSON lines say it, and no field in flat files
    },
)


def judged(rows):
    """Rows, but of rejects only where and why: their bytes are the documents that each kind decodes."""
    return [row if row["reject_reason"] is None else (row["kafka_offset"], row["reject_reason"]) for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(events, min_size=1, max_size=8))
def test_the_same_events_give_the_same_rows_whatever_kind_of_file_they_come_in(tmp_path_factory, found):
    """Absent, null and (in CSV) empty are one."""
    found = [event(9), *found]
    rows = [{name: value for name, value in flat(one).items() if value is not None} for one in found]
    folder = tmp_path_factory.mktemp("law")
    expected = judged(decoded(folder / "a.jsonl", json_lines(found)))
    assert judged(decoded(folder / "a.csv", as_csv(rows))) == expected
    assert judged(decoded(folder / "a.parquet", as_parquet(rows))) == expected


def decoded(path, data):
    path.write_bytes(data)
    options = lake_helpers.settings_of(path.parent)
    work = importer.Importer(options, LocalLake(options.lake_path), importer.format_of(options), NOW, dry=True)
    table = decoding.joined(map(decoding.decode, work._pieces(importer.inspect(path), 0))).table
    return table.drop_columns(["kafka_topic_id"]).to_pylist()


# ------------------------------------------------------------------------------------------------ CSV


HEAD = b"event_id,user_id,event_type,timestamp,device_info.model,properties,note\n"
ID = b"0f8fad5b-d9cb-469f-a165-0000000000"


def row(number=0, user=b"u", model=b"", properties=b"", note=b"", end=b"\n"):
    return b",".join((ID + b"%02d" % number, user, b"tap", TIME.encode(), model, properties, note)) + end


def quoted(text):
    return b'"' + text.replace(b'"', b'""') + b'"'


def test_a_csv_row_has_its_nested_fields_and_unknown_columns_where_the_contract_has_them(bring):
    (found,) = bring("a.csv", HEAD + row(model=quoted(b"iPhone15,3"), properties=quoted(b'{"screen": "home"}'), note=b"hi"))
    assert told(found) == {
        "event_id": (ID + b"00").decode(),
        "user_id": "u",
        "event_type": "tap",
        "event_time": datetime(2025, 1, 2, 3, 4, 5, 678901, UTC),
        "device_model": "iPhone15,3",
        "properties": '{"screen":"home","_extra":{"note":"hi"}}',
    }


def test_an_empty_value_is_null_quoted_or_not_and_properties_stay_as_written(bring):
    (found,) = bring("a.csv", HEAD + row(model=b'""', properties=quoted(b'{ "a" :1.50}')))
    assert (found["device_model"], found["properties"]) == (None, '{ "a" :1.50}')


def test_line_ends_in_quotes_are_of_the_value_and_row_numbers_count_rows(bring):
    data = HEAD + row(0, note=quoted(b'two\r\nlines, "so" to say')) + row(1, user=b"") + row(2, end=b"")
    first, second, third = bring("a.csv", data)
    assert json.loads(first["properties"]) == {"_extra": {"note": 'two\r\nlines, "so" to say'}}
    assert (second["kafka_offset"], second["reject_reason"]) == (1, "missing:user_id")
    assert (third["kafka_offset"], third["reject_reason"]) == (2, None)


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_names_or_values(bring):
    data = b"\xef\xbb\xbf" + HEAD.replace(b"\n", b"\r\n") + row(note=b"n", end=b"\r\n")
    (found,) = bring("a.csv", data)
    assert (found["event_id"], found["properties"]) == ((ID + b"00").decode(), '{"_extra":{"note":"n"}}')
    (found,) = bring("a.jsonl", b"\xef\xbb\xbf" + json_lines([event()]))
    assert found["reject_reason"] is None


def test_a_row_that_does_not_fit_the_header_is_a_bad_row_that_keeps_its_values(bring):
    short, long = ID + b"01,u,tap\n", row(2, note=b"n,one more")
    found = bring("a.csv", HEAD + row(0) + short + long + b"\n" + row(4))
    assert [(one["reject_reason"], one["payload"]) for one in found] == [
        (None, None),
        ("bad_json", json.dumps([(ID + b"01").decode(), "u", "tap"], separators=(",", ":")).encode()),
        ("bad_json", json.dumps([*long.decode().strip().split(",")], separators=(",", ":")).encode()),
        ("empty", b""),
        (None, None),
    ]


def test_a_quote_inside_an_unquoted_value_spoils_its_own_rows_alone(bring):
    data = HEAD + row(0) + row(1, note=b'5" screen') + row(2, note=b'6" screen') + row(3)
    found = bring("a.csv", data)
    assert [one["reject_reason"] for one in found] == [None, "bad_json", None]
    assert b'5\\" screen' in found[1]["payload"]
    assert b'6\\" screen' in found[1]["payload"]


def test_a_row_with_two_stray_quotes_never_takes_the_next_row_with_it(bring):
    data = HEAD + row(0) + row(1, model=b'5" x', note=b'"c') + row(2, note=b'",x"') + row(3)
    found = bring("a.csv", data)
    assert [one["reject_reason"] for one in found] == [None, "bad_json", None, None]
    assert json.loads(found[2]["properties"]) == {"_extra": {"note": ",x"}}


@pytest.mark.parametrize(("value", "kept"), [(b"\xff", b'"note":"\xff"'), (quoted(b'\xff"'), b'"note":"\xff\\""')])
def test_bytes_that_are_no_utf_8_reject_their_row_and_are_kept(value, kept, bring):
    found = bring("a.csv", HEAD + row(0, note="ü".encode()) + row(1, note=value) + row(2, user="ö".encode()))
    assert [one["reject_reason"] for one in found] == [None, "bad_encoding", None]
    assert found[0]["properties"] == '{"_extra":{"note":"ü"}}'
    assert kept in found[1]["payload"]
    assert found[2]["user_id"] == "ö"


def test_properties_cannot_smuggle_fields_into_the_event(bring):
    (found,) = bring("a.csv", HEAD + row(properties=quoted(b'{},"user_id":"other"')))
    assert found["reject_reason"] == "bad_type:properties"
    assert json.loads(found["payload"])["user_id"] == "u"


@pytest.mark.parametrize(
    ("whole", "part", "expected"),
    [
        (b'{"a":1}', b"x", '{"a":1,"b":"x"}'),
        (b"{ }", b"x", '{"b":"x"}'),
        (b"", b"x", '{"b":"x"}'),
        (b"null", b"x", '{"b":"x"}'),
        (b'{"a":1}', b"", '{"a":1}'),
        (b"{}", b"", "{}"),
        (b"", b"", None),
    ],
)
def test_properties_may_be_a_column_and_columns_of_their_own(whole, part, expected, bring):
    head = HEAD.replace(b"note", b"properties.b")
    (found,) = bring("a.csv", head + row(properties=quoted(whole), note=part))
    assert (found["reject_reason"], found["properties"]) == (None, expected)


def test_where_properties_are_no_object_the_reject_keeps_the_columns_beside_it(bring):
    head = HEAD.replace(b"note", b"properties.b")
    good, bad = bring("a.csv", head + row(0, properties=b"{}", note=b"x") + row(1, properties=b"[1]", note=b"y"))
    assert (good["properties"], bad["reject_reason"]) == ('{"b":"x"}', "bad_type:properties")
    assert json.loads(bad["payload"])["properties.b"] == "y"
    assert bad["payload"].count(b'"properties":') == 1


# ------------------------------------------------------------------------------------------------ Parquet


def parquet_of(**columns):
    """One row a value of the columns; what is not given is fine."""
    count = max((len(values) for values in columns.values()), default=1)
    base = {name: [event(number)[name] for number in range(count)] for name in ("event_id", "user_id", "event_type", "timestamp")}
    return table_bytes(pa.table(base | columns))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.timestamp("us"), naive(2025, 1, 2, 3, 4, 5, 678901), datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)),
        (pa.timestamp("us", "UTC"), datetime(2025, 1, 2, 3, 4, 5, 678901, UTC), datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)),
        (pa.timestamp("ms", "Europe/Berlin"), datetime(2025, 1, 2, 2, 4, 5, 678000, UTC), datetime(2025, 1, 2, 2, 4, 5, 678000, UTC)),
        (pa.timestamp("s"), naive(2025, 1, 2, 3, 4, 5), datetime(2025, 1, 2, 3, 4, 5, 0, UTC)),
        (pa.timestamp("ns"), 1735787045678901999, datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)),
        (pa.large_string(), TIME, datetime(2025, 1, 2, 3, 4, 5, 678901, UTC)),
    ],
)
def test_a_time_is_a_text_or_a_timestamp_of_any_unit_and_zone_utc_without_one(kind, value, expected, bring):
    (found,) = bring("a.parquet", parquet_of(timestamp=pa.array([value], kind)))
    assert (found["reject_reason"], found["event_time"]) == (None, expected)


CODED = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary(), pa.binary_view(), pa.large_binary(), CODED], ids=str)
def test_texts_come_in_every_type_that_holds_texts(kind, bring):
    texts = ["ü", 'a"b', None]
    values = pa.array(texts, kind) if kind == CODED else pa.array(texts).cast(kind)
    assert [one["app_version"] for one in bring("a.parquet", parquet_of(app_version=values))] == texts


def test_times_that_no_calendar_has_are_bad_rows(bring):
    far = pa.array([2**62, -(2**62), None], pa.timestamp("us"))
    found = bring("a.parquet", parquet_of(timestamp=far))
    assert [one["reject_reason"] for one in found] == ["bad_value:timestamp", "bad_value:timestamp", "missing:timestamp"]


def test_numbers_are_texts_where_the_contract_wants_a_text_and_numbers_elsewhere(bring):
    data = parquet_of(
        user_id=pa.array([42]), **{"properties.n": pa.array([7]), "properties.ok": pa.array([True]), "properties.f": pa.array([1.5])}
    )
    (found,) = bring("a.parquet", data)
    assert (found["user_id"], json.loads(found["properties"])) == ("42", {"n": 7, "ok": True, "f": 1.5})


def test_structs_maps_lists_dictionaries_and_uuids_are_what_they_say(bring):
    device = pa.array([{"model": "iPhone15,3", "locale": None, "color": "red"}])
    properties = pa.array([[("screen", "home"), ("b", None)]], pa.map_(pa.string(), pa.string()))
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes.fromhex("0f8fad5bd9cb469fa165000000000001")], pa.binary(16)))
    kind = pa.array(["tap"]).dictionary_encode()
    data = parquet_of(event_id=ids, event_type=kind, device_info=device, properties=properties, tags=pa.array([["a", "b"]]))
    (found,) = bring("a.parquet", data)
    assert (found["reject_reason"], found["event_id"], found["device_model"]) == (
        None,
        "0f8fad5b-d9cb-469f-a165-000000000001",
        "iPhone15,3",
    )
    assert json.loads(found["properties"]) == {"screen": "home", "b": None, "_extra": {"device_info": {"color": "red"}, "tags": ["a", "b"]}}


def test_a_reject_keeps_the_document_that_an_app_would_have_sent(bring):
    data = parquet_of(user_id=[""], timestamp=pa.array([naive(2025, 1, 2)], pa.timestamp("us")), **{"device_info.model": ['1"5']})
    (found,) = bring("a.parquet", data)
    assert found["reject_reason"] == "missing:user_id"
    assert json.loads(found["payload"]) == event(user_id="", timestamp="2025-01-02T00:00:00.000000Z", device_info={"model": '1"5'})


@pytest.mark.parametrize("rows_a_group", [1, 2, 3, 100])
@pytest.mark.parametrize("start", [0, 1, 4, 6])
def test_parquet_is_read_from_any_row_in_pieces_of_any_size(rows_a_group, start, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([event(number) for number in range(7)]), path, row_group_size=rows_a_group)
    reader = importer.inspect(path).found.reader
    chunks = [reader.documents(chunk) for chunk in reader.chunks(path, start, iter([1, 3, 3, 9, 9]))]
    users = [[json.loads(document)["user_id"] for document in chunk] for chunk in chunks]
    left = [f"u{number}" for number in range(start, 7)]
    assert users == [part for part in (left[:1], left[1:4], left[4:7]) if part]


# ------------------------------------------------------------------------------------------------ compressed


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_the_same_bytes_are_the_same_file_whatever_they_are_compressed_with(pack, name, tmp_path):
    found = [event(number) for number in range(3)]
    data = {"a.jsonl": json_lines, "a.csv": as_csv, "a.parquet": as_parquet}[name](found)
    options = lake_helpers.settings_of(tmp_path)
    lake, lake_format = open_lake(options)
    packed = tmp_path / f"b{name[1:]}.{'gz' if pack is gzip.compress else 'zst'}"
    (tmp_path / name).write_bytes(data)
    packed.write_bytes(pack(data))
    first = importer.import_file(importer.inspect(tmp_path / name), lake, lake_format, options, NOW)
    again = importer.import_file(importer.inspect(packed), lake, lake_format, options, NOW)
    assert (first.rows, first.written, again.rows, again.written) == (3, 1, 3, 0)


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstd)])
def test_a_file_of_several_compressed_parts_is_read_to_the_end_of_the_last(name, pack, bring):
    parts = [pack(json_lines([event(number)])) for number in range(3)]
    assert [one["user_id"] for one in bring(name, b"".join(parts))] == ["u0", "u1", "u2"]


# ------------------------------------------------------------------------------------------------ bad files

MANY = [event(number, note=str(number * 7919)) for number in range(500)]
PARQUET = as_parquet(MANY)
DAMAGED = bytearray(as_parquet(MANY, use_dictionary=False, write_page_checksum=True, compression="none"))
DAMAGED[DAMAGED.index(b"0f8fad5b", 4000) + 3] ^= 1

BAD = {
    "a.jsonl.zst": [(zstd(json_lines(MANY))[:-200], "runcated"), (json_lines(MANY), "ZSTD|zstd"), (zstd(b""), "empty"), (b"", "empty")],
    "a.csv": [
        (b"", "empty"),
        (HEAD, "no rows below the header"),
        (HEAD + row(0) + row(1, note=b'"half')[:-1], "row 2: a quote that never closes"),
        (PARQUET, "by its first bytes it is Parquet"),
        (gzip.compress(HEAD + row()), "by its first bytes it is gzip"),
        (HEAD.replace(b"user_id", b"uid") + row(), "no column user_id among event_id, uid, .*--map"),
        (HEAD.replace(b"note", b"user_id") + row(), "columns 'user_id' and 'user_id' are both user_id"),
    ],
    "a.csv.gz": [(gzip.compress(as_csv(MANY))[:-200], "nd-of-stream|truncated")],
    "a.parquet": [
        (b"", "empty"),
        (PARQUET[:-1], "no Parquet file, or a truncated one"),
        (PARQUET[:2000], "no Parquet file, or a truncated one"),
        (bytes(DAMAGED), "CRC checksum verification failed"),
        (json_lines(MANY), "no Parquet file"),
        (table_bytes(pa.table({"a": [1]})), "no events: no column event_id, user_id, event_type, timestamp among a"),
        (table_bytes(pa.Table.from_pylist(MANY).slice(0, 0)), "no rows"),
        (parquet_of(timestamp=pa.array([1])), "column 'timestamp' is int64; as timestamp it must be text"),
        (parquet_of(user_id=pa.array([1.5])), "column 'user_id' is double; as user_id it must be text or a whole number"),
        (parquet_of(tags=pa.array([[2**40]], pa.list_(pa.timestamp("s")))), "a value that no JSON document can hold"),
        (parquet_of(tags=pa.array([[b"\xff"]]).cast(pa.list_(pa.binary())).view(pa.list_(pa.string()))), "a value that no JSON"),
        (parquet_of(properties=pa.array([1])), "column 'properties' is int64; as properties it must be JSON text, a struct or a map"),
    ],
    "a.parquet.gz": [(gzip.compress(PARQUET)[:-9], "nd-of-stream|truncated"), (gzip.compress(PARQUET[:-1]), "no Parquet file, or a ")],
    "a.txt": [(json_lines(MANY), "its name does not tell what it is; expected .jsonl, ")],
    "a.jsonl": [
        (PARQUET, "not JSON lines: .* it is Parquet"),
        (json_lines([{"uid": 1, "timestamp": TIME}]), r"none of its .* lines has all of .* \(missing: event_id, user_id, event_type\)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "words"), [(name, data, words) for name, found in BAD.items() for data, words in found])
def test_a_file_that_cannot_be_imported_is_refused_in_one_line_that_names_it(name, data, words, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadFile, match=words) as error:
        importer.inspect(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_row_without_an_end_is_refused_before_it_fills_the_memory(name, tmp_path, monkeypatch):
    for module in (streams, lines, importer.delimited):
        monkeypatch.setattr(module, "MAX_ROW", 1 << 20)
    (tmp_path / name).write_bytes(HEAD + row() + b"x" * (3 << 20) + b"\n" + row())
    with pytest.raises(BadFile, match=r"longer than 1 MiB"):
        importer.inspect(tmp_path / name)


def test_a_pipe_is_refused_since_an_import_reads_twice(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(BadFile, match="no regular file"):
        importer.inspect(tmp_path / "a.jsonl")


# ------------------------------------------------------------------------------------------------ names


def test_their_names_become_ours_in_every_kind(bring):
    renames = ["uid=user_id", "phone=device_info.model", "plan=properties.plan", "when=timestamp"]
    found = {"event_id": event()["event_id"], "uid": "u", "event_type": "tap", "when": TIME, "phone": "iPhone15,3", "plan": "pro"}
    expected = {
        "event_id": found["event_id"],
        "user_id": "u",
        "event_type": "tap",
        "event_time": datetime(2025, 1, 2, 3, 4, 5, 678901, UTC),
    }
    expected |= {"device_model": "iPhone15,3", "properties": '{"plan":"pro"}'}
    for name, data in (("a.jsonl", json_lines([found])), ("a.csv", as_csv([found])), ("a.parquet", as_parquet([found]))):
        assert [told(one) for one in bring(name, data, *renames)] == [expected], name


def test_names_in_json_lines_may_be_paths_and_never_overwrite_a_field_of_the_event(bring):
    first = event(0, ctx={"who": {"id": "x"}, "k": 1}, device_info={"os_version": "18"}, phone="p")
    del first["user_id"]
    taken = event(1, ctx={"who": {"id": "x"}})
    found = bring("a.jsonl", json_lines([first, taken]) + b"{broken\n", "ctx.who.id=user_id", "phone=device_info.model")
    assert [one["user_id"] for one in found] == ["x", "u1", None]
    assert (found[0]["device_model"], found[0]["os_version"]) == ("p", "18")
    assert json.loads(found[1]["properties"]) == {"_extra": {"ctx": {"who": {"id": "x"}}}}
    assert (found[2]["reject_reason"], found[2]["payload"]) == ("bad_json", b"{broken")


def test_only_the_first_dot_of_a_known_holder_nests(bring):
    data = as_csv([event() | {"properties.a.b": "1", "x.y": "2", "device_info.color": "red"}])
    (found,) = bring("a.csv", data)
    assert json.loads(found["properties"]) == {"a.b": "1", "_extra": {"device_info": {"color": "red"}, "x.y": "2"}}


# ------------------------------------------------------------------------------------------------ the run


def test_a_file_that_changes_while_it_is_imported_is_never_written_under_the_old_hash(tmp_path):
    options = lake_helpers.settings_of(tmp_path)
    lake, lake_format = open_lake(options)
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines([event(number) for number in range(4)]))
    source = importer.inspect(path)
    path.write_bytes(json_lines([event(number) for number in range(10, 14)]))
    with pytest.raises(BadFile, match=r"a\.jsonl: changed while it was imported"):
        importer.import_file(source, lake, lake_format, options, NOW)
    path.unlink()
    with pytest.raises(BadFile, match=r"a\.jsonl: No such file"):
        importer.import_file(source, lake, lake_format, options, NOW)
    assert rows_of(lake) == []


def test_a_dry_run_counts_what_an_import_would_find_and_makes_no_lake(tmp_path):
    options = lake_helpers.settings_of(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines([event(0), event(1, user_id=1), event(2, timestamp="2019-01-01T00:00:00Z")]))
    work = importer.Importer(options, LocalLake(options.lake_path), importer.format_of(options), NOW, dry=True)
    result = work.run(importer.inspect(path), lambda pieces: map(decoding.decode, pieces))
    assert (result.rows, result.rejects, result.written) == (3, {"bad_type:user_id": 1, "before_history_start": 1}, 0)
    assert [(bad.row, bad.reason) for bad in result.bad] == [(2, "bad_type:user_id"), (3, "before_history_start")]
    assert not options.lake_path.exists()


def test_a_dry_run_judges_by_the_lake_that_there_is(tmp_path):
    open_lake(lake_helpers.settings_of(tmp_path, history_start=(NOW - timedelta(days=3650)).date()))
    assert importer.format_of(lake_helpers.settings_of(tmp_path)).history_start == (NOW - timedelta(days=3650)).date()


@pytest.mark.parametrize("count", [1, 7, 12])
def test_pieces_of_any_size_make_the_same_object(count, tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "ROWS_PER_OBJECT", 5)
    data = json_lines([event(number, user_id="" if number % 3 else "u") for number in range(12)])
    made = []
    for pieces in (importer.PIECE_ROWS, count):
        monkeypatch.setattr(importer, "PIECE_ROWS", pieces)
        folder = tmp_path / f"{pieces}"
        folder.mkdir()
        (folder / "a.jsonl").write_bytes(data)
        options = lake_helpers.settings_of(folder)
        lake, lake_format = open_lake(options)
        result = importer.import_file(importer.inspect(folder / "a.jsonl"), lake, lake_format, options, NOW)
        footers = [pq.read_metadata(lake.path(entry.key)).metadata[b"engagement"] for entry in lake.list("raw")]
        made.append((rows_of(lake), footers, result.rejects, [(bad.row, bad.reason) for bad in result.bad]))
    assert made[0] == made[1]
    assert len(made[0][1]) == 3
