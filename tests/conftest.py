"""Shared by every test."""

import gc
import os

# before torch is imported: two processes with two threads each slow one another down on a small machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# half a million objects of imported modules live to the end; no garbage collection needs to look through them
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
