"""Why the record of a run is not what the run would give now."""

from mmutils import data
from mmutils.runs.fingerprints import DISK, Disk, changed_files, plain_parameters, planned


def stale(record: dict, notebook: str, parameters: dict, files: Disk = DISK) -> list[str]:
    """Reasons why a record is not what a run of the notebook with these parameters would give; empty when it is fresh.

    Parameters not given have the notebook's defaults. files: those of the repository.
    """
    if record["status"] != "ok":
        return [f"failed before: {record['reason']}"]
    if record["notebook"] != notebook:
        return [f"its notebook was {record['notebook']}"]
    values = planned(notebook, parameters, files)
    before, now = record["parameters"], plain_parameters(values)
    names = sorted(name for name in {*before, *now} if before.get(name, "none") != now.get(name, "none"))
    changes = [f"{name} {before.get(name, 'none')!r} -> {now.get(name, 'none')!r}" for name in names]
    changed = changed_files(record["fingerprints"], notebook, now, files)
    code = [file for file in changed if file != notebook]
    reasons = [f"parameters changed: {', '.join(changes)}"] if changes else []
    reasons += ["notebook changed"] if notebook in changed else []
    reasons += [f"code changed: {', '.join(code)}"] if code else []
    try:
        fingerprint = data.fingerprint(record["data"]["name"], values.get("root") or None)  # "" in notebooks: built in
        return reasons + ["data changed"] * (fingerprint != record["data"]["fingerprint"])
    except (ValueError, FileNotFoundError) as error:
        return [*reasons, f"data cannot be read: {error}"]
