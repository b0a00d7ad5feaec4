"""HarMeme (Pramanick et al. 2021, https://arxiv.org/abs/2110.00413): memes about COVID-19 -> harmful or not.

Laid out as Hateful Memes, with the official splits as train, dev_seen and test_seen; "harmful" is somewhat or very.
"""

from mmutils.data import hateful_memes

CLASSES = ("not harmful", "harmful")
OFFICIAL = {"train": (1949, 1064), "dev_seen": (116, 61), "test_seen": (230, 124)}  # by file: examples of each class
WHERE = "https://github.com/di-dimitrov/mmf"
files = hateful_memes.files


def examples(root, split: str, missing: str = "error", language: str = "en"):
    """Table of examples; arguments and errors as in `hateful_memes`."""
    return hateful_memes.examples(root, split, "dev_seen", "test_seen", missing, language)
