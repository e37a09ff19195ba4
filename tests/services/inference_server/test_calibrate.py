import dataclasses
import json

import pytest

from services.contract.settings import InferenceServerSettings
from services.inference_server import calibrate
from services.inference_server.cpu import Cpu
from services.inference_server.measure import Measurement

CPU = Cpu("made up", frozenset(), 2)
GIB = 2**30
MEASURED = Measurement(
    "folded-onednn", 2, 1, alone_s=0.06, batched_s=0.05, start_s=2.0, peak_bytes=GIB, same_top1=8,
    softmax_difference=1e-6, agrees=True,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model-0"


@pytest.fixture
def remember(folder):
    """Put measurements where an earlier calibration would have left them."""

    def write(*measurements: Measurement) -> None:
        store = calibrate._store(folder, CPU)
        store.write_text(json.dumps([m.facts() for m in measurements]))

    return write


def other(form: str, **changes) -> Measurement:
    return dataclasses.replace(MEASURED, form=form, **changes)


@pytest.fixture
def stopwatch(monkeypatch):
    """Calibrations measure nothing; the plans they would have measured, and for how long, are noted."""
    runs = []

    def run(settings, folder, plans, seconds):
        runs.append((seconds, [plan.form.name for plan in plans]))
        return [MEASURED, other("frozen-onednn", alone_s=0.01)]

    monkeypatch.setattr(calibrate, "run", run)
    return runs


def test_the_first_start_on_a_processor_calibrates_and_later_ones_remember(folder, stopwatch):
    settings = InferenceServerSettings(calibration_s=5)
    first, second = (calibrate.choose(settings, folder, CPU) for _ in range(2))
    assert [choice.plan.form.name for choice in (first, second)] == ["frozen-onednn"] * 2
    assert "measured at this start" in first.reason
    assert "remembered" in second.reason
    assert [seconds for seconds, _ in stopwatch] == [5]


def test_a_start_that_had_time_for_one_form_only_goes_on_at_the_next(folder, remember, stopwatch):
    remember(MEASURED)
    assert calibrate.choose(InferenceServerSettings(), folder, CPU).plan.form.name == "frozen-onednn"
    [(_, names)] = stopwatch
    assert "folded-eigen" in names
    assert names.count("folded-onednn") == 2, "its variations with other threads are not known yet"


def test_what_an_earlier_start_measured_is_not_said_to_be_of_this_one(folder, remember):
    remember(MEASURED)  # one plan is no choice yet, and this start may not measure
    assert "remembered" in calibrate.choose(InferenceServerSettings(calibration_s=0), folder, CPU).reason


def test_results_of_one_engine_do_not_keep_the_other_from_calibrating(folder, stopwatch):
    calibrate.choose(InferenceServerSettings(), folder, CPU)
    calibrate.choose(InferenceServerSettings(engine="onnxruntime"), folder, CPU)
    assert [set(names) for _, names in stopwatch][1] == {"onnx"}
    assert "remembered" in calibrate.choose(InferenceServerSettings(), folder, CPU).reason


def test_a_named_form_needs_no_calibration(folder, stopwatch):
    calibrate.choose(InferenceServerSettings(engine_form="xla"), folder, CPU)
    assert stopwatch == []


def test_a_short_calibration_begins_with_what_may_be_fastest():
    def names(*flags: str) -> list[str]:
        plans = calibrate.candidates(InferenceServerSettings(), Cpu("made up", frozenset(flags), 2))
        return [f"{plan.form.name} {plan.intra_op_threads} {plan.inter_op_threads}" for plan in plans]

    assert names("amx_bf16")[:5] == [
        "folded-onednn 2 1", "bfloat16-onednn 2 1", "frozen-onednn 2 1", "bfloat16-onednn 2 2", "bfloat16-onednn 1 1"
    ]  # fmt: skip
    assert names()[:2] == ["folded-onednn 2 1", "frozen-onednn 2 1"]
    assert {"folded-onednn 1 1", "folded-eigen 2 1", "function-onednn 2 1", "xla 2 1"} < set(names())


def test_without_results_the_form_expected_fastest_is_taken(folder):
    choice = calibrate.choose(InferenceServerSettings(calibration_s=0), folder, CPU)
    assert choice.plan.form.name == "folded-onednn"
    assert choice.plan.intra_op_threads == 2
    assert choice.facts()["chosen_because"] == "expected to be fastest; not calibrated"


def test_the_fastest_that_agrees_is_taken_and_its_evidence_kept(folder, remember):
    settings = InferenceServerSettings()
    wrong = other("xla", alone_s=0.001, batched_s=0.001, agrees=False)
    remember(MEASURED, other("frozen-onednn", alone_s=0.03), wrong)
    choice = calibrate.choose(settings, folder, CPU)
    assert choice.plan.form.name == "frozen-onednn"
    assert "remembered" in choice.reason
    assert [entry["form"] for entry in choice.facts()["calibration"]] == ["folded-onednn", "frozen-onednn", "xla"]


@pytest.mark.parametrize(("alone_s", "chosen"), [(0.055, "folded-onednn"), (0.045, "frozen-onednn")])
def test_a_form_must_be_clearly_faster_than_the_one_expected_to_be(folder, remember, alone_s, chosen):
    remember(MEASURED, other("frozen-onednn", alone_s=alone_s, batched_s=0.05))
    assert calibrate.choose(InferenceServerSettings(), folder, CPU).plan.form.name == chosen


def test_a_memory_budget_rules_forms_out(folder, remember):
    settings = InferenceServerSettings(memory_budget_bytes=int(1.5 * GIB))
    remember(other("frozen-onednn", alone_s=0.01, peak_bytes=2 * GIB), MEASURED)
    assert calibrate.choose(settings, folder, CPU).plan.form.name == "folded-onednn"


def test_a_budget_that_nothing_meets_is_an_error_that_names_the_setting(folder, remember):
    settings = InferenceServerSettings(engine="onnxruntime", memory_budget_bytes=10**8, intra_op_threads=1)
    remember(other("onnx", intra_op_threads=1))
    with pytest.raises(ValueError, match="MEMORY_BUDGET_BYTES=100000000: the smallest takes 1056 MiB in a server"):
        calibrate.choose(settings, folder, CPU)


def test_results_of_another_processor_do_not_count(folder, remember):
    remember(other("xla", alone_s=0.001))
    another = Cpu("another", frozenset(), 2)
    assert calibrate.choose(InferenceServerSettings(calibration_s=0), folder, another).measurements == ()


def test_points_of_a_sweep_over_batch_sizes_run_the_same_form(folder, remember):
    remember(MEASURED, other("xla", alone_s=0.001))
    chosen = {calibrate.choose(InferenceServerSettings(batch_max=n), folder, CPU).plan.form.name for n in (1, 8, 32)}
    assert chosen == {"xla"}


def test_a_form_can_be_fixed(folder):
    choice = calibrate.choose(InferenceServerSettings(engine_form="folded-eigen", intra_op_threads=1), folder, CPU)
    assert choice.plan.form.name == "folded-eigen"
    assert choice.plan.intra_op_threads == 1
    assert choice.reason == "ENGINE_FORM names it"


@pytest.mark.parametrize(
    ("engine", "form"), [("tensorflow", "quantum"), ("tensorflow", "onnx"), ("onnxruntime", "xla")]
)
def test_an_unknown_form_is_an_error_that_lists_those_there_are(folder, engine, form):
    settings = InferenceServerSettings(engine=engine, engine_form=form)
    with pytest.raises(ValueError, match=f"ENGINE_FORM={form}: {engine} has the forms"):
        calibrate.choose(settings, folder, CPU)


def test_bfloat16_is_a_candidate_only_where_the_processor_has_it():
    def names(cpu: Cpu) -> set[str]:
        return {plan.form.name for plan in calibrate.candidates(InferenceServerSettings(), cpu)}

    assert "bfloat16-onednn" not in names(CPU)
    assert "bfloat16-onednn" in names(Cpu("new", frozenset({"amx_bf16"}), 2))
