"""Every setting of every service, read from environment variables (the field's name in capitals).

``python -m services.contract`` prints the table.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Fraction = Annotated[float, Field(gt=0, le=1)]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)


class KafkaSettings(_Settings):
    """What everything that talks to Kafka needs."""

    kafka_bootstrap: str = Field(description="host:port of one or more brokers, separated by commas")
    kafka_topic: str = Field("frames", description="topic of the frames")
    kafka_dead_topic: str = Field("frames.dead", description="topic of messages that can't be handled, with the reason")
    kafka_control_topic: str = Field("frames.control", description="topic on which producers learn their start time")
    max_image_bytes: PositiveInt = Field(
        2 * 1024 * 1024,
        description="largest JPEG; drives the request, message, replica-fetch and fetch limits",
    )


class ReplicationSettings(KafkaSettings):
    """What the making of topics needs beyond the connection."""

    partitions: PositiveInt = Field(8, description="partitions of the frames topic")
    replication_factor: PositiveInt = Field(1, description="replicas of each partition")
    min_insync_replicas: PositiveInt = Field(1, description="replicas that must have a frame before it is acknowledged")


class StatusSettings(_Settings):
    """The small HTTP server with /healthz, /readyz and /metrics that each service runs."""

    status_host: str = Field("0.0.0.0", description="address that /healthz, /readyz and /metrics listen on")
    status_port: NonNegativeInt = Field(8081, description="port of /healthz, /readyz and /metrics; 0 takes a free one")


class MongoSettings(_Settings):
    """Where the frames are kept."""

    mongodb_uri: str = Field(description="MongoDB connection string")
    mongodb_database: str = Field("iot", description="database of the collection frames")
    write_concern: Literal["0", "1", "majority"] = Field("1", description="MongoDB write concern w")
    journal: bool = Field(True, description="MongoDB write concern j: acknowledged only once in the journal")
    mongodb_bulk: Annotated[int, Field(ge=1, le=1000)] = Field(
        32, description="updates in one bulk write; FerretDB deadlocks at about 64"
    )


class ProducerSettings(KafkaSettings, StatusSettings):
    """A process of simulated cameras."""

    run_id: str = Field(description="the run that the frames belong to")
    cameras: PositiveInt = Field(1, description="cameras in this process")
    producer_index: NonNegativeInt = Field(
        0,
        validation_alias="JOB_COMPLETION_INDEX",
        description="number of this process; gives device ids and seeds",
    )
    seed: NonNegativeInt = Field(1, description="seed of the run; scenes and arrivals follow from it")
    rate_hz: PositiveFloat = Field(1.0, description="frames per second of each camera")
    duration_s: PositiveFloat = Field(10.0, description="length of the schedule")
    arrivals: Literal["constant", "poisson", "trace"] = Field("constant", description="law of the intended times")
    trace_file: Path | None = Field(None, description="with arrivals=trace: a text file of seconds, one per line")
    start_at_ns: NonNegativeInt | None = Field(
        None,
        description="when the schedule starts, ns since the epoch; unset: wait for it on the control topic",
    )
    start_timeout_s: PositiveFloat = Field(300.0, description="how long to wait for the start time")
    source: Literal["synthetic", "directory"] = Field("synthetic", description="where the frames come from")
    source_directory: Path | None = Field(None, description="with source=directory: a folder of JPEG or PNG files")
    image_width: Annotated[int, Field(ge=32, le=8192)] = Field(640, description="pixels")
    image_height: Annotated[int, Field(ge=32, le=8192)] = Field(480, description="pixels")
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="JPEG quality")
    pool_frames: PositiveInt = Field(
        256,
        description="most frames encoded before the clock starts, per camera; longer runs stamp them anew",
    )
    acks: Literal["0", "1", "all"] = Field("all", description="Kafka acknowledgements")
    linger_ms: NonNegativeInt = Field(0, description="how long the Kafka client waits to fill a batch")
    delivery_timeout_s: PositiveFloat = Field(120.0, description="a frame not acknowledged by then counts as unsent")
    buffer_bytes: PositiveInt = Field(
        256 * 1024 * 1024, description="unacknowledged bytes a producer holds; a frame beyond it counts as unsent"
    )
    drain_timeout_s: PositiveFloat = Field(20.0, description="how long SIGTERM waits for acknowledgements")
    priority: Literal["normal", "real-time"] = Field(
        "real-time",
        description="real-time: before all ordinary processes, where permitted, so that busy servers delay no camera",
    )

    @model_validator(mode="after")
    def _sources_are_named(self) -> "ProducerSettings":
        if self.arrivals == "trace" and self.trace_file is None:
            raise ValueError("TRACE_FILE must name a file when ARRIVALS is trace")
        if self.source == "directory" and self.source_directory is None:
            raise ValueError("SOURCE_DIRECTORY must name a folder when SOURCE is directory")
        return self


class ConsumerSettings(KafkaSettings, MongoSettings, StatusSettings):
    """What both consumers need."""

    run_id: str = Field(description="the run being measured; part of the consumer group's name")
    consumer_name: str = Field(
        "consumer",
        validation_alias="HOSTNAME",
        description="names this process in files and metrics; the pod's name",
    )
    output_directory: Path = Field(Path("/data"), description="folder of the latency CSV and the final report")
    write_csv: bool = Field(True, description="write the latency CSV; off only to measure what it costs")
    commit_every_s: PositiveFloat = Field(0.25, description="longest time between offset commits")
    drain_timeout_s: PositiveFloat = Field(
        25.0, description="how long SIGTERM or a rebalance waits for frames in flight"
    )
    retry_for_s: PositiveFloat = Field(
        240.0,
        description="how long an unreachable server or database is retried before the process gives up uncommitted",
    )


class DbConsumerSettings(ConsumerSettings):
    """The consumer that stores every frame."""


class InferenceConsumerSettings(ConsumerSettings):
    """The consumer that has every frame labelled."""

    inference_url: str = Field(description="base URL of the inference server, such as http://inference-server:8000")
    images_in_flight: NonNegativeInt = Field(0, description="images in flight to the server; 0 adapts")
    max_images_in_flight: PositiveInt = Field(32, description="upper end when adapting")
    images_per_request: PositiveInt = Field(
        1, description="most frames in one request, of those that came together; no more than BATCH_MAX of the server"
    )
    request_timeout_s: PositiveFloat = Field(30.0, description="one HTTP attempt")


class InferenceServerSettings(_Settings):
    """The Flask + TensorFlow ResNet50 server."""

    inference_host: str = Field("0.0.0.0", description="address to listen on")
    inference_port: NonNegativeInt = Field(8000, description="port to listen on")
    weights: str = Field(
        "auto",
        description="imagenet, a path of a .weights.h5 or .keras file, random, or auto: imagenet if it loads",
    )
    weights_seed: NonNegativeInt = Field(1, description="seed of random weights")
    engine: Literal["tensorflow", "onnxruntime"] = Field("tensorflow", description="what runs the network")
    engine_form: str = Field(
        "auto", description="form of the network, or auto: the fastest that agrees with plain Keras"
    )
    memory_budget_bytes: NonNegativeInt = Field(
        0, description="forms needing more resident memory are ruled out; 0: no limit"
    )
    calibration_s: NonNegativeFloat = Field(
        30.0, description="longest calibration at start-up where the cache has none; 0: take the form expected fastest"
    )
    cache_directory: Path | None = Field(None, description="where calibration results are kept; unset: not kept")
    batch_max: Annotated[int, Field(ge=1, le=64)] = Field(8, description="most images in one forward pass")
    batch_wait_ms: NonNegativeFloat = Field(0.0, description="how long a batch waits to fill while the engine is busy")
    turnaround_ms: NonNegativeFloat = Field(
        40.0, description="most that a pass waits for clients just answered, where they come back at once; 0: never"
    )
    queue_max: PositiveInt = Field(64, description="most images waiting; beyond it 503")
    handler_threads: NonNegativeInt = Field(
        0, description="HTTP handler threads; 0: enough for a full queue, so that it is the queue that turns work away"
    )
    max_request_bytes: PositiveInt = Field(
        32 * 1024 * 1024, description="largest request body, which may hold several images; beyond it 413"
    )
    max_image_bytes: PositiveInt = Field(2 * 1024 * 1024, description="largest request image; beyond it 413")
    max_image_pixels: PositiveInt = Field(32_000_000, description="most pixels of an image; beyond it 413")
    intra_op_threads: NonNegativeInt = Field(0, description="TensorFlow's threads inside an operation; 0 calibrates")
    drain_timeout_s: PositiveFloat = Field(25.0, description="how long SIGTERM waits for requests in flight")
