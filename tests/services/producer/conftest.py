import pytest

from services.contract.settings import ProducerSettings


@pytest.fixture
def make_settings():
    """Settings of a small producer, with changes."""

    def make(**changes) -> ProducerSettings:
        small = {"image_width": 64, "image_height": 48, "pool_frames": 2, "status_host": "127.0.0.1", "status_port": 0}
        return ProducerSettings(**{"kafka_bootstrap": "broker:9092", "run_id": "run", **small, **changes})

    return make
