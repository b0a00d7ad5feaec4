"""What the runner deletes, keeps and runs again, with notebooks that are not really executed."""

import shutil

import pytest
from filelock import FileLock

from mmutils import runs
from mmutils.reproduce import runner
from mmutils.reproduce.execute import Outcome
from mmutils.reproduce.experiments import Run
from mmutils.reproduce.runner import STARTED, Runner
from mmutils.runs.fingerprints import planned

NOTEBOOK = "notebooks/data_audit.ipynb"
DATA = {"name": "toy", "fingerprint": "f", "splits": {}, "built_in": True}
ENTRIES = {"study": "crisis", "data": DATA, "classes": [], "systems": [], "history": [], "predictions": None}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a runner of runs with these names and needs; its notebooks save weights, or are stopped before."""
    monkeypatch.setattr(runner.data, "fingerprint", lambda name, root=None: "f")

    def make(stop=False, forced=(), **needs):
        def execute(notebook, folder, parameters, *others):
            if stop:
                raise KeyboardInterrupt
            shutil.copy(notebook, folder)
            (folder / "encoder.safetensors").write_text("weights")
            runs.save_record(folder, notebook=NOTEBOOK, parameters=planned(NOTEBOOK, parameters), **ENTRIES)
            return Outcome(None, 1.0)

        return Runner([Run(name, NOTEBOOK, needs=others) for name, others in needs.items()], tmp_path, forced, execute)

    return make


def test_what_another_process_works_in_is_left_as_it_is(made, tmp_path):
    checkpoint, weights = tmp_path / "one" / "checkpoints" / "epoch", tmp_path / "one" / "encoder.safetensors"
    for path in (checkpoint, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the other")
    busy = made(one=(), two=("one",))
    with FileLock(tmp_path / "one" / ".lock"):
        assert not busy.run_all()
    assert "another process works in" in busy.states["one"].reason and busy.states["two"].state == "skipped"
    assert checkpoint.exists() and weights.exists() and not (tmp_path / "one" / runs.RECORD).exists()


def test_checkpoints_of_a_run_that_was_started_by_hand_are_kept(made, tmp_path):
    checkpoint = tmp_path / "one" / "checkpoints" / "epoch"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(KeyboardInterrupt):
        made(stop=True, one=()).run_all()
    assert checkpoint.exists()
    with pytest.raises(KeyboardInterrupt):
        made(stop=True, one=(), forced=("one",)).run_all()
    assert not checkpoint.exists()


def test_a_forced_run_that_was_stopped_goes_on(made, tmp_path):
    again, started = made(one=()), tmp_path / "one" / STARTED
    assert again.run_all() and again.reasons(again.runs[0]) == [] and not started.exists()
    with pytest.raises(KeyboardInterrupt):
        made(stop=True, one=(), forced=("one",)).run_all()
    assert (tmp_path / "one" / runs.RECORD).exists() and not (tmp_path / "one" / "encoder.safetensors").exists()
    assert again.reasons(again.runs[0]) == ["started again, but not finished"]
    (started.parent / "epoch").touch()
    with pytest.raises(KeyboardInterrupt):
        made(stop=True, one=()).run_all()
    assert (started.parent / "epoch").exists()
    assert again.run_all() and again.states["one"].state == "ok" and again.reasons(again.runs[0]) == []


def test_weights_are_made_again_for_what_will_only_become_stale(made, tmp_path):
    needs = {"one": (), "two": (), "three": ("two",), "four": ("one", "three"), "five": ("two",)}
    assert made(**needs).run_all() and made(**needs).without_weights() == {}
    for name in ("two", "three"):
        (tmp_path / name / "encoder.safetensors").unlink()
    assert made(**needs).without_weights() == {}  # nothing runs
    missing = "reads its encoder.safetensors, not here"
    assert made(**needs, forced=("one",)).without_weights().keys() == {"two", "three"}
    assert made(**needs, forced=("five",)).without_weights()["two"] == [f"five {missing}"]


def test_a_run_that_waits_for_none_of_the_others_is_an_error(made):
    with pytest.raises(ValueError, match="two needs one: not all are run here"):
        made(two=("one",)).run_all()


def test_a_corrected_translation_makes_a_run_stale(made, tmp_path):
    notebook, folder = "notebooks/language_transfer.ipynb", tmp_path / "translations"
    folder.mkdir()
    (folder / "hindi.txt").write_text("एक", encoding="utf-8")
    parameters = planned(notebook, {"root": "here", "translated": str(folder)})
    record = runs.save_record(tmp_path / "one", notebook=notebook, parameters=parameters, **ENTRIES)
    moved = folder.rename(tmp_path / "elsewhere")
    assert runner.stale(record, notebook, parameters | {"translated": str(moved)}) == []
    (moved / "hindi.txt").write_text("दो", encoding="utf-8")
    assert runner.stale(record, notebook, parameters | {"translated": str(moved)}) == ["data changed"]
    del record["fingerprints"]["translated"]  # as in older records
    assert runner.stale(record, notebook, parameters | {"translated": str(moved)}) == []
