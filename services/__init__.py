"""The containerised pipeline: each folder is one image, runnable alone as ``python -m services.NAME``."""
