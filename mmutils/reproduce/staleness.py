"""Why the record of a run is not what the run would give now."""

from mmutils.runs import changed_files, fingerprints
from mmutils.runs.fingerprints import DISK, Disk, digest


def stale(
    record: dict, *, notebook: str | None = None, parameters: dict | None = None, files: Disk = DISK
) -> list[str]:
    """Reasons why a record is not what a run would give now; empty when it is fresh.

    notebook, parameters: those of the run as planned; parameters not given have the notebook's defaults. Without
    `parameters` those of the record are taken to be right. files: those of the repository.
    """
    if record["status"] != "ok":
        return [f"failed before: {record['reason']}"]
    notebook = notebook or record["notebook"]
    if record["notebook"] != notebook:
        return [f"its notebook was {record['notebook']}"]
    planned = fingerprints.planned(notebook, parameters or {}, files)
    wanted = record["parameters"] if parameters is None else fingerprints.plain_parameters(planned)
    return [
        *_changed_parameters(record["parameters"], wanted),
        *_changed_code(record["fingerprints"], notebook, wanted, files),
        *_changed_data(record["data"], planned.get("root") or None),  # "" is the default of notebooks
    ]


def _changed_parameters(had: dict, wanted: dict) -> list[str]:
    names = sorted(name for name in {*had, *wanted} if had.get(name, "none") != wanted.get(name, "none"))
    changes = [f"{name} {had.get(name, 'none')!r} -> {wanted.get(name, 'none')!r}" for name in names]
    return [f"parameters changed: {', '.join(changes)}"] if changes else []


def _changed_code(had: dict, notebook: str, wanted: dict, files: Disk) -> list[str]:
    names = changed_files(had, notebook, wanted, files)
    reasons = [f"code changed: {', '.join(names)}"] if names else []
    changed = had["notebook"] != digest(fingerprints.notebook_code(notebook, files))
    return [*(["notebook changed"] if changed else []), *reasons]


def _changed_data(data: dict, root: str | None) -> list[str]:
    from mmutils import data as datasets

    try:
        now = datasets.fingerprint(data["name"], root)
    except (ValueError, FileNotFoundError) as error:
        return [f"data cannot be read: {error}"]
    return [] if now == data["fingerprint"] else ["data changed"]
