"""CrisisMMD v2.0, informative task: does a tweet with its picture help in a disaster, or not?

Its splits are not those of the humanitarian task: tweets of one's test are in the other's train, so a model of one task
must not be tested on the other.
"""

from functools import partial

from mmutils.data import crisismmd
from mmutils.data.crisismmd import LICENCE, WHERE  # noqa: F401, as the contract of data sets names them

CLASSES = ("informative", "not_informative")
OFFICIAL = {"train": 9601, "val": 1573, "test": 1534}  # rows of "agreed"


# arguments, results and errors as in `crisismmd`
examples = partial(crisismmd.read_task, "informative", CLASSES)
files = partial(crisismmd.files, task="informative")
