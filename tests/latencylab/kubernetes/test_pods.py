from latencylab.backends.kubernetes import pods


def make_pod(*, phase="Running", statuses=(), conditions=(), deleting=False, labels=None):
    metadata = {"name": "kafka-0", "uid": "u", "labels": labels or {"app.kubernetes.io/name": "kafka"}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {"phase": phase, "containerStatuses": list(statuses), "conditions": list(conditions)}
    return {"metadata": metadata, "spec": {"containers": [{"name": "kafka"}]}, "status": status}


def waiting(reason, message=""):
    return {
        "name": "kafka",
        "image": "localhost/latencylab/kafka:9",
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }


READY = {"type": "Ready", "status": "True"}


def test_a_pod_that_is_being_deleted_is_not_ready_whatever_its_conditions_say():
    assert pods.ready(make_pod(conditions=[READY]))
    assert not pods.ready(make_pod(conditions=[READY], deleting=True))


def test_a_missing_image_is_hopeless_and_names_pod_image_and_reason():
    why = pods.hopeless(make_pod(phase="Pending", statuses=[waiting("ErrImagePull", "not found")]))
    assert "kafka-0" in why
    assert "localhost/latencylab/kafka:9" in why
    assert "ErrImagePull: not found" in why


def test_a_container_being_created_is_not_hopeless():
    pod = make_pod(phase="Pending", statuses=[waiting("ContainerCreating")])
    assert pods.hopeless(pod) == ""
    assert pods.waiting_for(pod) == "kafka-0 (kafka: ContainerCreating)"


def test_a_failed_pod_gives_its_exit_status():
    ended = {"name": "kafka", "image": "i", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    assert pods.hopeless(make_pod(phase="Failed", statuses=[ended])) == (
        "pod kafka-0 failed: OOMKilled with exit status 137"
    )


def test_a_crash_loop_names_the_container():
    assert pods.crash_looping(make_pod(statuses=[waiting("CrashLoopBackOff")])) == "kafka"


def test_an_unschedulable_pod_gives_the_schedulers_words():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no CPU"}
    pod = make_pod(phase="Pending", conditions=[condition])
    assert pods.unschedulable(pod) == "Unschedulable: 0/1 nodes: no CPU"
    assert "no CPU" in pods.waiting_for(pod)


def test_restarts_tell_why_the_last_one_ended():
    status = {
        "name": "kafka",
        "image": "i",
        "restartCount": 2,
        "state": {"running": {}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    }
    assert pods.restarts(make_pod(statuses=[status])) == {"kafka": (2, "OOMKilled, exit status 137")}


def test_a_pod_of_which_nothing_is_known_yet_can_be_looked_at():
    pod = {"metadata": {"name": "new", "uid": "1"}, "spec": {"containers": [{"name": "c"}]}}
    assert not pods.ready(pod)
    assert pods.waiting_for(pod) == "new (Unknown)"
