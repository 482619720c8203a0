"""Dead letters and replays are the same, whether their records lie in raw objects or in archive parts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import archive_helpers
from hypothesis import given, settings
from hypothesis import strategies as st
from reject_lake import NOON, World, good, replay_of

from engagement.ingest.letters import Selection

WHERE = [("session", 0), ("session", 1), ("install", 0), ("import", 0)]
FLUSH = st.tuples(st.sampled_from(WHERE), st.lists(st.sampled_from(["good", "bad", "empty", "again"]), min_size=1, max_size=4))
STEPS = st.lists(st.one_of(FLUSH, st.just("archive"), st.just("expire")), min_size=2, max_size=12)


def told(world):
    """Everything that dead letters say of a lake."""
    with world.read() as found:
        every = Selection()
        letters = list(found.letters(every))
        return {
            "ends": found.ends(),
            "topics": found.topics(),
            "tally": found.tally(every),
            "some": found.tally(Selection(addresses=[letter.address for letter in letters[::2]])),
            "newest": found.newest(every, 3),
            "replays": sorted(found.replays(NOON), key=lambda replay: replay.address),
            "since": found.since(every),
            "letters": sorted((letter.address, letter.reason, letter.payload, letter.origin) for letter in letters),
            "at": found.at([letter.address for letter in letters][:2]),
        }


def filled(world, steps, *, keep):
    """The same records each time; with `keep` no step of the archive is taken."""
    addresses = []
    for minute, step in enumerate(steps):
        if isinstance(step, str):
            if not keep:
                {"archive": archive_helpers.archive, "expire": archive_helpers.expire}[step](world.lake)
            continue
        (topic, partition), kinds = step
        values = []
        for kind in kinds:
            headers = replay_of(addresses[len(addresses) // 2]) if kind == "again" and addresses else ()
            values.append((b"key", {"good": b"", "bad": b"{", "empty": None, "again": b"{"}[kind], headers))
        values = [(key, good() if payload == b"" else payload, headers) for key, payload, headers in values]
        addresses += world.put(values, minute * 10, topic, partition)
    return told(world)


@settings(deadline=None, max_examples=25)
@given(STEPS)
def test_what_is_archived_and_expired_changes_no_dead_letter(steps):
    with tempfile.TemporaryDirectory() as folder:
        plain = filled(World(Path(folder, "plain")), steps, keep=True)
        archived = filled(World(Path(folder, "archived")), steps, keep=False)
        # A range of a part begins with its first record, good or bad: the bound may be earlier, never later.
        bound, least = archived.pop("since"), plain.pop("since")
        assert (bound is None) == (least is None)
        assert bound is None or bound <= least
        assert archived == plain


def test_letters_of_a_part_are_read_from_their_own_range(tmp_path):
    """Two chains lie in one part: the second one's rows begin in the middle of it."""
    world = World(tmp_path)
    world.put([good(), b"{", good()])
    (_, wanted) = world.put([good(), b"not json"], 3, "session", 1)
    archive_helpers.archive(world.lake)
    world.put([good()], 9)
    world.put([good()], 9, "session", 1)
    assert archive_helpers.expire(world.lake).objects == 2
    with world.read() as found:
        assert [letter.payload for letter in found.at([wanted])] == [b"not json"]
