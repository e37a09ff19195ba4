"""``ro-crate-metadata.json``: a recorded sweep described as an RO-Crate (w3id.org/ro/crate)."""

import mimetypes
from pathlib import Path
from typing import Final

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from latencylab import __version__, tables
from latencylab.execution import design_of
from latencylab.runs import find_runs

NAME: Final = "ro-crate-metadata.json"
_TYPES: Final = {
    ".parquet": "application/vnd.apache.parquet",
    ".ipynb": "application/x-ipynb+json",
    ".log": "text/plain",
}


def write_crate(folder: Path) -> Path:
    """Describe every file of the sweep in `folder`, the software that made them and each run; the file's path.

    Raises `RunError` when the folder is no sweep or has no complete run.
    """
    design, runs = design_of(folder), find_runs(folder)
    recorded = sorted(run.info["recorded_at"] for run in runs)
    crate = ROCrate()
    crate.name = f"Latency sweep {design.name}"
    crate.description = f"{len(runs)} runs of {len(tables.by_point(runs))} points: the latency of every frame."
    crate.datePublished = recorded[-1]
    crate.license = "https://spdx.org/licenses/Apache-2.0"
    commits = sorted({run.info["git"]["commit"] or "none" for run in runs})
    software = crate.add(
        ContextEntity(
            crate,
            "#latencylab",
            {"@type": "SoftwareApplication", "name": "latencylab", "version": f"{__version__}, {', '.join(commits)}"},
        )
    )
    files = {}
    for path in _files(folder):
        place = path.relative_to(folder).as_posix()
        kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        properties = {"name": path.name, "encodingFormat": kind, "contentSize": str(path.stat().st_size)}
        files[place] = crate.add_file(path, place, properties=properties)
    for run in runs:
        own = run.folder.relative_to(folder).as_posix() + "/"
        action = {
            "@type": "CreateAction",
            "name": run.info["run_id"],
            "endTime": run.info["recorded_at"],
            "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
            "description": "valid" if run.valid else "invalid: " + "; ".join(run.info["invalid_reasons"]),
        }
        entity = crate.add(ContextEntity(crate, f"#{run.info['run_id']}", action))
        entity["instrument"] = software
        entity["object"] = files["sweep.json"]
        entity["result"] = [file for place, file in files.items() if place.startswith(own)]
        crate.root_dataset.append_to("mentions", entity)
    crate.metadata.write(folder)
    return folder / NAME


def _files(folder: Path) -> list[Path]:
    """What belongs to the sweep: no hidden file or folder, which hold what is unfinished, and not the crate itself."""
    found = (path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
