import pytest
from bson import ObjectId
from bson.int64 import Int64

from services.contract.database import DOCUMENT_FIELDS, check, documents, empty, forget_run, open_collection
from services.contract.settings import MongoSettings

IDS = [ObjectId(f"{number:024x}") for number in range(3)]
STORED = {"run": "a", "device": "cam-0000", "bytes": 4, "intended_ns": 1, "sent_ns": 2, "stored_ns": Int64(3)}
LABEL = {"labelled_ns": Int64(4), "label": "hen", "class_id": 8, "score": 0.5, "model": "resnet50"}


class Collection:
    """A collection in memory, with as much of a database around it as `check` asks for."""

    def __init__(self, documents=(), server=None):
        self.documents = list(documents)
        self.server = server or {"version": "7.0.1"}
        self.database = self.client = self.admin = self
        self.others = {}

    def __getitem__(self, name):
        return self.others.setdefault(name, type(self)())

    def command(self, name):
        return {"buildInfo": self.server}[name]

    def find(self, query, projection=None):
        hidden = {name for name, shown in (projection or {}).items() if not shown}
        for document in self.documents:
            if query.items() <= document.items():
                yield {name: value for name, value in document.items() if name not in hidden}

    def find_one(self, query):
        return next(self.find(query), None)

    def replace_one(self, query, document, upsert):
        self.delete_many(query)
        self.documents.append(dict(document))

    def create_index(self, field):
        self.indexed = field

    def drop(self):
        self.documents = []

    def delete_many(self, query):
        kept = [document for document in self.documents if not query.items() <= document.items()]
        self.deleted_count = len(self.documents) - len(kept)
        self.documents = kept
        return self


class Forgetful(Collection):
    """Takes writes and gives back nothing."""

    def find_one(self, query):
        return None


@pytest.fixture
def collection():
    whole = {"_id": IDS[0], **STORED, "seq": 0, "image": b"jpeg", "inference": LABEL}
    unlabelled = {"_id": IDS[1], **STORED, "seq": 1, "image": b"jpeg"}
    other = {"_id": IDS[2], **STORED, "seq": 0, "run": "b"}
    return Collection([whole, unlabelled, other])


@pytest.mark.parametrize(
    ("write_concern", "journal", "concern"),
    [
        ("0", True, {"w": 0}),  # nobody can journal what nobody acknowledges
        ("1", True, {"w": 1, "j": True}),
        ("1", False, {"w": 1, "j": False}),
        ("majority", True, {"w": "majority", "j": True}),
    ],
)
def test_the_collection_is_that_of_the_settings(write_concern, journal, concern):
    uri = "mongodb://127.0.0.1:1/"
    settings = MongoSettings(mongodb_uri=uri, mongodb_database="lab", write_concern=write_concern, journal=journal)
    opened = open_collection(settings)
    try:
        assert opened.full_name == "lab.frames"
        assert opened.write_concern.document == concern
        assert opened.database.client.options.retry_writes is False
    finally:
        opened.database.client.close()


@pytest.mark.parametrize(
    ("server", "answer"),
    [
        ({"version": "8.0.1"}, {"name": "MongoDB", "version": "8.0.1", "stand_in": False}),
        (
            {"version": "7.0.77", "ferretdbVersion": "v1.24.0"},
            {"name": "FerretDB", "version": "7.0.77", "stand_in": True},
        ),
    ],
)
def test_a_checked_server_is_named(server, answer):
    collection = Collection(server=server)
    assert check(collection) == answer
    assert check(collection) == answer
    assert len(collection["readiness"].documents) == 1
    assert collection.documents == []


def test_a_server_that_forgets_what_was_written_is_an_error():
    with pytest.raises(RuntimeError, match="did not give back"):
        check(Forgetful())


def test_the_documents_of_a_run_are_flat_and_without_images(collection):
    whole, unlabelled = documents(collection, "a")
    assert list(whole) == list(unlabelled) == list(DOCUMENT_FIELDS)
    assert whole == {
        "image_id": str(IDS[0]),
        "run_id": "a",
        "device_id": "cam-0000",
        "seq": 0,
        "bytes": 4,
        "intended_ns": 1,
        "sent_ns": 2,
        "stored_ns": 3,
        "labelled_ns": 4,
        "label": "hen",
        "class_id": 8,
        "score": 0.5,
    }
    assert [unlabelled[name] for name in ("labelled_ns", "label", "class_id", "score")] == [None] * 4


def test_a_document_that_only_one_consumer_wrote_lacks_the_rest():
    labelled = {"_id": IDS[0], "run": "a", "inference": LABEL}
    (document,) = documents(Collection([labelled]), "a")
    assert (document["label"], document["stored_ns"], document["seq"]) == ("hen", None, None)


def test_only_the_run_that_is_named_is_forgotten(collection):
    assert forget_run(collection, "a") == 2
    assert forget_run(collection, "a") == 0
    assert [document["run"] for document in collection.documents] == ["b"]
    assert collection.indexed == "run"


def test_an_emptied_collection_holds_no_run(collection):
    empty(collection)
    assert list(documents(collection, "a")) == list(documents(collection, "b")) == []
