"""The validated parameters of one measurement."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from latencylab import paths

Count = Annotated[int, Field(ge=1)]


class ExperimentError(ValueError):
    """An experiment that can't be run; one line per field that is wrong."""


class Experiment(BaseModel):
    """What one run measures. Every field can be a factor of a sweep and a parameter of ``02_run_point``."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    backend: Literal["local", "kubernetes"] = Field("local", description="where the pipeline runs")
    producers: Count = Field(1, description="producer processes (pods of the producer Job)")
    cameras_per_producer: Count = Field(1, description="cameras in each producer process")
    rate_hz: Annotated[float, Field(gt=0, le=10_000)] = Field(1.0, description="frames per second of each camera")
    duration_s: Annotated[float, Field(gt=0, le=86_400)] = Field(20.0, description="length of the load")
    arrivals: Literal["constant", "poisson", "trace"] = Field("constant", description="law of the intended times")
    trace_file: str = Field("", description="if arrivals is trace: file of seconds, one per line")
    seed: Annotated[int, Field(ge=0)] = Field(1, description="seed of scenes, arrivals and random weights' run ids")
    source: Literal["synthetic", "directory"] = Field("synthetic", description="where the frames come from")
    source_directory: str = Field("", description="if source is directory: folder of JPEG or PNG files")
    image_width: Annotated[int, Field(ge=32, le=8192)] = Field(640, description="pixels")
    image_height: Annotated[int, Field(ge=32, le=8192)] = Field(480, description="pixels")
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(85, description="JPEG quality")
    max_image_bytes: Annotated[int, Field(ge=1024, le=32 * 1024 * 1024)] = Field(
        2 * 1024 * 1024, description="largest JPEG; drives every limit between camera and consumer"
    )
    partitions: Count = Field(8, description="partitions of the frames topic")
    acks: Literal["0", "1", "all"] = Field("all", description="Kafka acknowledgements the producers wait for")
    linger_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(0, description="Kafka producer linger")
    db_consumers: Count = Field(1, description="DB consumer processes")
    inference_consumers: Count = Field(1, description="inference consumer processes")
    images_in_flight: Annotated[int, Field(ge=0, le=256)] = Field(
        0,
        validation_alias=AliasChoices("images_in_flight", "requests_in_flight"),  # so called in runs of one a request
        description="images that each inference consumer keeps in flight; 0 adapts",
    )
    write_concern: Literal["0", "1", "majority"] = Field("1", description="MongoDB write concern w")
    journal: bool = Field(True, description="MongoDB write concern j")
    weights: str = Field("auto", description="imagenet, random, a weights file, or auto: imagenet if it loads")
    engine: Literal["tensorflow", "onnxruntime"] = Field("tensorflow", description="what runs the network")
    engine_form: str = Field("auto", description="form of the network, or auto: the fastest by calibration")
    batch_max: Annotated[int, Field(ge=1, le=64)] = Field(8, description="most images in one forward pass")
    batch_wait_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(0.0, description="how long a batch waits to fill")
    queue_max: Annotated[int, Field(ge=1, le=100_000)] = Field(64, description="most images waiting in the server")
    memory_budget_bytes: Annotated[int, Field(ge=0)] = Field(0, description="server's memory limit; 0: none")
    cpu_limit: Annotated[float, Field(ge=0)] = Field(0.0, description="CPUs of the server's pod; 0: no limit")
    write_csv: bool = Field(True, description="consumers write the latency CSV; off only to measure its cost")
    max_warmup_s: Annotated[float, Field(ge=0)] = Field(
        10.0, description="most of the start that may be cut as warm-up"
    )
    drain_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        60.0, description="how long the pipeline may work off its backlog after the load"
    )

    @field_validator("trace_file", "source_directory")
    @classmethod
    def _exists(cls, value: str) -> str:
        if value and not paths.resolve(value).exists():
            raise ValueError(f"{value} does not exist (relative paths start at the project root)")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.arrivals == "trace" and not self.trace_file:
            raise ValueError("trace_file must name a file when arrivals is trace")
        if self.source == "directory" and not self.source_directory:
            raise ValueError("source_directory must name a folder when source is directory")
        consumers = max(self.db_consumers, self.inference_consumers)
        if consumers > self.partitions:
            raise ValueError(
                f"{consumers} consumers can't share {self.partitions} partitions: raise partitions to {consumers}"
            )
        if self.write_concern == "0" and self.journal:
            raise ValueError("journal must be false when write_concern is 0: nothing is acknowledged")
        if self.arrivals != "trace" and self.rate_hz * self.duration_s < 1:
            raise ValueError("rate_hz × duration_s gives no frame: raise one of them")
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "Experiment":
        """Validate `values`; raise `ExperimentError` with a line for each field that is unknown or impossible."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ExperimentError("\n".join(_explain(problem) for problem in error.errors())) from None

    @property
    def cameras(self) -> int:
        """Cameras of all producers."""
        return self.producers * self.cameras_per_producer

    @property
    def offered_hz(self) -> float:
        """Frames per second that all cameras together mean to send (of a trace: not known before it is read)."""
        return self.cameras * self.rate_hz

    def fingerprint(self) -> str:
        """12 hex digits that change with any parameter."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:12]


def _explain(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = ", ".join(Experiment.model_fields)
        return f"{field}: no such parameter; known are: {known}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message} (got {problem['input']!r})" if field else message
