import json

import pytest

from services.contract import broker, database, toolbox


def ask(**request):
    return list(toolbox.answer(json.dumps(request)))


@pytest.fixture
def pipeline(monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("MONGODB_URI", "mongodb://mongodb:27017/")
    return monkeypatch


def test_an_answer_ends_with_its_value(pipeline):
    asked = []
    pipeline.setattr(broker, "lag", lambda settings, run_id, groups: asked.append((run_id, groups)) or {"a": 3})
    assert ask(do="lag", run_id="s/p/1", groups=["a"]) == [{"done": {"a": 3}}]
    assert asked == [("s/p/1", ("a",))]


def test_settings_of_a_question_add_to_the_environment(pipeline):
    made = []
    pipeline.setattr(broker, "renew_topics", made.append)
    assert ask(do="renew_topics", settings={"partitions": "3"}) == [{"done": None}]
    assert (made[0].kafka_bootstrap, made[0].partitions) == ("kafka:9092", 3)


def test_the_start_that_is_published_is_the_one_that_is_answered(pipeline):
    published = []
    pipeline.setattr(broker, "publish_start", lambda settings, run_id, start_at_ns: published.append(start_at_ns))
    (reply,) = ask(do="start", run_id="r", lead_s=2.0)
    assert published == [reply["done"]]


def test_documents_come_in_parts_that_can_be_unpacked(pipeline):
    held = [{"image_id": f"{number:024x}", "label": "é"} for number in range(4500)]
    pipeline.setattr(database, "documents", lambda collection, run_id: iter(held))
    *parts, last = ask(do="documents", run_id="r")
    assert last == {"done": None}
    assert len(parts) == 3
    assert [document for part in parts for document in toolbox.unpack(part["part"])] == held


def test_a_damaged_part_is_refused():
    with pytest.raises(ValueError, match="damaged"):
        toolbox.unpack("AAAA")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"do": "fly"}', "KeyError: 'fly'"),
        ("not json", "JSONDecodeError"),
        ('{"do": "lag"}', "run_id"),
    ],
)
def test_an_error_is_an_answer(line, words):
    (reply,) = toolbox.answer(line)
    assert words in reply["error"]


def test_a_missing_setting_is_named(monkeypatch):
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    (reply,) = ask(do="end_offsets")
    assert "kafka_bootstrap" in reply["error"].lower()
