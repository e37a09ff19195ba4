"""ResNet50 as the server runs it: the chosen form, opened, warmed up and checked against plain Keras."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from services.contract.settings import InferenceServerSettings
from services.inference_server import agreement, artefacts, calibrate, measure, weights
from services.inference_server.batcher import Engine
from services.inference_server.forms import import_tensorflow, open_engine
from services.inference_server.graph import NAME

__all__ = ["NAME", "build_engine", "load_keras_model", "prepare"]

_MIB: Final = 2**20


def load_keras_model(settings: InferenceServerSettings) -> Any:
    """Plain Keras ResNet50 with the server's weights: what every form of the engine must agree with."""
    import_tensorflow(onednn=True, keras=True)
    return weights.load_model(weights.resolve(settings))[0]


def prepare(settings: InferenceServerSettings, cache: Path) -> tuple[Path, calibrate.Choice]:
    """Choose a form and export what it needs into `cache`, unless it is there; return its folder and the choice.

    The weights must be resolved already. Raises as `build_engine` does.
    """
    folder = artefacts.folder_of(settings, cache)
    choice = calibrate.choose(settings, folder)
    artefacts.export_missing(settings, folder, [choice.plan.form.artefact])
    return folder, choice


def build_engine(settings: InferenceServerSettings) -> tuple[Engine, dict[str, Any]]:
    """Choose, open, warm up and check an engine; return it with what /info says of it.

    Raises `ValueError` when a setting can't be met, `RuntimeError` when the export fails, when the engine does not
    agree with plain Keras, or when it turns out to need more memory than MEMORY_BUDGET_BYTES (which a form that no
    calibration has measured may).
    """
    settings = weights.resolve(settings)
    with ExitStack() as stack:
        cache = settings.cache_directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder, choice = prepare(settings, cache)
        form = choice.plan.form
        engine = open_engine(choice.plan, folder, settings)
        measure.warm_up(engine, settings.batch_max)
        agrees = agreement.compare(engine, artefacts.read_reference(folder), form.tolerance)
        info = artefacts.read_weights(folder)
    if not agrees.agrees:
        raise RuntimeError(
            f"form {form.name} does not agree with plain Keras here: {agrees}; set ENGINE_FORM to another"
        )
    peak_bytes = measure.read_peak_bytes()
    if settings.memory_budget_bytes and peak_bytes > settings.memory_budget_bytes:
        raise RuntimeError(
            f"form {form.name} has taken {peak_bytes / _MIB:.0f} MiB, more than MEMORY_BUDGET_BYTES="
            f"{settings.memory_budget_bytes}; raise the budget, or calibrate so that a smaller form is found"
        )
    facts = {
        "weights": info.kind,
        "weights_source": info.source,
        "weights_sha256": info.sha256,
        "weights_caveat": info.caveat,
        "engine": {
            "library": form.engine,
            **choice.facts(),
            "agreement": agrees.facts(),
            "peak_mib": round(peak_bytes / _MIB),
        },
    }
    return engine, facts
