"""Ray Serve with ``@serve.batch``; ``python -m benchmarks.inference.servers.ray_serve``."""

import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.inference.servers.engine import answers, open_same
from services.contract.settings import InferenceServerSettings
from services.inference_server.decode import to_array


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Predictor:
    def __init__(self) -> None:
        self.engine = open_same()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def predict(self, images: list[bytes]) -> list[dict[str, Any]]:
        return answers(self.engine, [to_array(image) for image in images])

    async def __call__(self, request: Request) -> dict[str, Any]:
        return await self.predict(await request.body())


if __name__ == "__main__":
    given = InferenceServerSettings()
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False)
    serve.start(http_options={"host": given.inference_host, "port": given.inference_port})
    serve.run(Predictor.bind(), name="bench", route_prefix="/predict")  # type: ignore[attr-defined]
    threading.Event().wait()
