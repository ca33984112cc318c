"""Shared by every test."""

import os

# before torch is imported: two processes with two threads each slow one another down on a small machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
