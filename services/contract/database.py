"""What a run needs of MongoDB besides the writes: the collection, proof that it works, what it holds of a run."""

import uuid
from collections.abc import Iterator
from typing import Any, Final

from pymongo import MongoClient, WriteConcern

from services.contract.settings import MongoSettings

DOCUMENT_FIELDS: Final = {
    "image_id": "_id",
    "run_id": "run",
    "device_id": "device",
    "seq": "seq",
    "bytes": "bytes",
    "intended_ns": "intended_ns",
    "sent_ns": "sent_ns",
    "stored_ns": "stored_ns",
    "labelled_ns": "inference.labelled_ns",
    "label": "inference.label",
    "class_id": "inference.class_id",
    "score": "inference.score",
}
"""Columns of a run's documents and the fields they come from."""


def open_collection(settings: MongoSettings) -> Any:
    """The collection of frames with the run's write concern; it connects when first used."""
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri, appname="latencylab", retryWrites=False)
    acknowledged = settings.write_concern if settings.write_concern == "majority" else int(settings.write_concern)
    concern = WriteConcern(w=acknowledged, j=settings.journal if acknowledged else None)
    return client[settings.mongodb_database].get_collection("frames", write_concern=concern)


def check(collection: Any) -> dict[str, Any]:
    """Write a document, read it back, and say what server did it: name, version, whether it is a stand-in.

    Raises `PyMongoError` when it can't be reached, `RuntimeError` when it gives back something else.
    """
    mark = {"_id": "readiness", "written": uuid.uuid4().hex}
    probe = collection.database["readiness"]
    probe.replace_one({"_id": mark["_id"]}, mark, upsert=True)
    if probe.find_one({"_id": mark["_id"]}) != mark:
        raise RuntimeError("MongoDB did not give back what was written to its collection readiness")
    info = collection.database.client.admin.command("buildInfo")
    stand_in = "ferretdbVersion" in info
    return {"name": "FerretDB" if stand_in else "MongoDB", "version": info["version"], "stand_in": stand_in}


def empty(collection: Any) -> None:
    """Drop the collection, of a database that is the laboratory's own: every run begins with the same empty one, as it
    does with empty topics, and isn't the slower for the runs before it."""
    collection.drop()


def forget_run(collection: Any, run_id: str) -> int:
    """Delete what an earlier attempt at the same run left, in somebody's database; the number of documents."""
    collection.create_index("run")
    return int(collection.delete_many({"run": run_id}).deleted_count)


def documents(collection: Any, run_id: str) -> Iterator[dict[str, Any]]:
    """What the collection holds of a run, image bytes left out: one flat dictionary with `DOCUMENT_FIELDS` each."""
    for document in collection.find({"run": run_id}, {"image": 0}):
        yield {column: _dig(document, path) for column, path in DOCUMENT_FIELDS.items()}


def _dig(document: dict[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return str(value) if path == "_id" else value
