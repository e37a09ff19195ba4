import pytest
from pydantic import ValidationError

from services.contract import settings as contract
from services.contract.__main__ import rows
from services.contract.settings import DbConsumerSettings, KafkaSettings, MongoSettings, ProducerSettings

CLASSES = [
    model
    for name, model in vars(contract).items()
    if isinstance(model, type) and issubclass(model, contract._Settings) and not name.startswith("_")
]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch):
    for variable in (str(field.validation_alias or name) for m in CLASSES for name, field in m.model_fields.items()):
        monkeypatch.delenv(variable.upper(), raising=False)
        monkeypatch.delenv(variable, raising=False)


def producer(**changes):
    return ProducerSettings(kafka_bootstrap="broker:9092", run_id="run", **changes)


@pytest.mark.parametrize("model", CLASSES)
def test_every_setting_says_what_it_is(model):
    assert all(field.description for field in model.model_fields.values())


def test_settings_come_from_the_environment(monkeypatch):
    environment = {
        "KAFKA_BOOTSTRAP": "a:1,b:2",
        "RUN_ID": "r",
        "RATE_HZ": "2.5",
        "JOB_COMPLETION_INDEX": "3",
        "ACKS": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = ProducerSettings()
    assert (settings.kafka_bootstrap, settings.run_id, settings.rate_hz) == ("a:1,b:2", "r", 2.5)
    assert (settings.producer_index, settings.acks) == (3, "1")


def test_an_index_given_in_code_counts_too():
    assert producer(producer_index=4).producer_index == 4


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    monkeypatch.setenv("CAMERAS", "")
    assert producer().cameras == 1


def test_a_missing_setting_is_named():
    with pytest.raises(ValidationError) as caught:
        ProducerSettings()
    assert {problem["loc"][0] for problem in caught.value.errors()} == {"kafka_bootstrap", "run_id"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cameras", 0),
        ("rate_hz", 0),
        ("rate_hz", -1),
        ("duration_s", 0),
        ("seed", -1),
        ("arrivals", "sometimes"),
        ("acks", "2"),
        ("image_width", 31),
        ("image_height", 8193),
        ("jpeg_quality", 101),
        ("max_image_bytes", 0),
        ("start_at_ns", -5),
        ("priority", "highest"),
    ],
)
def test_an_impossible_value_is_named(field, value):
    with pytest.raises(ValidationError) as caught:
        producer(**{field: value})
    assert [problem["loc"] for problem in caught.value.errors()] == [(field,)]


def test_what_depends_on_another_setting_is_checked(tmp_path):
    with pytest.raises(ValidationError, match="TRACE_FILE must name a file"):
        producer(arrivals="trace")
    with pytest.raises(ValidationError, match="SOURCE_DIRECTORY must name a folder"):
        producer(source="directory")
    assert producer(arrivals="trace", trace_file=tmp_path / "trace").trace_file == tmp_path / "trace"


def test_settings_do_not_change():
    settings = KafkaSettings(kafka_bootstrap="broker:9092")
    with pytest.raises(ValidationError, match="frozen"):
        settings.kafka_topic = "other"  # type: ignore[misc]


def test_a_bulk_of_none_is_refused():
    with pytest.raises(ValidationError):
        MongoSettings(mongodb_uri="mongodb://db", mongodb_bulk=0)


def test_the_table_has_every_setting_of_a_service_once():
    table = rows()
    for service, model in (("producer", ProducerSettings), ("db_consumer", DbConsumerSettings)):
        own = [variable for users, variable, _, _ in table if service in users.split(", ")]
        expected = {str(field.validation_alias or name).upper() for name, field in model.model_fields.items()}
        assert len(own) == len(set(own))
        assert set(own) == expected
