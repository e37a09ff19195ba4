"""The frames of every inference benchmark: what the project's cameras draw, 640x480, quality 85."""

import numpy as np

from services.contract.settings import ProducerSettings
from services.producer.images import ScenePainter


def make_frames(count: int = 32) -> list[bytes]:
    """`count` different JPEGs, the same in every run."""
    painter = ScenePainter(ProducerSettings(kafka_bootstrap="none", run_id="benchmark"))
    pool = painter.pool(0, np.arange(count, dtype=np.int64))
    return [pool.frame(seq, 0)[0] for seq in range(count)]
