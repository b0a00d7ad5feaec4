"""For all tests."""

import gc


def pytest_collection_finish(session) -> None:
    """What the imports have left is there for good: collections, of which Holm's correction asks for one, pass it."""
    gc.collect()
    gc.freeze()
