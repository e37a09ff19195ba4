"""The database server itself: what the pipeline relies on."""

import threading

from bson import Binary, ObjectId
from pymongo import UpdateOne

from services.contract.database import documents, empty, open_collection
from services.contract.settings import MongoSettings


def test_concurrent_updates_of_one_document_lose_nothing(backend):
    ids = [ObjectId() for _ in range(200)]
    together = threading.Barrier(2)

    def write(field: str, value: object) -> None:
        collection = open_collection(MongoSettings(mongodb_uri=backend.stack.mongodb_uri))
        together.wait()
        for object_id in ids:
            collection.bulk_write([UpdateOne({"_id": object_id}, {"$set": {field: value}}, upsert=True)])

    writers = [
        threading.Thread(target=write, args=("image", Binary(b"x" * 30_000))),
        threading.Thread(target=write, args=("inference.label", "cat")),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    collection = open_collection(MongoSettings(mongodb_uri=backend.stack.mongodb_uri))
    found = list(collection.find({"_id": {"$in": ids}}))
    collection.delete_many({"_id": {"$in": ids}})
    assert len(found) == 200
    assert all("image" in document and "inference" in document for document in found)


def test_a_run_begins_with_an_empty_collection(backend, measured):
    collection = open_collection(MongoSettings(mongodb_uri=backend.stack.mongodb_uri))
    first, second = (measured(rate_hz=2, duration_s=2) for _ in range(2))
    assert list(documents(collection, first.info["run_id"])) == []
    assert collection.count_documents({}) == second.info["counts"]["stored"] == 4
    empty(collection)
    empty(collection)  # also when nothing is there
    assert collection.count_documents({}) == 0
