"""The pipeline on a Kubernetes cluster: the same services, the same contract, the same run folder."""

from latencylab.backends.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
