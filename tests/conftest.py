"""For all tests."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run on all cores as it is
gc.disable()  # it walks through all that is imported, again and again, and finds nothing


def pytest_collection_finish(session) -> None:
    """What the imports have left is there for good: collections, of which Holm's correction asks for one, pass it."""
    gc.enable()
    gc.freeze()
