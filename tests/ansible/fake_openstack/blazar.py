"""Blazar: leases with flavor reservations. An active one makes the flavor that its servers must have."""

from datetime import UTC, datetime
from typing import Any

import flask
from store import Store, Thing

_ASKED = "%Y-%m-%d %H:%M"
_TOLD = "%Y-%m-%dT%H:%M:%S.%f"


def blueprint(store: Store) -> flask.Blueprint:
    blazar = flask.Blueprint("reservation", __name__)

    @blazar.get("/leases")
    def index() -> dict[str, Any]:
        return {"leases": list(store.of("leases").values())}

    @blazar.post("/leases")
    def create() -> tuple[dict[str, Any], int]:
        asked = flask.request.get_json()
        if any(lease["name"] == asked["name"] for lease in store.of("leases").values()):
            flask.abort(409, f"Lease with name {asked['name']} already exists")
        start = datetime.now(UTC) if asked["start_date"] == "now" else datetime.strptime(asked["start_date"], _ASKED)
        lease = store.add(
            "leases",
            {
                "name": asked["name"],
                "status": "PENDING",
                "start_date": start.strftime(_TOLD),
                "end_date": datetime.strptime(asked["end_date"], _ASKED).strftime(_TOLD),
                "reservations": [],
                "asked": 0,
            },
        )
        for wanted in asked["reservations"]:
            store.get("flavors", wanted["flavor_id"])
            reservation = store.add("reservations", {**wanted, "lease_id": lease["id"], "status": "pending"})
            lease["reservations"].append(reservation)
        return {"lease": lease}, 201

    @blazar.get("/leases/<lease_id>")
    def show(lease_id: str) -> dict[str, Any]:
        lease = store.get("leases", lease_id)
        lease["asked"] += 1
        if lease["status"] == "PENDING" and lease["asked"] > store.polls:
            lease["status"] = store.lease_status
            if lease["status"] == "ACTIVE":
                _reserve(lease)
        return {"lease": lease}

    def _reserve(lease: Thing) -> None:
        for reservation in lease["reservations"]:
            base = store.get("flavors", reservation["flavor_id"])
            name = f"reservation:{reservation['id']}"
            store.add("flavors", {**base, "id": reservation["id"], "name": name, "reservation": True})

    @blazar.put("/leases/<lease_id>")
    def update(lease_id: str) -> dict[str, Any]:
        lease = store.get("leases", lease_id)
        lease["end_date"] = datetime.strptime(flask.request.get_json()["end_date"], _ASKED).strftime(_TOLD)
        return {"lease": lease}

    @blazar.delete("/leases/<lease_id>")
    def delete(lease_id: str) -> tuple[str, int]:
        lease = store.get("leases", lease_id)
        for reservation in lease["reservations"]:
            store.of("flavors").pop(reservation["id"], None)
            del store.of("reservations")[reservation["id"]]
        del store.of("leases")[lease_id]
        return "", 204

    return blazar
