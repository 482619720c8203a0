"""The fourteen traces by which simpler protocols lose or double records, played on the real machine and a real lake.

Each planted bug of `model.planted.FINDINGS` has its test here, under the rule that keeps it out.
"""

from __future__ import annotations

import pytest
from model.real import GRACE, NEW_ID, OLD_ID, Scene

from engagement.ingest.protocol import Claiming, Located, Looking, Reading
from engagement.raw import files
from engagement.raw.chain import Link


def zombie_at_a_freed_name(folder, *held):
    """A writer holds `held` under the name 0 while another goes on, 0 is archived and expires. Both, and the scene."""
    scene = Scene(folder, records=4)
    zombie = scene.writer().look().read(*held).close()
    winner = scene.writer().look().read(0).write().read(1).write()
    scene.archives(0)
    scene.now += GRACE
    scene.expires(0)
    assert scene.raw() == [Link(1, 2)]
    return scene, zombie, winner


def test_1_a_gap_record_is_a_claim(tmp_path):
    scene = Scene(tmp_path, records=2)
    a = scene.writer().look().read(0)
    scene.retention_deletes(1)
    b = scene.writer().look().write()
    assert scene.gaps() == [(0, 1)]
    a.read(1).write()
    assert a.dropped == ["fenced"]
    b.read(1).write()
    assert (scene.raw(), scene.offsets()) == ([Link(0, 1), Link(1, 2)], [1])


def test_1_a_gap_that_comes_second_is_fenced_and_records_nothing(tmp_path):
    scene = Scene(tmp_path, records=2)
    a = scene.writer().look().read(0)
    scene.retention_deletes(1)
    b = scene.writer().look().close()
    a.read(1).write()
    b.put()
    assert (b.dropped, scene.gaps()) == (["fenced"], [])
    assert (b.look().state.start, scene.offsets()) == (2, [0, 1])


def test_2_two_writers_who_read_other_first_records_of_other_hours_make_the_same_claim(tmp_path):
    scene = Scene(tmp_path, records=2, hours=(0, 1))
    a, b = scene.writer().look().read(0, 1), scene.writer().look()
    del scene.log.hours[0]
    b.read(1).write()
    a.write()
    assert (a.dropped, scene.offsets()) == (["fenced"], [1])


def test_3_an_empty_chain_begins_at_0_whatever_the_log_still_has(tmp_path):
    scene = Scene(tmp_path, records=3)
    a = scene.writer().look().read(0, 1)
    scene.retention_deletes(1)
    b = scene.writer().look()
    assert b.state.reading.start == 0
    b.write().read(1, 2).write()
    a.write()
    assert a.dropped == ["fenced"]
    assert (scene.gaps(), scene.offsets()) == ([(0, 1)], [1, 2])


def test_4_a_zombie_s_object_under_a_freed_name_is_seen_by_nobody(tmp_path):
    scene, zombie, winner = zombie_at_a_freed_name(tmp_path, 0, 1)
    zombie.step()
    assert scene.raw() == [Link(0, 2), Link(1, 2)], "the PUT succeeded: the name was free"
    assert scene.offsets() == [0, 1]
    winner.finish()
    assert scene.offsets() == [0, 1, 2, 3]


def test_5_a_zombie_whose_late_put_succeeded_asks_the_archive_before_it_goes_on(tmp_path):
    scene, zombie, _ = zombie_at_a_freed_name(tmp_path, 0, 1, 2)
    zombie.put()
    assert zombie.dropped == ["archived"]
    assert zombie.look().state.start == 2, "behind the chain, not behind its own object"
    zombie.finish()
    assert scene.offsets() == [0, 1, 2, 3]


def test_6_a_chain_goes_on_from_the_greatest_start_not_from_the_greatest_end(tmp_path):
    scene, zombie, _ = zombie_at_a_freed_name(tmp_path, 0, 1, 2)
    zombie.step()
    assert max(link.end for link in scene.raw()) == 3
    assert scene.writer().look().state.start == 2
    scene.writer().finish()
    assert scene.offsets() == [0, 1, 2, 3]


def test_7_append_hours_that_run_backwards_stop_nobody(tmp_path):
    scene = Scene(tmp_path, records=3, hours=(2, 1, 0))
    for offset in range(3):
        writer = scene.writer().look().read(offset).write()
        assert writer.dropped == []
    assert (scene.raw(), scene.writer().look().state.start) == ([Link(0, 1), Link(1, 2), Link(2, 3)], 3)


def two_objects_and_a_third(folder):
    scene = Scene(folder, records=3)
    writer = scene.writer().look()
    for offset in range(3):
        writer.read(offset).write()
    return scene


