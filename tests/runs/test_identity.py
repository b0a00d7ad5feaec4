"""Identities: other code or other settings are never taken for the same."""

from functools import partial

import pytest

from mmutils.runs import fingerprints, identity
from mmutils.runs.identity import of_views


@pytest.fixture
def code_of(tmp_path, monkeypatch):
    """The digest of the code that computes features, where a file of the package has another text."""

    def changed(path=None, change=str):
        files = fingerprints.Snapshot()
        files.text(tmp_path / "toy.ipynb")  # it may have read files that lie elsewhere
        if path:
            files.texts[files.root / path] = change(files.texts[files.root / path])
        monkeypatch.setattr(fingerprints, "IMPORTED", files)
        identity.versions.cache_clear()
        return identity.versions()["code"]

    yield changed
    identity.versions.cache_clear()


def test_features_follow_the_code_that_computes_them(code_of):
    before = code_of()
    for path in ("models/encoder.py", "models/fusion.py", "batches/images.py", "data/tools/pictures.py"):
        assert code_of(f"mmutils/{path}", lambda text: text + "\nx = 1\n") != before
    assert code_of("mmutils/models/encoder.py", lambda text: text + "\n# a remark\n") == before
    assert code_of("mmutils/report/plots.py", lambda text: text + "\nx = 1\n") == before


def divided(images, generator, by=255, weak=False):
    return images.float() / by


def by_closure(by):
    return lambda images, generator: images.float() / by


def one_after_the_other(first, second):
    return lambda images, generator: second(first(images, generator), generator)


class Views:
    def __init__(self, by):
        self.by = by

    def draw(self, images, generator):
        return images.float() / self.by


@pytest.mark.parametrize(
    ("views", "same", "other"),
    [
        (partial(divided, by=2), partial(divided, by=2), partial(divided, by=3)),
        (partial(divided, weak=True, by=2), partial(divided, by=2, weak=True), partial(divided, by=2)),
        (partial(by_closure(2), None), partial(by_closure(2), None), partial(by_closure(3), None)),
        (by_closure(2), by_closure(2), by_closure(3)),
        (one_after_the_other(divided, by_closure(2)), one_after_the_other(divided, by_closure(2)),
         one_after_the_other(divided, by_closure(3))),
        (Views(2).draw, Views(2).draw, Views(3).draw),
        (lambda i, g: i / 2, lambda i, g: i / 2, lambda i, g: i / 3),
        (lambda i, g, by=2: i / by, lambda i, g, by=2: i / by, lambda i, g, by=3: i / by),
    ],
)  # fmt: skip
def test_other_views_are_told_apart(views, same, other):
    assert of_views(views) == of_views(same) != of_views(other)
    assert " at 0x" not in of_views(views)  # or another process could not go on
