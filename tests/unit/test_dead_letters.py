"""Dead letters read out of a lake: counts, edges, single ones, replays, and how few objects are opened for them."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reject_lake import NOON, World, at, good, replay_of

from engagement.errors import PermanentError, TransientError
from engagement.ingest.dead_letters import Tally
from engagement.ingest.letters import Address, Letter, Selection
from engagement.raw import footers, sources


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    opened = sources.opened

    def counting(lake, raw):
        made.opened[raw.key] += 1
        return opened(lake, raw)

    monkeypatch.setattr(sources, "opened", counting)
    return made


def tally(world, **selection):
    with world.read() as found:
        return {(line.topic, line.reason): line for line in found.tally(Selection(**selection))}


def test_a_lake_without_rejects_has_no_dead_letters_and_nothing_is_opened(world):
    world.put([good(), good()])
    with world.read() as found:
        assert found.tally(Selection()) == []
        assert list(found.letters(Selection())) == found.newest(Selection(), 5) == []
        assert found.since(Selection()) is None
    assert not world.opened


def test_rejects_are_counted_by_topic_and_reason_with_their_first_and_last_time(world):
    world.put([good(), b"{", b"{", None], 0)
    world.put([b"", good()], 10)
    world.put([b"{"], 5, "session", 1)
    world.put([b"{"], 7, "install")
    world.put([b"x", good()], 8, "import")
    assert list(tally(world).values()) == [
        Tally("import", "bad_json", 1, at(8), at(8), 0),
        Tally("install", "bad_json", 1, at(7), at(7), 0),
        Tally("session", "bad_json", 3, at(1), at(5), 0),
        Tally("session", "empty", 2, at(3), at(10), 0),
    ]


@pytest.mark.parametrize(
    ("selection", "counts"),
    [
        ({"topics": {"install"}}, {}),
        ({"topics": {"session"}, "reasons": ["empty"]}, {"empty": 2}),
        ({"since": at(2)}, {"bad_json": 1, "empty": 2}),
        ({"until": at(2)}, {"bad_json": 1}),
        ({"since": at(2), "until": at(3)}, {"bad_json": 1}),
        ({"since": at(4), "until": at(10)}, {}),
        ({"since": at(10)}, {"empty": 1}),
    ],
)
def test_filters_are_exact_to_the_row(world, selection, counts):
    world.put([good(), b"{", b"{", None], 0)
    world.put([b"", good()], 10)
    assert {reason: line.count for (_, reason), line in tally(world, **selection).items()} == counts
    with world.read() as found:
        assert Counter(letter.reason for letter in found.letters(Selection(**selection))) == counts
        assert Counter(letter.reason for letter in found.newest(Selection(**selection), 99)) == counts


def test_counting_opens_only_the_objects_at_the_edges(world):
    for number in range(30):
        world.put([b"{", good()], number * 10)
    assert tally(world)["session", "bad_json"] == Tally("session", "bad_json", 30, at(0), at(290), 0)
    rejects = Counter(world.opened) - Counter(dict.fromkeys(world.opened, 1))  # once each for the replay header
    assert len(world.opened) == 30
    assert sorted(rejects) == [f"raw/session/5e5e5e5e-00000/{start:020d}.parquet" for start in (0, 58)]


def test_letters_come_whole_and_in_the_order_of_their_log(world):
    headers = [("a", b"1"), ("b", None), ("a", b""), ("", b"\xff")]
    first = world.put([(b"k", b"\x00\xff", headers), (None, b"", ()), (b"", None, ()), good()])
    (second,) = world.put([b"{"], 9)
    with world.read() as found:
        assert list(found.letters(Selection())) == [
            Letter("session", first[0], at(0), "bad_encoding", b"\x00\xff", b"k", headers),
            Letter("session", first[1], at(1), "empty", b"", None, []),
            Letter("session", first[2], at(2), "empty", None, b"", []),
            Letter("session", second, at(9), "bad_json", b"{", None, []),
        ]
        assert found.at([second, first[2], second]) == [found.at([second])[0], found.at([first[2]])[0]]


def test_an_address_that_is_no_dead_letter_is_told(world):
    (bad, fine) = world.put([b"{", good()])
    with world.read() as found:
        with pytest.raises(PermanentError, match="that record was not rejected"):
            found.at([bad, fine])
        for strange in (Address(fine.topic_id, 0, 2), Address(fine.topic_id, 1, 0), Address("5e5e5e5e" + "0" * 24, 0, 0)):
            with pytest.raises(PermanentError, match=f"no dead letter at {strange}"):
                found.at([strange])


def test_the_newest_come_first_and_old_objects_stay_closed(world):
    for number in range(10):
        world.put([b"{", good(), b"["], number * 10, partition=number % 2)
    with world.read() as found:
        newest = found.newest(Selection(), 3)
    assert [letter.received_at for letter in newest] == [at(92), at(90), at(82)]
    assert len(world.opened) == 2


def test_replays_are_found_by_their_header_wherever_they_lie(world):
    origin, other = world.put([b"{", b"["])
    mended, again = world.put([(None, good(), replay_of(origin)), (None, b"[", replay_of(other))], 5, "session", 1)
    world.put([(None, good(), [("engagement", b""), ("f", b"")])], 7, "session", 1)
    with world.read() as found:
        assert [(row.origin, row.address, row.reason) for row in found.replays(NOON)] == [
            (origin, mended, None),
            (other, again, "bad_json"),
        ]
        assert list(found.replays(None)) == []
    line = tally(world)["session", "bad_json"]
    assert (line.count, line.replayed, line.waiting) == (3, 2, 1), "both origins; what was rejected again waits"


def test_what_replays_nothing_that_is_meant_is_not_counted(world):
    (origin,) = world.put([b"{"])
    (early,) = world.put([b"["], 2)
    world.put([(None, good(), replay_of(origin)), (None, good(), replay_of(Address("00" * 16, 0, 0)))], 5)
    assert tally(world)["session", "bad_json"].replayed == 1
    assert tally(world, since=at(1))["session", "bad_json"].replayed == 0
    assert tally(world, addresses=[early])["session", "bad_json"].replayed == 0


def test_a_replay_is_looked_for_only_where_it_can_be(world, monkeypatch):
    read = Counter()
    real = pq.ParquetFile.read_row_group

    def counting(self, *args, **kwargs):
        read["groups"] += 1
        return real(self, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    world.put([b"{"], 24 * 60)
    world.put([good()], 0, "session", 1)
    world.put([good()], 24 * 60 - 30, "session", 1)
    world.put([(None, good(), [("zz", b"")])], 24 * 60, "session", 1)
    world.put([(None, good(), [])], 24 * 60 + 1, "session", 1)
    world.put([good()], 24 * 60, "import")
    with world.read() as found:
        assert list(found.replays(found.since(Selection()))) == []
    assert len(world.opened) == 4, "not the old one, not the import; clocks of brokers may differ by an hour"
    assert not read, "footers alone ruled it out"
    world.put([(None, good(), [("a", b""), ("zz", b"")])], 24 * 60 + 2, "session", 1)
    with world.read() as found:
        assert list(found.replays(found.since(Selection()))) == []
    assert read["groups"] == 1


def test_an_erased_reject_never_waits(world):
    (origin,) = world.put([b"{"])
    with world.read() as found:
        (raw,) = found._files
    path = world.lake.path(raw.key)
    table = pq.ParquetFile(path).read()
    for name in ("headers", "payload", "key", "reject_reason"):
        field = table.schema.field(name)
        erased = pa.array(["erased" if name == "reject_reason" else None], field.type)
        table = table.set_column(table.schema.get_field_index(name), field, erased)
    footer = json.loads(table.schema.metadata[footers.FOOTER_KEY]) | {"rejects": {"erased": 1}}
    pq.write_table(table.replace_schema_metadata({footers.FOOTER_KEY: json.dumps(footer)}), path)
    line = tally(world)["session", "erased"]
    assert (line.count, line.waiting) == (1, 0)
    with world.read() as found:
        assert found.at([origin])[0].headers is None


def test_an_object_that_vanishes_meanwhile_is_told_as_transient(world):
    world.put([b"{"])
    with world.read() as found:
        (raw,) = found._files
        world.lake.delete(raw.key)
        with pytest.raises(TransientError, match="run the command again"):
            list(found.letters(Selection()))


def test_an_object_that_cannot_be_read_leaves_its_partition_to_the_log(world):
    world.put([b"{"])
    world.put([good(), good()], 5)
    world.put([good()], 9)
    world.put([good()], 9, "session", 1)
    world.lake.path("raw/session/5e5e5e5e-00000/00000000000000000001.parquet").write_bytes(b"damaged")
    with world.read() as found:
        assert found.ends() == {("session", "5e5e5e5e", 0): 1, ("session", "5e5e5e5e", 1): 1}
        assert [doubt.start for doubt in found.doubts().values()] == [1]