def test_8_an_archive_part_that_is_there_is_never_written_again(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    scene.archives(0, 1)
    scene.now += GRACE
    scene.expires(0)
    assert not scene.archiver(part=0).chooses(1).publishes()
    assert scene.offsets() == [0, 1, 2]


def test_9_of_two_archive_writers_who_saw_as_many_parts_one_publishes(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    one, other = scene.archiver().chooses(0), scene.archiver().chooses(0, 1)
    assert one.publishes()
    assert not other.publishes()
    assert scene.offsets() == [0, 1, 2]


def test_10_an_object_that_landed_after_the_archive_writer_s_listing_does_not_expire(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    scene.archives(0)
    scene.now += GRACE
    assert [scene.may_expire(start) for start in range(3)] == [True, False, False]


def test_11_a_part_of_interleaved_objects_hides_no_other_between_them(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    scene.archives(0, 2)
    assert scene.offsets() == [0, 1, 2]
    scene.now += GRACE
    assert not scene.may_expire(1)


def test_12_what_is_archived_and_deleted_between_two_listings_is_missed_by_nobody(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    listed = list(files.names(scene.lake))
    scene.archives(0)
    assert [offset for _, offset in scene.read(listed)] == [0, 1, 2]
    scene.now += GRACE
    scene.expires(0)
    with pytest.raises(FileNotFoundError):  # vanished: a reader lists again
        scene.read(listed)
    assert scene.offsets() == [0, 1, 2]


def test_12_a_look_that_listed_raw_too_early_finds_in_the_archive_what_came_since(tmp_path):
    scene = Scene(tmp_path, records=3)
    writer = scene.writer()
    writer.step()
    writer.step()
    scene.writer().look().read(0).write().read(1, 2).write()
    scene.archives(0, 1)
    scene.now += GRACE
    scene.expires(0)
    writer.step()
    assert isinstance(writer.state, Located)
    assert writer.state.offset == 3


def test_13_the_archive_of_a_deleted_topic_hides_nothing_of_its_successor(tmp_path):
    scene = two_objects_and_a_third(tmp_path)
    scene.archives(0, 1, 2)
    scene.topic_is_made_anew(records=2)
    scene.writer().finish()
    assert scene.raw(NEW_ID) == [Link(0, 2)]
    assert scene.visible() == sorted([(OLD_ID, 0), (OLD_ID, 1), (OLD_ID, 2), (NEW_ID, 0), (NEW_ID, 1)])


def test_13_what_was_fetched_across_a_re_creation_is_dropped(tmp_path):
    scene = Scene(tmp_path, records=2)
    writer = scene.writer().look().read(0)
    scene.topic_is_made_anew(records=3)
    writer.read(1, 2).write()
    assert (writer.dropped, writer.state, scene.raw()) == (["topic_recreated"], Looking(), [])
    writer.finish()
    assert scene.visible() == [(NEW_ID, 0), (NEW_ID, 1), (NEW_ID, 2)]


def test_13_a_topic_made_anew_after_the_last_question_gets_nothing_of_the_old_one(tmp_path):
    scene = Scene(tmp_path, records=2)
    writer = scene.writer().look().read(0, 1).close()
    scene.topic_is_made_anew(records=2)
    writer.put()
    assert isinstance(writer.state, Reading)
    writer.tell(writer.performer.ask_topic("session"))
    assert writer.dropped == ["topic_recreated"]
    writer.finish()
    assert scene.visible() == sorted([(OLD_ID, 0), (OLD_ID, 1), (NEW_ID, 0), (NEW_ID, 1)])


def test_14_a_claim_is_called_after_the_offset_expected_next(tmp_path):
    scene = Scene(tmp_path, records=3)
    a = scene.writer().look().read(0, 1).close()
    del scene.log.hours[0]
    b = scene.writer().look().read(1, 2).close()
    assert (a.state.closing.reading.start, b.state.closing.reading.start) == (0, 0)
    a.put()
    b.put()
    assert b.dropped == ["fenced"]
    b.finish()
    assert scene.offsets() == [0, 1, 2]


def test_an_unknown_outcome_that_succeeded_is_found_by_the_next_look(tmp_path):
    scene = Scene(tmp_path, records=2)
    writer = scene.writer().look().read(0).close()
    twin = scene.writer().look().read(0).close()
    assert isinstance(twin.state, Claiming)
    twin.put()  # the PUT of `writer` arrived, its answer did not
    writer.put()
    assert (writer.dropped, writer.look().state.start) == (["fenced"], 1)
