"""One self-contained HTML page per sweep: tables, figures inline, validity, provenance, and how to reproduce it."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from latencylab import figures, paths, style, tables
from latencylab.execution import design_of
from latencylab.runs import Run, find_runs

NAME: Final = "report.html"


def write_report(folder: Path) -> Path:
    """Write ``folder/report.html`` for the sweep recorded in `folder`; the path.

    The page needs no other file and no network. Raises `RunError` when the folder is no sweep or has no complete run.
    """
    page = render(folder)
    staged = folder / f".{NAME}.part"
    staged.write_text(page, encoding="utf-8")
    return staged.rename(folder / NAME)


def render(folder: Path) -> str:
    """The page as text; the same runs give the same page. Raises `RunError`."""
    design = design_of(folder)
    runs = find_runs(folder)
    recorded = sorted(run.info["recorded_at"] for run in runs)
    environment = Environment(
        loader=PackageLoader("latencylab"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        title=design.name,
        runs=runs,
        points=len(tables.by_point(runs)),
        first=recorded[0],
        last=recorded[-1],
        invalid=sum(not run.valid for run in runs),
        point_table=_rows(tables.point_table(runs)),
        notes=tables.notes(runs),
        figures=[_inline(name, draw(runs)) for name, draw in figures.FIGURES.items()],
        validity=_rows(_validity(runs)),
        provenance=_rows(_provenance(runs)),
        design=json.dumps(design.model_dump(), indent=1),
        command=f"latencylab reproduce {paths.shown(folder)}",
    )


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(table.columns), "rows": table.to_numpy().tolist()}


def _inline(name: str, drawn: style.Drawn) -> dict[str, str]:
    csv = drawn.data.to_csv(float_format="%.6g", index=drawn.data.index.name is not None)
    return {"name": name, "png": _base64(style.png(drawn.figure)), "csv": _base64(csv.encode()), "alt": drawn.alt}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _validity(runs: Iterable[Run]) -> pd.DataFrame:
    rows = []
    for run in runs:
        counts = run.info["counts"]
        rows.append(
            {
                "run": run.info["run_id"],
                "valid": "valid" if run.valid else "INVALID",
                "reasons": "; ".join(run.info["invalid_reasons"]) or "–",
                "scheduled": counts["scheduled"],
                "sent": counts["sent"],
                "stored": counts["stored"],
                "labelled": counts["labelled"],
                "warm-up": run.info["summary"]["warmup"]["reason"]
                or f"first {run.info['summary']['warmup']['frames']} frames",
            }
        )
    return pd.DataFrame(rows)


def _provenance(runs: list[Run]) -> pd.DataFrame:
    facts: dict[str, list[str]] = {}
    for run in runs:
        running, git = run.info["running"], run.info["git"]
        server, database, broker = running["server"], running["database"], running["broker"]
        own = {
            "commit": f"{git['commit']}{' with changes' if git['dirty'] else ''}",
            "backend": run.experiment.backend,
            "hosts": "; ".join(f"{host['cpu']}, {host['cores']} cores" for host in running["hosts"]),
            "broker": f"{broker['name']} {broker['version']}",
            "database": f"{database['name']} {database['version']}",
            "server": f"{server['model']}, weights {server['weights']}, engine {server['engine']['form']}",
            "images": ", ".join(f"{name} {digest}" for name, digest in running["images"].items()) or "none: processes",
            "versions": ", ".join(f"{name} {version}" for name, version in run.info["versions"].items()),
        }
        for name, value in own.items():
            facts.setdefault(name, []).append(value)
    rows = [(name, " | ".join(dict.fromkeys(values))) for name, values in facts.items()]
    return pd.DataFrame(rows, columns=["what", "value"])
