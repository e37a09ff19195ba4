"""What the fake cloud holds, and the faults that tests order."""

import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

import flask

Thing = dict[str, Any]


@dataclass
class Fault:
    """Answer `status` with `message` to the next `times` requests whose "METHOD /path" matches `pattern`."""

    pattern: str
    status: int
    message: str
    times: int = 1
    after: bool = False
    """Carry the request out first and lose its answer: what a broken connection looks like."""


@dataclass
class Store:
    """Collections by name, each {id: thing}, in memory and behind one lock."""

    collections: dict[str, dict[str, Thing]] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    """Every request that changes something and was carried out, as "METHOD /path"."""
    unknown: list[str] = field(default_factory=list)
    """Requests that the fake does not know: a test's finding, not a client's error."""
    faults: list[Fault] = field(default_factory=list)
    lease_status: str = "ACTIVE"
    """What a lease becomes once it has been asked for `polls` times; PENDING keeps it waiting."""
    polls: int = 1
    lock: threading.RLock = field(default_factory=threading.RLock)

    def of(self, collection: str) -> dict[str, Thing]:
        return self.collections.setdefault(collection, {})

    def add(self, collection: str, thing: Thing) -> Thing:
        thing.setdefault("id", str(uuid.uuid4()))
        self.of(collection)[thing["id"]] = thing
        return thing

    def get(self, collection: str, thing_id: str) -> Thing:
        """The thing, or HTTP 404."""
        if thing_id not in self.of(collection):
            flask.abort(404, f"no {collection} {thing_id}")
        return self.of(collection)[thing_id]

    def select(self, collection: str, query: dict[str, str]) -> list[Thing]:
        """Things whose fields equal the query's, as far as they have those fields."""
        return [
            thing
            for thing in self.of(collection).values()
            if all(str(thing.get(k)) == v for k, v in query.items() if k in thing)
        ]

    def take_fault(self, request: str, after: bool) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.after == after and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return None
