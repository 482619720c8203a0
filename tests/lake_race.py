"""Claims of one name by many at once. A module of its own, and light: processes that are started fresh import it."""

from __future__ import annotations

from engagement.lake import AlreadyExists


def claims(lake, key, data):
    try:
        lake.put_new(key, data)
    except AlreadyExists:
        return False
    return True


def claim_in_a_process(opener, name, barrier, results):
    lake = opener()
    lake.stat("ready")
    barrier.wait()
    results.put((name, [claims(lake, f"raw/{number}.parquet", b"%d" % name) for number in range(20)]))
