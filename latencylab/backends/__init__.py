"""Where a pipeline runs: local processes or Kubernetes, behind one protocol."""
