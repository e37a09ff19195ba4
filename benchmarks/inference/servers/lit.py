"""LitServe with batching; ``python -m benchmarks.inference.servers.lit``."""

from typing import Any

import litserve

from benchmarks.inference.servers.engine import answers, from_base64, open_same
from services.contract.settings import InferenceServerSettings


class Predictor(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.engine = open_same()

    def decode_request(self, request: dict[str, str]) -> Any:
        return from_base64(request["image"])

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, inputs: list[Any]) -> list[dict[str, Any]]:
        return answers(self.engine, inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    given = InferenceServerSettings()
    server = litserve.LitServer(
        Predictor(max_batch_size=8, batch_timeout=0.005), accelerator="cpu", workers_per_device=1, timeout=120
    )
    server.run(host=given.inference_host, port=given.inference_port, generate_client_file=False)
