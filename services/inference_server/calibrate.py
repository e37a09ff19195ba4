"""Which form of the network runs: fixed by a setting, remembered from a calibration, measured now, or expected fastest.

``python -m services.inference_server.calibrate`` measures all forms and keeps the results in CACHE_DIRECTORY.
"""

import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from services.contract.settings import InferenceServerSettings
from services.inference_server import artefacts, weights
from services.inference_server.cpu import Cpu, read_cpu
from services.inference_server.forms import FORMS, Plan, eligible
from services.inference_server.measure import BATCH_IMAGES, Measurement

_ALL_S: Final = 3600.0
_CHOICE: Final = 2
"""So many measured plans are a choice; a busy first start may have had the time for one only."""
_MARGIN: Final = 0.1
"""A plan must be so much faster than those before it: less may be the machine's speed that has changed meanwhile."""
_FORMS_BEFORE_THREADS: Final = 3
"""A form makes more difference than the number of threads; the last forms take longest to start, and seldom win."""
_SERVING_BYTES: Final = 32 * 2**20
"""What a server takes beside its engine: HTTP, and the pictures that are being decoded."""

_PlanKey = tuple[str, int, int]

log = logging.getLogger("inference_server.calibrate")


@dataclass(frozen=True)
class Choice:
    """The plan, why it is that one, and the measurements behind it."""

    plan: Plan
    reason: str
    measurements: tuple[Measurement, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What /info says of it."""
        evidence = [measurement.facts() for measurement in self.measurements]
        return {**self.plan.facts(), "chosen_because": self.reason, "calibration": evidence}


def candidates(settings: InferenceServerSettings, cpu: Cpu) -> list[Plan]:
    """Plans worth measuring, in the order in which a short calibration gets to them.

    The first is what runs when nothing is measured. Raises `ValueError` when ENGINE_FORM names no form of the engine.
    """
    forms = eligible(settings.engine, cpu)
    if settings.engine_form != "auto":
        forms = [form for form in FORMS.values() if form.name == settings.engine_form]
        if not forms or forms[0].engine != settings.engine:
            known = ", ".join(form.name for form in FORMS.values() if form.engine == settings.engine)
            raise ValueError(f"ENGINE_FORM={settings.engine_form}: {settings.engine} has the forms {known}, and auto")
    threads = settings.intra_op_threads or cpu.threads
    plans = [Plan(form, threads) for form in forms]
    variations = []
    if threads > 1:  # operations side by side, and a thread per core where there are two
        likely = next((form for form in forms if form.name.startswith("bfloat16")), forms[0])
        variations.append(Plan(likely, threads, inter_op_threads=2))
        if not settings.intra_op_threads:
            variations.append(Plan(likely, math.ceil(threads / 2)))
    return plans[:_FORMS_BEFORE_THREADS] + variations + plans[_FORMS_BEFORE_THREADS:]


def choose(settings: InferenceServerSettings, folder: Path, cpu: Cpu | None = None) -> Choice:
    """Decide on a plan; where the cache does not know two of the candidates, measure others for CALIBRATION_S.

    A form that ENGINE_FORM names needs no measuring.
    """
    cpu = cpu or read_cpu()
    plans = candidates(settings, cpu)
    store = _store(folder, cpu)
    known = _read(store)
    unknown = [plan for plan in plans if _key(plan) not in _by_plan(known)]
    remembered = len(plans) - len(unknown) >= min(_CHOICE, len(plans))
    fresh: list[Measurement] = []
    if not remembered and settings.engine_form == "auto" and settings.calibration_s and len(plans) > 1:
        fresh = run(settings, folder, unknown, settings.calibration_s)
        _write(store, known + fresh)
    measured = _by_plan(known + fresh)
    usable = [(plan, measured[_key(plan)]) for plan in plans if _key(plan) in measured]
    admitted = [(plan, m) for plan, m in usable if m.agrees and fits(m.peak_bytes, settings.memory_budget_bytes)]
    evidence = tuple(m for _, m in usable)
    if admitted:
        plan, best = admitted[0]
        for other, measurement in admitted[1:]:
            if measurement.image_s < (1 - _MARGIN) * best.image_s:
                plan, best = other, measurement
        when = "measured at this start" if fresh else "remembered from an earlier calibration"
        reason = f"none of {len(usable)} measured plans that agrees and fits is {_MARGIN:.0%} faster; {when}"
        return Choice(plan, reason, evidence)
    if usable and len(usable) == len(plans):
        raise ValueError(_why_none(evidence, settings))
    left = next(plan for plan in plans if _key(plan) not in measured)
    reason = "ENGINE_FORM names it" if settings.engine_form != "auto" else "expected to be fastest; not calibrated"
    return Choice(left, reason, evidence)


def _key(plan: Plan) -> _PlanKey:
    return plan.form.name, plan.intra_op_threads, plan.inter_op_threads


def _by_plan(measurements: list[Measurement]) -> dict[_PlanKey, Measurement]:
    return {(m.form, m.intra_op_threads, m.inter_op_threads): m for m in measurements}


def fits(peak_bytes: int, budget_bytes: int) -> bool:
    """Whether a server whose engine has taken so much stays within the budget; 0 is none."""
    return not budget_bytes or peak_bytes + _SERVING_BYTES <= budget_bytes


def _why_none(measurements: tuple[Measurement, ...], settings: InferenceServerSettings) -> str:
    smallest = (min(m.peak_bytes for m in measurements) + _SERVING_BYTES) / 2**20
    return (
        f"no form both agrees with plain Keras and fits MEMORY_BUDGET_BYTES={settings.memory_budget_bytes}: "
        f"the smallest takes {smallest:.0f} MiB in a server; raise the budget or set ENGINE=onnxruntime"
    )


def run(settings: InferenceServerSettings, folder: Path, plans: list[Plan], seconds: float) -> list[Measurement]:
    """Measure as many of `plans` as fit into `seconds`, each in a process of its own.

    None begins for which there is too little time, going by the longest so far. The time to export what they need
    comes on top; the first two, which any calibration reaches, share one export.
    """
    artefacts.export_missing(settings, folder, [plan.form.artefact for plan in plans[:2]])
    results: list[Measurement] = []
    left_s, longest_s = seconds, 0.0
    for plan in plans:
        if left_s <= longest_s:
            break
        artefacts.export_missing(settings, folder, [plan.form.artefact])
        began = time.monotonic()
        arguments = [settings.model_dump_json(), str(folder), *map(str, _key(plan))]
        child = artefacts.start_child("measure", arguments)
        try:
            output, errors = child.communicate(timeout=left_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            break
        took_s = time.monotonic() - began
        left_s, longest_s = left_s - took_s, max(longest_s, took_s)
        if child.returncode:
            log.warning("%s could not be measured: %s", plan.form.name, errors.strip()[-500:])
            continue
        results.append(Measurement(**json.loads(output.splitlines()[-1])))
        log.info("measured %s", results[-1])
    return results


def _store(folder: Path, cpu: Cpu) -> Path:
    """Where the measurements are kept: another processor, version or model has other ones."""
    identity = [cpu.model, cpu.threads, sorted(cpu.flags), folder.name]
    for package in ("tensorflow-cpu", "tensorflow", "onnxruntime"):
        try:
            identity.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return folder.parent / f"calibration-{digest}.json"


def _read(store: Path) -> list[Measurement]:
    return [Measurement(**entry) for entry in json.loads(store.read_text())] if store.exists() else []


def _write(store: Path, measurements: list[Measurement]) -> None:
    text = json.dumps([measurement.facts() for measurement in measurements], indent=1)
    artefacts.write_whole(store, lambda path: path.write_text(text))


def main() -> None:
    """Measure every plan of ENGINE within an hour, keep the results, print them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    settings = InferenceServerSettings()
    if (cache := settings.cache_directory) is None:
        sys.exit("set CACHE_DIRECTORY: it is where the results are kept")
    settings = weights.resolve(settings)
    folder, cpu = artefacts.folder_of(settings, cache), read_cpu()
    if os.getloadavg()[0] > cpu.threads / 2:
        log.warning("other processes are busy (load %.1f): what is measured now is theirs too", os.getloadavg()[0])
    store = _store(folder, cpu)
    fresh = run(settings, folder, candidates(settings, cpu), _ALL_S)
    others = [m for m in _read(store) if m.form not in {n.form for n in fresh}]
    _write(store, fresh + others)
    print(f"{cpu.model}, {cpu.threads} threads; ms per image alone and in batches of {BATCH_IMAGES}")
    print(f"{'form':<18}{'intra':>6}{'inter':>6}{'alone':>8}{'batch':>8}{'start s':>9}{'peak MiB':>10}{'differs':>10}")
    for m in fresh:
        print(
            f"{m.form:<18}{m.intra_op_threads:>6}{m.inter_op_threads:>6}{m.alone_s * 1e3:>8.1f}"
            f"{m.batched_s * 1e3:>8.1f}{m.start_s:>9.1f}{m.peak_bytes / 2**20:>10.0f}{m.softmax_difference:>10.1e}"
        )
    print(f"chosen: {choose(settings, folder, cpu).plan.facts()}")


if __name__ == "__main__":
    main()
