"""What a policy costs the raw writer: the same records decoded and encoded under each, CPU of this process, best of a few.

    python bench/privacy.py --events 400000 --users 50000

No broker and no disk: only what ingest does more for pseudonyms, coarser places and locales, and dropped bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from datetime import UTC, datetime, timedelta

import measure

from engagement.contract import TimeWindow
from engagement.raw import files, rows
from engagement.raw.footers import RawFile
from engagement.raw.names import topic_chain
from engagement.raw.privacy import KEEP_ALL, Policy

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
TOPIC = ("session", "5e" * 16, 0)
KEYS = (b"a key of thirty-two characters..",)
LOCALES = ("de_DE", "en_US", "fr_FR")
POLICIES = {
    "everything kept": KEEP_ALL,
    "hashed": Policy(user_ids="hashed", keys=KEYS),
    "hashed, two keys": Policy(user_ids="hashed", keys=KEYS * 2),
    "hashed, region, language, no bytes": Policy("hashed", "region", "language", "none", KEYS),
}


def main() -> int:
    """Print events a CPU-second under each policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    print(f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {chosen.events:,} events of {chosen.users:,} users\n")
    records = made(chosen.events, chosen.users)
    written(records.cut(0, 1000), KEEP_ALL)  # imports
    found = []
    for name, policy in POLICIES.items():
        seconds, size = min(written(records, policy) for _ in range(chosen.runs))
        speed, micros = chosen.events / seconds, seconds / chosen.events * 1e6
        cost = {"events a CPU-second": f"{speed:,.0f}", "CPU-µs an event": f"{micros:.2f}", "bytes an event": f"{size / chosen.events:.1f}"}
        found.append({"policy": name} | cost)
    print(measure.table(found))
    return 0


def made(count: int, users: int) -> rows.Records:
    """Records of one partition; users come back as they do within a flush."""
    chance = random.Random(7)
    ids = [f"{chance.getrandbits(64):016x}" for _ in range(users)]
    found = []
    for offset in range(count):
        user = ids[int(users * chance.random() ** 2)]
        document = {
            "event_id": f"0f8fad5b-d9cb-469f-a165-{offset:012x}", "user_id": user, "session_id": f"s{offset % 977}",
            "event_type": "screen_view", "timestamp": (NOW + timedelta(milliseconds=offset % 60_000)).isoformat(),
            "device_info": {"device_type": "iPhone", "model": "iPhone15,3", "os_version": "19.1", "locale": chance.choice(LOCALES)},
            "geo_location": {"country": "DE", "region": "BY", "city": f"city {offset % 300}"}, "app_version": "1.10",
            "properties": {"screen": f"Screen{offset % 40}"},
        }  # fmt: skip
        found.append(rows.Record(offset, NOW + timedelta(minutes=1), user.encode(), json.dumps(document).encode()))
    return rows.Records.of(found)


def written(records: rows.Records, policy: Policy) -> tuple[float, int]:
    """CPU seconds and bytes of one object; the policy remembers no pseudonym from before."""
    fresh = Policy(policy.user_ids, policy.keep_place, policy.keep_locale, policy.keep_bytes, policy.keys)
    began = time.process_time()
    building = rows.Rows(rows.Coordinates(*TOPIC), TimeWindow.of(NOW.date(), 300, None), 60, "session", fresh)
    building.add(records)
    batch = building.batch()
    raw = RawFile(topic_chain(*TOPIC), 0, len(records), batch.table.num_rows)
    size = len(files.encode(batch.table, raw))
    return time.process_time() - began, size


if __name__ == "__main__":
    sys.exit(main())
