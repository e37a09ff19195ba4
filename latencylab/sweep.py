"""The design of a sweep: factors and levels, repetitions, and a randomised order."""

import itertools
import json
import random
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from latencylab.experiment import Experiment, ExperimentError
from latencylab.request import Request
from latencylab.runs import RunError, RunName

OVERHEAD_PER_RUN_S = 7.0
"""What a run takes beside its load on a machine of two cores: notebook, consumers, start line, drain, records."""


class SweepError(ValueError):
    """A sweep file that can't be used; the text names the file and the field."""


class Sweep(BaseModel):
    """Points (a grid of ``factors``, or listed ``points``), each measured ``repetitions`` times."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="folder of the sweep below data/runs")
    base: dict[str, Any] = Field({}, description="parameters of every point")
    factors: dict[str, list[Any]] = Field({}, description="parameter -> levels; all combinations are points")
    points: list[dict[str, Any]] = Field([], description="instead of factors: parameters of each point, and its name")
    repetitions: Annotated[int, Field(ge=1, le=1000)] = 1
    order_seed: Annotated[int, Field(ge=0)] = Field(1, description="seed of the random order within each repetition")

    @field_validator("factors")
    @classmethod
    def _has_levels(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for factor, levels in value.items():
            if not levels:
                raise ValueError(f"{factor} has no level: list at least one")
            if len({json.dumps(level) for level in levels}) < len(levels):
                raise ValueError(f"{factor} has the same level twice: use repetitions to repeat a point")
        return value

    @model_validator(mode="after")
    def _every_point_is_possible(self) -> Self:
        if self.factors and self.points:
            raise ValueError("factors and points exclude each other: give one of them")
        experiments = self.experiments()
        if len(experiments) < len(self.points):
            raise ValueError("points: two of them have the same name")
        for point in experiments:
            RunName(self.name, point, 1)
        return self

    @classmethod
    def load(cls, path: Path) -> "Sweep":
        """Read a YAML file. Raises `SweepError`."""
        try:
            values = yaml.safe_load(path.read_text())
        except OSError as error:
            raise SweepError(f"{path}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise SweepError(f"{path}: not YAML: {error}") from None
        if not isinstance(values, dict):
            raise SweepError(f"{path}: a sweep is a mapping with name, base, factors, repetitions")
        return cls.parse({"name": path.stem, **values}, str(path))

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "sweep") -> "Sweep":
        """Validate `values`. Raises `SweepError` that names `source` and each field that is wrong."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = []
            for problem in error.errors():
                field = ".".join(str(part) for part in problem["loc"])
                message = problem["msg"].removeprefix("Value error, ")
                lines.append(f"{source}: {field}: {message}" if field else f"{source}: {message}")
            raise SweepError("\n".join(lines)) from None

    def experiments(self) -> dict[str, Experiment]:
        """Point name -> its experiment, in the order of the file. Raises `ValueError` for an impossible one."""
        found = {}
        for name, values in self._assignments():
            try:
                found[name] = Experiment.parse(self.base | values)
            except ExperimentError as error:
                raise ValueError(f"point {name}: {error}") from None
        return found

    def _assignments(self) -> list[tuple[str, dict[str, Any]]]:
        if self.points:
            named = [dict(point) for point in self.points]
            return [(str(point.pop("name", "")) or point_name(point), point) for point in named]
        levels = itertools.product(*self.factors.values())
        grid = [dict(zip(self.factors, combination, strict=True)) for combination in levels]
        return [(point_name(values), values) for values in grid]

    def requests(self) -> list[Request]:
        """All runs in the order of execution: repetition by repetition (blocks, so that a drift of the machine
        falls on all points alike), the points of each block shuffled (Montgomery, Design and Analysis of
        Experiments, 10th ed., section 4.1: randomised complete blocks)."""
        points = list(self.experiments().items())
        plan = []
        for repetition in range(1, self.repetitions + 1):
            block = list(enumerate(points))
            random.Random(f"{self.order_seed}/{repetition}").shuffle(block)
            for order, (name, experiment) in block:
                plan.append(Request(RunName(self.name, name, repetition), experiment, order))
        return plan

    def estimated_s(self) -> float:
        """Seconds that all runs will take, the start of the stack left out."""
        return sum(request.experiment.duration_s + OVERHEAD_PER_RUN_S for request in self.requests())


def point_name(values: dict[str, Any]) -> str:
    """The name of a point that sets these parameters."""
    if not values:
        return "base"
    text = ",".join(f"{key}={value}" for key, value in values.items())
    return "".join(c if c.isalnum() or c in "-_=,." else "_" for c in text)


def check_resumable(sweep: Sweep, folder: Path) -> None:
    """Raise `RunError` when `folder` holds runs of the same name with other parameters."""
    record = folder / "sweep.json"
    if not record.exists():
        return
    before = json.loads(record.read_text())
    now = sweep.model_dump()
    changed = sorted(key for key in now if key != "name" and before.get(key) != now[key])
    if changed:
        raise RunError(
            f"{folder.name} was begun with other {', '.join(changed)}: finish it with the old file, or record the new "
            "one apart with --new"
        )


def record_design(sweep: Sweep, folder: Path) -> None:
    """Write down what the runs in `folder` belong to."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / ".sweep.json.part"
    staged.write_text(json.dumps(sweep.model_dump(), indent=1) + "\n")
    staged.rename(folder / "sweep.json")
