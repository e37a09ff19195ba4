"""Export the model ahead of the first start: ``python -m services.inference_server.prepare`` fills CACHE_DIRECTORY.

The export takes half a minute once for each kind of weights; a server that finds it made starts in a few seconds.
"""

import sys

from services.contract.settings import InferenceServerSettings
from services.inference_server import model, weights


def main() -> None:
    """Make what the server's settings will need, unless it is there."""
    settings = InferenceServerSettings()
    if settings.cache_directory is None:
        sys.exit("set CACHE_DIRECTORY: it is where the exported model is kept")
    folder, choice = model.prepare(weights.resolve(settings), settings.cache_directory)
    print(f"form {choice.plan.form.name} of ResNet50 is in {folder}")


if __name__ == "__main__":
    main()
