import pytest
from hypothesis import given
from hypothesis import strategies as st

from latencylab.backends.backend import RunPlan, server_environment, topic_environment
from latencylab.experiment import Experiment, ExperimentError
from services.contract import settings as contract


def test_the_defaults_are_possible_and_every_parameter_says_what_it_is():
    assert Experiment.parse({}) == Experiment()
    assert all(field.description for field in Experiment.model_fields.values())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"producers": 0}, "producers: .*(got 0)"),
        ({"rate_hz": -1}, "rate_hz: "),
        ({"rate_hz": "fast"}, "rate_hz: "),
        ({"duration_s": 0}, "duration_s: "),
        ({"arrivals": "bursty"}, "arrivals: .*'constant', 'poisson' or 'trace'"),
        ({"jpeg_quality": 101}, "jpeg_quality: "),
        ({"max_image_bytes": 3}, "max_image_bytes: "),
        ({"acks": "2"}, "acks: "),
        ({"batch_max": 65}, "batch_max: "),
        ({"trace_file": "no/such/file"}, "trace_file: no/such/file does not exist"),
        ({"source_directory": "no/such/folder"}, "source_directory: no/such/folder does not exist"),
        ({"arrivals": "trace"}, "trace_file must name a file"),
        ({"source": "directory"}, "source_directory must name a folder"),
        ({"inference_consumers": 9}, "9 consumers can't share 8 partitions: raise partitions to 9"),
        ({"write_concern": "0"}, "journal must be false"),
        ({"rate_hz": 0.1, "duration_s": 5}, "rate_hz × duration_s gives no frame"),
    ],
)
def test_an_impossible_value_is_refused_with_its_name(values, told):
    with pytest.raises(ExperimentError, match=told):
        Experiment.parse(values)


def test_an_unknown_parameter_is_refused_with_those_there_are():
    with pytest.raises(ExperimentError, match=r"^producer: no such parameter; known are: backend, producers"):
        Experiment.parse({"producer": 1})


def test_every_wrong_field_has_its_line():
    with pytest.raises(ExperimentError) as caught:
        Experiment.parse({"producers": 0, "rate": 1, "partitions": 0})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["producers", "partitions", "rate"]


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.1, 100))
def test_the_offered_rate_is_that_of_all_cameras(producers, cameras, rate_hz):
    experiment = Experiment.parse({"producers": producers, "cameras_per_producer": cameras, "rate_hz": rate_hz})
    assert experiment.cameras == producers * cameras
    assert experiment.offered_hz == experiment.cameras * rate_hz


def test_the_fingerprint_follows_from_the_parameters_alone():
    assert Experiment.parse({}).fingerprint() == Experiment.parse({"producers": 1}).fingerprint()
    changed = {"producers": 2, "rate_hz": 2.0, "write_csv": False, "weights": "random", "drain_timeout_s": 61}
    prints = {Experiment.parse({name: value}).fingerprint() for name, value in changed.items()}
    assert len(prints | {Experiment().fingerprint()}) == len(changed) + 1


def test_what_a_run_hands_to_the_services_are_settings_they_know():
    plan = RunPlan("sweep/point/1", Experiment.parse({"weights": "random", "linger_ms": 3}), 1001)
    handed = {
        contract.ProducerSettings: plan.producer_environment(),
        contract.InferenceConsumerSettings: plan.consumer_environment(),
        contract.InferenceServerSettings: server_environment(plan.experiment),
        contract.ReplicationSettings: topic_environment(plan.experiment),
    }
    for model, environment in handed.items():
        assert {name.lower() for name in environment} <= set(model.model_fields), model


def test_a_run_from_before_a_request_had_several_images_is_still_read():
    assert Experiment.parse({"requests_in_flight": 4}) == Experiment.parse({"images_in_flight": 4})


@pytest.mark.parametrize(("server", "images"), [({}, 4), ({"batch_max": 2}, 2), ({"queue_max": 1}, 1)])
def test_a_request_has_no_more_images_than_one_pass_of_the_server_takes(server, images):
    plan = RunPlan("sweep/point/1", Experiment.parse(server), 1001)
    assert plan.consumer_environment()["IMAGES_PER_REQUEST"] == str(images)


def test_the_services_get_the_values_of_the_experiment(monkeypatch):
    parameters = {"cameras_per_producer": 3, "rate_hz": 2.5, "acks": "1", "journal": False, "images_in_flight": 4}
    plan = RunPlan("sweep/point/1", Experiment.parse(parameters), 1001)
    for name, value in (plan.producer_environment() | plan.consumer_environment()).items():
        monkeypatch.setenv(name, value)
    producer = contract.ProducerSettings(kafka_bootstrap="a:1")  # type: ignore[call-arg]
    assert (producer.cameras, producer.rate_hz, producer.acks, producer.seed) == (3, 2.5, "1", 1001)
    addresses = {"kafka_bootstrap": "a:1", "mongodb_uri": "mongodb://db", "inference_url": "http://server"}
    consumer = contract.InferenceConsumerSettings(**addresses)  # type: ignore[arg-type]
    assert (consumer.run_id, consumer.journal, consumer.images_in_flight) == ("sweep/point/1", False, 4)
