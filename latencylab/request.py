"""What is to be measured and where it belongs."""

from dataclasses import dataclass, field
from pathlib import Path

from latencylab import paths
from latencylab.experiment import Experiment
from latencylab.runs import RunName


@dataclass(frozen=True)
class Request:
    """One repetition of one point that is to be executed."""

    name: RunName
    experiment: Experiment
    point_order: int = 0
    root: Path = field(default_factory=paths.runs)

    @property
    def seed(self) -> int:
        """Seed of this repetition: repetitions differ in their scenes and arrivals, and a repeated run does not."""
        return self.experiment.seed * 1000 + self.name.repetition
