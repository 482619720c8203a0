"""A policy as a bucket's rules: ours alone are set, those of others stay, and the lake knows before anything can go."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime

import pytest
from botocore.exceptions import ClientError
from lake_helpers import settings_of

from engagement.errors import EngagementError
from engagement.lake import LocalLake
from engagement.maintenance import lifecycle
from engagement.maintenance.policy import Policy, Rule
from engagement.tables import finality

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
OTHERS = [
    {"ID": "logs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 3}},
    {"ID": "engagement-lake2:events", "Filter": {"Prefix": "lake2/x/"}, "Status": "Disabled", "Expiration": {"Days": 9}},
    {"ID": "old form", "Prefix": "tmp/", "Status": "Enabled", "Expiration": {"Date": "2030-01-01"}},
]
POLICY = Policy(
    {
        "archive": Rule(60, 180, 400), "events": Rule(expire=40), "hour_rows": Rule(60, expire=90), "day_rows": Rule(expire=400),
        "metrics": Rule(expire=5),
    },
    declared=True,
)  # fmt: skip


class Bucket:
    """A client of one bucket's rules, as boto3 answers; it notes what the lake had recorded at each put."""

    def __init__(self, lake, rules=(), **beside):
        self._lake, self.beside = lake, beside
        self.rules = list(copy.deepcopy(rules))
        self.puts = []
        self.refuses = None

    def get_bucket_lifecycle_configuration(self, Bucket):  # noqa: N803 - boto3's name
        assert Bucket == "bucket"
        if self.refuses:
            raise ClientError({"Error": {"Code": self.refuses}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "Get")
        if not self.rules:
            raise ClientError({"Error": {"Code": "NoSuchLifecycleConfiguration"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "Get")
        return {"Rules": copy.deepcopy(self.rules), **self.beside, "ResponseMetadata": {}}

    def put_bucket_lifecycle_configuration(self, Bucket, LifecycleConfiguration, **beside):  # noqa: N803
        assert Bucket == "bucket"
        self.puts.append(finality.read(self._lake).store_expires_after)
        self.rules, self.beside = copy.deepcopy(LifecycleConfiguration["Rules"]), beside


@pytest.fixture
def lake(tmp_path):
    found = LocalLake(tmp_path)
    found.url = "s3://bucket/lake"
    return found


@pytest.fixture
def apply(lake, tmp_path):
    def run(client, policy=POLICY, **options):
        return lifecycle.apply(settings_of(tmp_path), lake, policy, NOW, client=client, **options)

    return run


def by_id(rules):
    return {rule["ID"]: rule for rule in rules}


def test_the_rules_say_what_the_policy_says():
    found = by_id(lifecycle.rules(POLICY, "lake"))
    assert found["engagement-lake:archive"] == {
        "ID": "engagement-lake:archive", "Filter": {"Prefix": "lake/archive/"}, "Status": "Enabled",
        "Transitions": [{"Days": 60, "StorageClass": "STANDARD_IA"}, {"Days": 180, "StorageClass": "GLACIER_IR"}],
        "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
    }, "a part is never deleted: it covers offsets; what it was before its rows went is"  # fmt: skip
    assert set(found["engagement-lake:raw"]) == {"ID", "Filter", "Status", "NoncurrentVersionExpiration"}
    assert found["engagement-lake:processed/app_events"]["Expiration"] == {"Days": 47}, "maintain was there a week before"
    assert found["engagement-lake:uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    (table,) = [rule for name, rule in found.items() if "aggregated" in name]
    assert table["Expiration"] == {"Days": 407}, "hour rows and day rows share a folder: the longer one counts"
    assert "Transitions" not in table, "day rows do not want to move"
    assert found["engagement-lake:metrics"]["Filter"] == {"Prefix": "lake/metrics/"}
    assert len(found) == 6


def test_a_lake_that_is_a_whole_bucket_has_rules_without_a_prefix():
    found = by_id(lifecycle.rules(POLICY, ""))
    assert found["engagement-:uploads"]["Filter"] == {"Prefix": ""}
    assert found["engagement-:archive"]["Filter"] == {"Prefix": "archive/"}


def test_the_first_day_that_goes_by_itself_counts_only_what_tables_are_made_from():
    assert lifecycle.expires_after(lifecycle.rules(POLICY, "lake")) == 47
    assert lifecycle.expires_after(lifecycle.rules(Policy({"metrics": Rule(expire=5)}, declared=True), "lake")) is None


def test_rules_of_others_stay_as_they_are_and_a_second_run_sets_nothing(lake, apply):
    client = Bucket(lake, OTHERS, TransitionDefaultMinimumObjectSize="varies_by_storage_class")
    assert apply(client).objects == 6
    assert client.rules[: len(OTHERS)] == OTHERS
    assert client.beside == {"TransitionDefaultMinimumObjectSize": "varies_by_storage_class"}
    assert apply(client).objects == 0
    assert len(client.puts) == 1


def test_a_rule_that_is_wanted_no_more_goes_and_only_ours_do(lake, apply):
    client = Bucket(lake, OTHERS)
    apply(client)
    step = apply(client, Policy({}, declared=True))
    assert "remove rule engagement-lake:archive" in step.items
    assert [rule["ID"] for rule in client.rules] == [*(rule["ID"] for rule in OTHERS), "engagement-lake:uploads"]


def test_the_lake_records_what_goes_by_itself_before_it_can(lake, apply):
    client = Bucket(lake)
    apply(client)
    assert client.puts == [47]
    assert finality.read(lake).store_expires_after == 47
    assert finality.read(lake).first_open_day(NOW) == date(2026, 3, 6), "by the calendar alone, should maintain never run again"


def test_relaxed_rules_are_recorded_after_they_are_set_and_open_no_day(lake, apply):
    client = Bucket(lake)
    apply(client)
    apply(client, Policy({"events": Rule(expire=400)}, declared=True))
    assert client.puts == [47, 47]
    assert finality.read(lake).store_expires_after == 407
    assert finality.read(lake).first_open_day(NOW) == date(2026, 3, 6)


def test_a_dry_run_lists_the_changes_and_makes_none(lake, apply):
    client = Bucket(lake, OTHERS)
    said = apply(client, dry_run=True)
    assert (client.rules, client.puts, finality.read(lake)) == (OTHERS, [], finality.Finality())
    assert said.items == apply(client).items


def test_without_a_policy_the_bucket_is_left_alone(lake, apply):
    client = Bucket(lake, OTHERS)
    step = apply(client, Policy())
    assert "left alone" in step.notes[0]
    assert client.puts == []


@pytest.mark.parametrize("code", ["NotImplemented", "MethodNotAllowed"])
def test_a_store_without_lifecycle_says_so_and_anything_else_is_an_error(code, lake, apply):
    client = Bucket(lake)
    client.refuses = code
    if code == "NotImplemented":
        assert "knows no lifecycle rules" in apply(client).notes[0]
    else:
        with pytest.raises(EngagementError):
            apply(client)


def test_a_missing_permission_is_named(lake, apply):
    client = Bucket(lake)
    client.refuses = "AccessDenied"
    with pytest.raises(EngagementError, match="s3:GetLifecycleConfiguration on the bucket bucket"):
        apply(client)


def test_an_owner_who_writes_in_the_same_second_is_told_of(lake, apply):
    class Races(Bucket):
        def put_bucket_lifecycle_configuration(self, Bucket, LifecycleConfiguration, **beside):  # noqa: N803
            super().put_bucket_lifecycle_configuration(Bucket, LifecycleConfiguration, **beside)
            self.rules = [rule for rule in self.rules if rule["ID"] != "logs"]

    with pytest.raises(EngagementError, match="rules of others changed while ours were set: logs"):
        apply(Races(lake, OTHERS))


def test_a_class_that_must_be_restored_first_is_told_of(lake, apply):
    assert apply(Bucket(lake)).notes == []
    step = apply(Bucket(lake), Policy({"archive": Rule(glacier=90)}, "DEEP_ARCHIVE", declared=True))
    assert "DEEP_ARCHIVE objects must be restored" in step.notes[0]


def test_a_folder_has_no_classes(lake, apply):
    lake.url = "/some/folder"
    assert "has no storage classes" in apply(None).notes[0]
    assert apply(None, Policy({"events": Rule(expire=50)}, declared=True)).notes == []
