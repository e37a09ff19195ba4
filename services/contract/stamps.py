"""Stamps and stages: the points in a frame's life and the time between neighbouring ones.

Every stamp is an int64 count of nanoseconds since the Unix epoch, read from `services.contract.clock.Clock`.
"""

from typing import Final

INFERENCE_STAMPS: Final = (
    "intended_ns",  # when the open-loop schedule says the frame leaves the camera
    "sent_ns",  # when the producer handed the frame to its Kafka client
    "received_ns",  # when the inference consumer's poll returned the frame
    "requested_ns",  # when the successful HTTP request started
    "answered_ns",  # when its answer had been read
    "labelled_ns",  # when MongoDB had acknowledged the label
)
"""The inference path, in order; its end-to-end latency is ``labelled_ns - intended_ns``."""

STORAGE_STAMPS: Final = (
    "intended_ns",
    "sent_ns",
    "storage_received_ns",  # when the DB consumer's poll returned the frame
    "stored_ns",  # when MongoDB had acknowledged the frame
)
"""The storage path, in order; its end-to-end latency is ``stored_ns - intended_ns``."""

INFERENCE_STAGES: Final = ("lateness", "broker", "waiting", "inference", "labelling")
"""Names of the gaps between neighbouring `INFERENCE_STAMPS`; they sum exactly to the end-to-end latency."""

STORAGE_STAGES: Final = ("lateness", "storage_broker", "storing")
"""Names of the gaps between neighbouring `STORAGE_STAMPS`; they sum exactly to the end-to-end latency."""

SERVER_DURATIONS: Final = ("server_queue_ns", "server_decode_ns", "server_inference_ns")
"""The server's own account of the time inside the stage ``inference``; what is left of it is HTTP and network."""
