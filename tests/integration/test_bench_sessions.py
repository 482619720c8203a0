"""The bench compares like with like: its contenders make the same sessions, and a difference is told."""

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module("sessions"), importlib.import_module("peers.sessionize")
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def made(bench, tmp_path_factory):
    """Sessions of a small crowd, by contenders that need no package of their own."""
    import pyarrow.parquet as pq

    sessions, sessionize = bench
    folder = tmp_path_factory.mktemp("bench")
    pq.write_table(sessions.events_table(4_000), folder / "events.parquet")
    for name in ("ours", "usual", "pandas"):
        sessionize.CONTENDERS[name](str(folder / "events.parquet"), str(folder / f"{name}.parquet"), str(folder))
    return folder


@pytest.mark.parametrize("peer", ["usual", "pandas"])
def test_peers_make_our_sessions(bench, made, peer):
    assert bench[0].same(made / "ours.parquet", made / f"{peer}.parquet") > 100


def test_the_crowd_has_what_makes_it_hard(made):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    events, ours = pq.read_table(made / "events.parquet"), pq.read_table(made / "ours.parquet")
    assert len(pc.unique(events["event_id"])) < events.num_rows, "copies"
    assert pc.sum(ours["event_count"]).as_py() == len(pc.unique(events["event_id"]))
    assert pc.any(ours["is_automated"]).as_py()
    assert pc.any(pc.greater(pc.list_value_length(ours["client_session_ids"]), 1)).as_py()


def test_one_other_value_is_told(bench, made):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(made / "usual.parquet")
    place = table.schema.get_field_index("exit_screen")
    other = pa.array(["Elsewhere", *table["exit_screen"].to_pylist()[1:]], pa.string())
    pq.write_table(table.set_column(place, "exit_screen", other), made / "other.parquet")
    with pytest.raises(bench[0].Differs, match="only wanted"):
        bench[0].same(made / "ours.parquet", made / "other.parquet")
