"""BentoML with adaptive batching; ``bentoml serve benchmarks.inference.servers.bento:Predictor``."""

from typing import Any

import bentoml

from benchmarks.inference.servers.engine import answers, from_base64, open_same


@bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 256})
class Predictor:
    def __init__(self) -> None:
        self.engine = open_same()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def predict(self, images: list[str]) -> list[dict[str, Any]]:
        return answers(self.engine, [from_base64(image) for image in images])
