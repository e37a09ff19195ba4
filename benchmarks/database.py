"""What one frame's update costs the database among few documents and among many: it must not grow with the run.

The document is that of the DB consumer: one upsert by ``_id`` that brings a JPEG along.
"""

import argparse
import os
import statistics
import time
import uuid
from typing import Any

from bson import Binary, ObjectId
from pymongo import UpdateOne

from services.contract.database import open_collection
from services.contract.settings import MongoSettings

JPEG_BYTES = 40_000
INSERTED_AT_ONCE = 100


def _update_ms(collection: Any) -> float:
    operation = UpdateOne({"_id": ObjectId()}, {"$set": {"image": Binary(os.urandom(JPEG_BYTES))}}, upsert=True)
    began = time.perf_counter()
    collection.bulk_write([operation], ordered=False)
    return (time.perf_counter() - began) * 1e3


def _fill(collection: Any, documents: int) -> None:
    while missing := documents - collection.estimated_document_count():
        images = [{"image": Binary(os.urandom(JPEG_BYTES))} for _ in range(min(INSERTED_AT_ONCE, missing))]
        collection.insert_many(images)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database", description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[100, 1000, 3000], help="sizes, ascending")
    parser.add_argument("--updates", type=int, default=50, help="timed at each size (default 50)")
    args = parser.parse_args(arguments)

    settings = MongoSettings(mongodb_uri=os.environ["MONGODB_URI"], mongodb_database=f"benchmark-{uuid.uuid4().hex}")
    collection = open_collection(settings)
    try:
        _update_ms(collection)  # connects and makes the collection
        baseline = 0.0
        for documents in args.documents:
            _fill(collection, documents)
            found = sorted(_update_ms(collection) for _ in range(args.updates))
            median = statistics.median(found)
            baseline = baseline or median
            print(
                f"{documents} documents: update median {median:.1f} ms ({found[0]:.1f}-{found[-1]:.1f}), "
                f"{median / baseline:.2f} of that among {args.documents[0]}",
                flush=True,
            )
    finally:
        collection.database.client.drop_database(settings.mongodb_database)


if __name__ == "__main__":
    main()
