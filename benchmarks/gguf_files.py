"""How long a GGUF file takes to convert, once, and to load from then on.

The file is converted into an empty cache, then loaded by its own path, which finds the converted folder by the file's
SHA-256, and by the folder's path. Imports are not counted.

    python benchmarks/gguf_files.py model.gguf
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="loads of each kind")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="nad-gguf-") as cache:
        os.environ["NAD_CACHE_DIR"] = cache
        # the cache's folder is read from the environment
        from nad_agents.models import gguf_conversion, load_model
        from nad_agents.models.gguf import converted_gguf

        assert gguf_conversion.convert
        options.file.read_bytes()  # from here on the file is in memory
        before = time.process_time()
        converting, folder = seconds(lambda: converted_gguf(options.file))
        processor = time.process_time() - before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        by_file, by_folder = [], []
        for _ in range(options.rounds):
            by_file.append(seconds(lambda: load_model(options.file, device="cpu"))[0])
            by_folder.append(seconds(lambda: load_model(folder, device="cpu"))[0])
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    print(f"{options.file.stat().st_size / 1e6:.0f} MB, converted to {disk / 1e6:.0f} MB; {os.cpu_count()} cores")
    print("| what | seconds |\n|---|---|")
    print(f"| conversion, once ({processor:.1f} s of processor time, peak {memory:.0f} MiB) | {converting:.1f} |")
    print(f"| the file loaded again | {middle(by_file)} |")
    print(f"| its converted folder loaded | {middle(by_folder)} |")


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Run an action and return how long it took, and its result."""
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def middle(values: list[float]) -> str:
    """The median, with the least and the greatest value."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
