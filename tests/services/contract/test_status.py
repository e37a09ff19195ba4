import pytest
import requests
from prometheus_client import Counter

from services.contract.settings import StatusSettings
from services.contract.status import StatusServer

SETTINGS = StatusSettings(status_host="127.0.0.1", status_port=0)
PROBED = Counter("test_status_probed", "Counted by the test of the status server")


@pytest.fixture
def serve():
    servers = []

    def make(**checks):
        servers.append(StatusServer(SETTINGS, **checks))
        return f"http://127.0.0.1:{servers[-1].port}"

    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize(("passed", "answer"), [(True, (200, "ok\n")), (False, (503, "not yet\n"))])
def test_readiness_is_asked_at_each_request(serve, passed, answer):
    state = {"ready": not passed}
    url = serve(ready=lambda: state["ready"])
    requests.get(f"{url}/readyz", timeout=10)
    state["ready"] = passed
    response = requests.get(f"{url}/readyz", timeout=10)
    assert (response.status_code, response.text) == answer


def test_health_is_independent_of_readiness(serve):
    assert requests.get(f"{serve(ready=lambda: False)}/healthz", timeout=10).status_code == 200
    assert requests.get(f"{serve(ready=lambda: True, healthy=lambda: False)}/healthz", timeout=10).status_code == 503


def test_metrics_are_those_of_prometheus(serve):
    PROBED.inc(3)
    text = requests.get(f"{serve(ready=lambda: True)}/metrics", timeout=10).text
    assert "test_status_probed_total 3.0" in text


@pytest.mark.parametrize("path", ["/", "/ready", "/metrics/more"])
def test_other_paths_are_not_found(serve, path):
    assert requests.get(serve(ready=lambda: True) + path, timeout=10).status_code == 404


def test_a_port_in_use_is_an_error():
    first = StatusServer(SETTINGS, ready=lambda: True)
    try:
        with pytest.raises(OSError, match="in use"):
            StatusServer(StatusSettings(status_host="127.0.0.1", status_port=first.port), ready=lambda: True)
    finally:
        first.close()


def test_a_closed_server_no_longer_answers():
    server = StatusServer(SETTINGS, ready=lambda: True)
    server.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{server.port}/healthz", timeout=10)
