"""Which cluster, which namespace of it, and which manifests; from the environment, so that notebooks stay the same."""

from pathlib import Path

import yaml
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from latencylab import paths
from latencylab.backends.backend import BackendError

MANIFESTS = paths.ROOT / "k8s"


class ClusterSettings(BaseSettings):
    """Environment variables of the kubernetes backend, each with the prefix ``LATENCYLAB_``."""

    model_config = SettingsConfigDict(env_prefix="LATENCYLAB_", frozen=True, extra="ignore", env_ignore_empty=True)

    context: str = Field("", description="kubeconfig context; may be left out where there is only one")
    namespace: str = Field("latencylab", description="namespace that is made, used and deleted again")
    overlay: str = Field("minikube", description="folder of k8s/overlays, or a path of a kustomization")
    components: str = Field("", description="folders of k8s/components to add, separated by commas")

    def overlay_folder(self) -> Path:
        """The overlay's folder. Raises `BackendError` when there is none."""
        return _kustomization(MANIFESTS / "overlays", self.overlay, "LATENCYLAB_OVERLAY")

    def component_folders(self) -> list[Path]:
        """The components' folders, but for those that the overlay has. Raises `BackendError` when one is not there."""
        names = [name.strip() for name in self.components.split(",") if name.strip()]
        wanted = [_kustomization(MANIFESTS / "components", name, "LATENCYLAB_COMPONENTS") for name in names]
        overlay = self.overlay_folder()
        present = yaml.safe_load((overlay / "kustomization.yaml").read_text()).get("components", [])
        return [folder for folder in wanted if folder.resolve() not in {(overlay / path).resolve() for path in present}]


def _kustomization(parent: Path, name: str, variable: str) -> Path:
    folder = parent / name if "/" not in name else paths.resolve(name)
    if not (folder / "kustomization.yaml").exists():
        known = ", ".join(sorted(path.name for path in parent.iterdir()))
        raise BackendError(f"{variable}: {name!r} is neither one of {known} nor a folder with a kustomization.yaml")
    return folder
