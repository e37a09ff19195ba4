import pytest

from services.contract.stamps import INFERENCE_STAGES, INFERENCE_STAMPS, STORAGE_STAGES, STORAGE_STAMPS

PATHS = [(INFERENCE_STAMPS, INFERENCE_STAGES), (STORAGE_STAMPS, STORAGE_STAGES)]


@pytest.mark.parametrize(("stamps", "stages"), PATHS)
def test_there_is_one_stage_between_neighbouring_stamps(stamps, stages):
    assert len(stages) == len(stamps) - 1
    assert len(set(stamps)) == len(stamps)
    assert len(set(stages)) == len(stages)
    assert all(stamp.endswith("_ns") for stamp in stamps)


def test_the_paths_share_their_beginning_and_no_stage_after_it():
    assert INFERENCE_STAMPS[:2] == STORAGE_STAMPS[:2] == ("intended_ns", "sent_ns")
    assert set(INFERENCE_STAMPS) & set(STORAGE_STAMPS) == {"intended_ns", "sent_ns"}
    assert set(INFERENCE_STAGES) & set(STORAGE_STAGES) == {"lateness"}
