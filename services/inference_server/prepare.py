"""Export and calibrate ahead of the first start: ``python -m services.inference_server.prepare`` fills CACHE_DIRECTORY.

It takes half a minute and CALIBRATION_S once for each kind of weights; a server that finds it made starts in seconds.
"""

import sys

from services.contract.settings import InferenceServerSettings
from services.inference_server import model, weights


def main() -> None:
    """Make what the server's settings will need, unless it is there."""
    settings = InferenceServerSettings()
    if settings.cache_directory is None:
        sys.exit("set CACHE_DIRECTORY: it is where the exported model is kept")
    _, choice = model.prepare(weights.resolve(settings), settings.cache_directory)
    plan = choice.plan
    print(f"ResNet50 as {plan.form.name} with {plan.intra_op_threads} threads: {choice.reason}")


if __name__ == "__main__":
    main()
