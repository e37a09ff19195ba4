"""What a backend must do; everything else about a measurement is the same wherever it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from latencylab.experiment import Experiment

IMAGES_PER_REQUEST: Final = 4
"""Most frames in a request of an inference consumer: more and fewer were measured (`benchmarks.inference.bundles`)."""


class BackendError(RuntimeError):
    """The pipeline could not be brought up or kept up; the text names the component and shows why."""


@dataclass(frozen=True)
class RunPlan:
    """One repetition to be executed: its id (also in every frame), its experiment and its seed."""

    run_id: str
    experiment: Experiment
    seed: int

    def producer_environment(self) -> dict[str, str]:
        """Settings of every producer process (`services.contract.settings.ProducerSettings`)."""
        e = self.experiment
        return _environment(
            run_id=self.run_id,
            cameras=e.cameras_per_producer,
            seed=self.seed,
            rate_hz=e.rate_hz,
            duration_s=e.duration_s,
            arrivals=e.arrivals,
            source=e.source,
            image_width=e.image_width,
            image_height=e.image_height,
            jpeg_quality=e.jpeg_quality,
            max_image_bytes=e.max_image_bytes,
            acks=e.acks,
            linger_ms=e.linger_ms,
        )

    def consumer_environment(self) -> dict[str, str]:
        """Settings of every consumer process that follow from the experiment."""
        e = self.experiment
        return _environment(
            run_id=self.run_id,
            max_image_bytes=e.max_image_bytes,
            write_concern=e.write_concern,
            journal=e.journal,
            images_in_flight=e.images_in_flight,
            # not more than a pass takes: the first of them would wait for the last one's
            images_per_request=min(IMAGES_PER_REQUEST, e.batch_max, e.queue_max),
            write_csv=e.write_csv,
        )


def server_environment(experiment: Experiment) -> dict[str, str]:
    """Settings of the inference server; a server started with others can't serve this experiment."""
    e = experiment
    return _environment(
        weights=e.weights,
        engine=e.engine,
        engine_form=e.engine_form,
        batch_max=e.batch_max,
        batch_wait_ms=e.batch_wait_ms,
        queue_max=e.queue_max,
        memory_budget_bytes=e.memory_budget_bytes,
        max_image_bytes=e.max_image_bytes,
    )


def topic_environment(experiment: Experiment) -> dict[str, str]:
    """Settings of the topics."""
    return _environment(partitions=experiment.partitions, max_image_bytes=experiment.max_image_bytes)


def _environment(**values: Any) -> dict[str, str]:
    return {name.upper(): str(value) for name, value in values.items() if value != ""}


Progress = Callable[[str], None]
"""Told in a few words what is being waited for."""


class Backend(Protocol):
    """The pipeline in one place. The order of calls: up, (prepare, release, wait, lag, finish)*, down."""

    name: str

    def up(self, experiment: Experiment, progress: Progress) -> None:
        """Bring up broker, database and server and return when they are deeply ready: every topic partition can be
        led, MongoDB has taken a write and given it back, the server has answered one inference. A stack that is
        already up is used again; its server is restarted when the experiment needs other server settings.
        Raises `BackendError`."""

    def describe(self) -> dict[str, Any]:
        """What is running, for run.json: ``server`` (its /info), ``database`` (name, version, whether it is a
        stand-in), ``broker`` (version), ``hosts`` (name, CPU model, cores), ``images`` (digests), ``caveats``."""

    def prepare(self, plan: RunPlan, progress: Progress) -> None:
        """Make the topics anew, start consumers and producers; return when the consumers have their partitions and
        the producers wait at the start line. Raises `BackendError`."""

    def release(self, lead_s: float) -> int:
        """Tell the producers to start `lead_s` from now, by the clock of where they run; the start in ns since the
        epoch."""

    def producers_left(self) -> int:
        """Producers that have not ended yet. Raises `BackendError` when one failed."""

    def lag(self) -> dict[str, int]:
        """Frames not yet committed, per consumer group."""

    def growing_records(self) -> Path | None:
        """The folder in which the consumers' latency CSVs grow during a run; None where they can't be read before
        `finish`."""

    def finish(self, folder: Path) -> None:
        """Stop consumers and producers so that they flush, then leave in `folder`: ``producers.json`` (list of the
        producers' reports), ``broker.json`` (end offsets by topic and partition), ``consumers/`` (CSVs and reports),
        ``documents.parquet`` (what MongoDB holds of the run, without images), ``resources.parquet``, ``logs/``."""

    def incidents(self) -> list[str]:
        """What happened to components during the run that makes it invalid: restarts, kills, failures."""

    def abandon(self) -> None:
        """Stop the consumers and producers of a run that will not be finished; never raises."""

    def down(self) -> None:
        """Stop and remove everything this backend started, unless it is to be kept."""

    def end_leftovers(self, everything: bool) -> list[str]:
        """End what an earlier process left running (`everything`: also what no state file knows of)."""


@contextmanager
def open_backend(experiment: Experiment, progress: Progress) -> Iterator[Backend]:
    """The experiment's backend, up. One that was up before is left up; one that was brought up here is taken down."""
    backend = make_backend(experiment.backend)
    try:
        backend.up(experiment, progress)
        yield backend
    finally:
        backend.down()


def make_backend(name: str, *, keep: bool = False) -> Backend:
    """The backend of that name, not yet up; with `keep`, what it brings up outlives this process.

    Raises `BackendError` for an unknown name.
    """
    if name == "local":
        from latencylab.backends.local import LocalBackend

        return LocalBackend(keep=keep)
    if name == "kubernetes":
        from latencylab.backends.kubernetes import KubernetesBackend

        return KubernetesBackend(keep=keep)
    raise BackendError(f"backend: {name!r} is not one of local, kubernetes")
