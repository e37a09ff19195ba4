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

    def write(settings: InferenceServerSettings, *measurements: Measurement) -> None:
        store = calibrate._store(settings, folder, CPU)
        store.write_text(json.dumps([m.facts() for m in measurements]))

    return write


def other(form: str, **changes) -> Measurement:
    return dataclasses.replace(MEASURED, form=form, **changes)


def test_without_results_the_form_expected_fastest_is_taken(folder):
    choice = calibrate.choose(InferenceServerSettings(), folder, CPU)
    assert choice.plan.form.name == "folded-onednn"
    assert choice.plan.intra_op_threads == 2
    assert choice.facts()["chosen_because"] == "expected to be fastest; not calibrated"


def test_the_fastest_that_agrees_is_taken_and_its_evidence_kept(folder, remember):
    settings = InferenceServerSettings()
    wrong = other("xla", alone_s=0.001, batched_s=0.001, agrees=False)
    remember(settings, MEASURED, other("frozen-onednn", alone_s=0.05), wrong)
    choice = calibrate.choose(settings, folder, CPU)
    assert choice.plan.form.name == "frozen-onednn"
    assert "remembered" in choice.reason
    assert [entry["form"] for entry in choice.facts()["calibration"]] == ["folded-onednn", "frozen-onednn", "xla"]


def test_a_memory_budget_rules_forms_out(folder, remember):
    settings = InferenceServerSettings(memory_budget_bytes=int(1.5 * GIB))
    remember(settings, other("frozen-onednn", alone_s=0.01, peak_bytes=2 * GIB), MEASURED)
    assert calibrate.choose(settings, folder, CPU).plan.form.name == "folded-onednn"


def test_a_budget_that_nothing_meets_is_an_error_that_names_the_setting(folder, remember):
    settings = InferenceServerSettings(engine="onnxruntime", memory_budget_bytes=10**8, intra_op_threads=1)
    remember(settings, other("onnx", intra_op_threads=1))
    with pytest.raises(ValueError, match="MEMORY_BUDGET_BYTES=100000000: the smallest takes 1056 MiB in a server"):
        calibrate.choose(settings, folder, CPU)


def test_results_of_another_processor_or_batch_size_do_not_count(folder, remember):
    remember(InferenceServerSettings(), other("xla", alone_s=0.001))
    for settings, cpu in (
        (InferenceServerSettings(batch_max=4), CPU),
        (InferenceServerSettings(), Cpu("another", frozenset(), 2)),
    ):
        assert calibrate.choose(settings, folder, cpu).measurements == ()


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
