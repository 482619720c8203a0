"""Settings: where a value comes from, what is refused and in which words, what a child process gets."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement import settings as settings_module
from engagement.settings import SettingsError, load


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "engagement.toml").write_text(text)
        return tmp_path

    return write


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(toml):
    folder = toml("flush_seconds = 30\nflush_bytes = 7\n")
    found = load({"ENGAGEMENT_FLUSH_SECONDS": "10"}, folder)
    assert (found.flush_seconds, found.flush_bytes, found.buffer_bytes) == (10, 7, 512 << 20)
    assert found.masked()["ENGAGEMENT_FLUSH_SECONDS"] == ("10", "environment")
    assert found.masked()["ENGAGEMENT_FLUSH_BYTES"] == ("7", "engagement.toml")
    assert found.masked()["ENGAGEMENT_BUFFER_BYTES"] == (str(512 << 20), "default")


def test_an_option_wins_over_everything_and_none_is_no_option(toml):
    folder = toml("flush_seconds = 30\n")
    environ = {"ENGAGEMENT_FLUSH_SECONDS": "10"}
    assert load(environ, folder, flush_seconds=5).flush_seconds == 5
    assert load(environ, folder, flush_seconds=None).flush_seconds == 10


def test_without_anything_set_there_are_only_defaults(tmp_path):
    found = load({}, tmp_path)
    assert not found.sources
    assert {source for _, source in found.masked().values()} == {"default"}


def test_variables_of_other_programs_are_not_ours(tmp_path):
    assert load({"PATH": "/bin", "XENGAGEMENT_NONSENSE": "1", "ENGAGEMENTX": "1"}, tmp_path) == load({}, tmp_path)


def test_relative_paths_count_from_the_folder_of_the_file(toml):
    folder = toml('lake_url = "data/lake"\n')
    found = load({"ENGAGEMENT_STATE_DIR": "../state"}, folder)
    assert found.lake_path == folder / "data" / "lake"
    assert found.state_dir == folder.parent / "state"


def test_relative_paths_count_from_the_working_directory_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load({})
    assert found.lake_path == tmp_path / ".engagement" / "lake"
    assert found.state_dir == tmp_path / ".engagement"


def test_absolute_paths_stay(tmp_path):
    assert load({"ENGAGEMENT_LAKE_URL": "/somewhere/lake"}, tmp_path).lake_path == Path("/somewhere/lake")


def test_an_unknown_variable_is_named_with_the_nearest_valid_ones(tmp_path):
    with pytest.raises(SettingsError, match=r"ENGAGEMENT_FLUSH_SECOND in the environment; nearest valid names: ENGAGEMENT_FLUSH_SECONDS"):
        load({"ENGAGEMENT_FLUSH_SECOND": "1"}, tmp_path)


def test_an_unknown_name_in_the_file_is_named_with_the_nearest_valid_ones(toml):
    with pytest.raises(SettingsError, match=r"unknown setting slot_minute in engagement.toml; nearest valid names: slot_minutes"):
        load({}, toml("slot_minute = 30\n"))


def test_a_name_like_nothing_lists_all_valid_names(tmp_path):
    with pytest.raises(SettingsError) as error:
        load({"ENGAGEMENT_" + "Q" * 60: "1"}, tmp_path)
    assert all(f"ENGAGEMENT_{name}" in str(error.value) for name in ("LAKE_URL", "FLUSH_SECONDS", "THREADS"))


@pytest.mark.parametrize("name", ["ENGAGEMENT_KAFKA", "ENGAGEMENT_SOURCES"])
def test_fields_that_are_no_settings_cannot_be_set(name, tmp_path):
    with pytest.raises(SettingsError, match=name):
        load({name: "x"}, tmp_path)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("ENGAGEMENT_FLUSH_SECONDS", "soon", "ENGAGEMENT_FLUSH_SECONDS='soon': expected a whole number"),
        ("ENGAGEMENT_FLUSH_SECONDS", "1.5", "expected a whole number"),
        ("ENGAGEMENT_FLUSH_SECONDS", "", "expected a whole number"),
        ("ENGAGEMENT_FLUSH_SECONDS", "0", "ENGAGEMENT_FLUSH_SECONDS=0: must be at least 1"),
        ("ENGAGEMENT_DAGSTER_PORT", "65536", "must be from 1 to 65535"),
        ("ENGAGEMENT_SESSION_GAP_SECONDS", "59", "must be from 60 to 14400"),
        ("ENGAGEMENT_SESSION_GAP_SECONDS", "14401", "must be from 60 to 14400"),
        ("ENGAGEMENT_HISTORY_START", "yesterday", "ENGAGEMENT_HISTORY_START='yesterday': expected a day as YYYY-MM-DD"),
        ("ENGAGEMENT_SLOT_MINUTES", "7", "ENGAGEMENT_SLOT_MINUTES=7: must divide 60"),
        ("ENGAGEMENT_SESSION_MODE", "device", "must be one of gap, client"),
        ("ENGAGEMENT_ENGINE", "spark", "must be one of duckdb"),
        ("ENGAGEMENT_LAKE_URL", "gs://bucket/lake", "must be a folder or s3://bucket/prefix"),
    ],
)
def test_an_unreadable_value_names_the_setting_and_what_is_valid(variable, text, words, tmp_path):
    with pytest.raises(SettingsError) as error:
        load({variable: text}, tmp_path)
    assert words in str(error.value)
    assert variable in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variable", "texts"), [("DAGSTER_PORT", ("1", "65535")), ("SESSION_GAP_SECONDS", ("60", "14400")), ("THREADS", ("0",))]
)
def test_the_limits_themselves_are_valid(variable, texts, tmp_path):
    for text in texts:
        assert getattr(load({f"ENGAGEMENT_{variable}": text}, tmp_path), variable.lower()) == int(text)


def test_a_file_that_is_no_toml_is_named(toml):
    with pytest.raises(SettingsError, match=r"engagement\.toml: not readable as TOML"):
        load({}, toml("flush_seconds = = 3"))


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "engagement.toml").write_bytes(b'topic_prefix = "\xff"\n')
    with pytest.raises(SettingsError, match=r"engagement\.toml: not readable as TOML"):
        load({}, tmp_path)


def test_a_day_may_stand_in_the_file_as_a_date_or_as_text(toml):
    assert load({}, toml("history_start = 2021-02-03\n")).history_start == date(2021, 2, 3)
    assert load({}, toml('history_start = "2021-02-03"\n')).history_start == date(2021, 2, 3)


@pytest.mark.parametrize("text", ["[1]", "{a = 1}", "inf", "1.5", "true"])
def test_a_value_of_another_type_in_the_file_is_refused(text, toml):
    with pytest.raises(SettingsError, match="flush_seconds"):
        load({}, toml(f"flush_seconds = {text}\n"))


def test_a_time_of_day_in_the_history_start_is_refused_or_cut(toml):
    try:
        found = load({}, toml("history_start = 2021-02-03T04:05:06Z\n")).history_start
    except SettingsError:
        return
    assert found.isoformat() == "2021-02-03"


def test_kafka_properties_come_from_both_places_and_the_environment_wins(toml):
    folder = toml('[kafka]\n"security.protocol" = "SSL"\nsasl__mechanism = "PLAIN"\n')
    found = load({"ENGAGEMENT_KAFKA__security__protocol": "SASL_SSL", "ENGAGEMENT_KAFKA__CLIENT__ID": "x"}, folder)
    assert found.kafka == {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "client.id": "x"}
    shown = found.masked()
    assert shown["ENGAGEMENT_KAFKA__security__protocol"] == ("SASL_SSL", "environment")
    assert shown["ENGAGEMENT_KAFKA__sasl__mechanism"] == ("PLAIN", "engagement.toml")


def test_kafka_properties_win_over_ours_and_the_callers_over_theirs(tmp_path):
    found = load({"ENGAGEMENT_KAFKA__enable__auto__commit": "true"}, tmp_path, kafka_bootstrap_servers="a:1,b:2")
    assert found.kafka_config() == {"bootstrap.servers": "a:1,b:2", "enable.auto.commit": "true"}
    assert found.kafka_config(**{"enable.auto.commit": False})["enable.auto.commit"] is False


@pytest.mark.parametrize(
    "name", ["sasl__password", "ssl__key__password", "sasl__jaas__config", "sasl__oauthbearer__client__secret", "x__TOKEN"]
)
def test_secrets_are_masked(name, tmp_path):
    shown = load({f"ENGAGEMENT_KAFKA__{name}": "hush-hush"}, tmp_path).masked()
    assert "hush-hush" not in str(shown)
    assert shown[f"ENGAGEMENT_KAFKA__{name.lower()}"] == ("***", "environment")


def test_topics_carry_the_prefix(tmp_path):
    assert load({"ENGAGEMENT_TOPIC_PREFIX": "dev-"}, tmp_path).topics == {
        "dev-install": "install",
        "dev-session": "session",
        "dev-view_notification": "view_notification",
    }


def test_a_child_gets_absolute_paths_and_no_defaults(toml):
    folder = toml('lake_url = "lake"\n')
    env = load({"ENGAGEMENT_FLUSH_SECONDS": "10", "ENGAGEMENT_KAFKA__security__protocol": "SSL"}, folder).environment()
    assert env == {
        "ENGAGEMENT_LAKE_URL": str(folder / "lake"),
        "ENGAGEMENT_STATE_DIR": str(folder / ".engagement"),
        "ENGAGEMENT_MODEL": "",
        "ENGAGEMENT_RETENTION": "",
        "ENGAGEMENT_SLA": "",
        "ENGAGEMENT_FLUSH_SECONDS": "10",
        "ENGAGEMENT_KAFKA__security__protocol": "SSL",
    }


def test_the_model_is_the_file_beside_the_toml_if_there_is_one(toml):
    folder = toml('lake_url = "lake"\n')
    assert load({}, folder).model == ""
    assert load({"ENGAGEMENT_MODEL": "mine.toml"}, folder).model == str(folder / "mine.toml")
    (folder / "model.toml").touch()
    parent = load({}, folder)
    assert parent.model == str(folder / "model.toml")
    assert load(parent.environment(), Path("/elsewhere")).model == parent.model
    assert load({"ENGAGEMENT_MODEL": ""}, folder).model == ""


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "ENGAGEMENT_LAKE_URL": st.sampled_from(["lake", "a/../b", "/abs/lake"]),
        "ENGAGEMENT_STATE_DIR": st.sampled_from(["state", "/abs/state"]),
        "ENGAGEMENT_TOPIC_PREFIX": st.text("abc-._", max_size=5),
        "ENGAGEMENT_FLUSH_BYTES": st.integers(1, 10**12).map(str),
        "ENGAGEMENT_HISTORY_START": st.dates().map(str),
        "ENGAGEMENT_SLOT_MINUTES": st.sampled_from(["1", "20", "60"]),
        "ENGAGEMENT_SESSION_MODE": st.sampled_from(["gap", "client"]),
        "ENGAGEMENT_SESSION_GAP_SECONDS": st.integers(60, 14400).map(str),
        "ENGAGEMENT_KAFKA__sasl__password": st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=8),
    },
)


@given(VALUES)
def test_a_child_in_any_folder_reads_the_same_settings(environ):
    parent = load(environ, Path("/parent"))
    child = load(parent.environment(), Path("/child"))
    assert {name: getattr(child, name) for name in parent.__slots__ if name != "sources"} == {
        name: getattr(parent, name) for name in parent.__slots__ if name != "sources"
    }
    assert set(child.sources) == set(parent.sources) | {"lake_url", "state_dir", "model", "retention", "sla"}


def test_nothing_is_read_at_import(monkeypatch):
    import importlib.util

    monkeypatch.setenv("ENGAGEMENT_NONSENSE", "1")
    spec = importlib.util.spec_from_file_location("settings_again", settings_module.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "settings_again", module)
    spec.loader.exec_module(module)


@pytest.mark.parametrize(
    ("name", "shown"), [("sasl.pasword", "***"), ("sasl.passwort", "***"), ("sasl.mechanism", "v"), ("sasl.username", "v"), ("acks", "v")]
)
def test_a_misspelt_password_is_masked_too(tmp_path, name, shown):
    variable = "ENGAGEMENT_KAFKA__" + name.replace(".", "__")
    assert settings_module.load(environ={variable: "v"}, folder=tmp_path).masked()[variable][0] == shown


def test_the_hash_key_is_masked_and_comes_from_the_environment_alone(tmp_path):
    found = load({"ENGAGEMENT_HASH_KEY": "k" * 32}, tmp_path)
    assert found.masked()["ENGAGEMENT_HASH_KEY"] == ("***", "environment")
    assert "k" * 32 not in repr(found)
    assert found.environment()["ENGAGEMENT_HASH_KEY"] == "k" * 32
    (tmp_path / "engagement.toml").write_text('hash_key = "a secret that somebody would commit"')
    with pytest.raises(SettingsError, match=r"^hash_key in engagement\.toml: a secret comes from the environment alone"):
        load({}, tmp_path)


@pytest.mark.parametrize("key", ["short", "k" * 16 + ",short", " " + "k" * 20])
def test_a_weak_hash_key_is_refused_without_showing_it(key, tmp_path):
    with pytest.raises(SettingsError, match=r"HASH_KEY: at least 16 characters") as error:
        load({"ENGAGEMENT_HASH_KEY": key}, tmp_path)
    assert key not in str(error.value)


def test_hashed_user_ids_need_a_word_on_the_bytes_of_rejects(tmp_path):
    with pytest.raises(SettingsError, match="USER_IDS=hashed needs ENGAGEMENT_KEEP_BYTES"):
        load({"ENGAGEMENT_USER_IDS": "hashed"}, tmp_path)
    assert load({"ENGAGEMENT_USER_IDS": "hashed", "ENGAGEMENT_KEEP_BYTES": "all"}, tmp_path).user_ids == "hashed"
