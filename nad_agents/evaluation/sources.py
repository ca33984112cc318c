"""Read problems from files of JSON lines, CSV or Parquet, which may be in a data set on the Hugging Face Hub.

A file on the hub is named ``hf://datasets/OWNER/NAME/PATH``; well-known benchmarks have a short name (see
`BENCHMARKS`).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nad_agents.exceptions import ConfigurationError, MissingDependencyError

__all__ = ["BENCHMARKS", "find_problem_file", "read_rows"]

BENCHMARKS = {
    "humaneval": "hf://datasets/openai/openai_humaneval/openai_humaneval/test-00000-of-00001.parquet",
    "mbpp": "hf://datasets/google-research-datasets/mbpp/full/test-00000-of-00001.parquet",
    "gsm8k": "hf://datasets/openai/gsm8k/main/test-00000-of-00001.parquet",
    "math500": "hf://datasets/HuggingFaceH4/MATH-500/test.jsonl",
    "aime24": "hf://datasets/HuggingFaceH4/aime_2024/data/train-00000-of-00001.parquet",
    "gpqa": "hf://datasets/Idavidrein/gpqa/gpqa_diamond.csv",
}
"""Files of well-known benchmarks on the hub, by short name."""

_HUB = "hf://datasets/"


def find_problem_file(task: str | Path) -> Path:
    """Return the local path of a file with problems, fetching it first if it is on the hub.

    Args:
        task: A file, a short name out of `BENCHMARKS`, or ``hf://datasets/OWNER/NAME/PATH``.

    Raises:
        ConfigurationError: The file does not exist on the hub, or cannot be fetched.
    """
    name = str(task)
    address = name if name.startswith(_HUB) else BENCHMARKS.get(name.lower()) if not Path(name).exists() else None
    if address is None:
        return Path(name)
    parts = address.removeprefix(_HUB).split("/", 2)
    if len(parts) < 3 or not all(parts):
        msg = f"{address} names no file of a data set; give hf://datasets/OWNER/NAME/PATH"
        raise ConfigurationError(msg)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    owner, data_set, file = parts
    try:
        return Path(hf_hub_download(f"{owner}/{data_set}", file, repo_type="dataset"))
    except GatedRepoError as error:
        msg = f"{owner}/{data_set} is gated: accept its terms on its page on the hub and run `hf auth login`"
        raise ConfigurationError(msg) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        msg = f"{address} could not be fetched: {reason}; give a local file of JSON lines, CSV or Parquet instead"
        raise ConfigurationError(msg) from error


def read_rows(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a file, each with its line number, or with its row number if the format has no lines.

    Args:
        path: Path of the file, whose suffix tells the format.
        data: Content of the file, compressed with gzip or not.

    Raises:
        ConfigurationError: The content does not have that format; the message names the line.
        MissingDependencyError: The format is Parquet and pyarrow is not installed.
    """
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
        if suffix == ".parquet":
            yield from enumerate(_parquet(data), 1)
        elif suffix == ".csv":
            # newline="" keeps line breaks within fields
            yield from enumerate(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")), 1)
        else:
            yield from _json_lines(path, data.decode("utf-8"))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        msg = f"the problems {path} cannot be read: {error}; give a file of JSON lines, CSV or Parquet"
        raise ConfigurationError(msg) from error


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # splitlines would also split at characters that JSON allows within strings
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            msg = f"{path}, line {number}: {error}; write a problem as a JSON object on one line"
            raise ConfigurationError(msg) from error
        if not isinstance(fields, dict):
            msg = (
                f"{path}, line {number}: a {type(fields).__name__} where an object is expected; "
                "write a problem as a JSON object on one line"
            )
            raise ConfigurationError(msg)
        yield number, fields


def _parquet(data: bytes) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        msg = "Parquet files need pyarrow; install it with `pip install nad-agents[evaluation]`, or give JSON lines"
        raise MissingDependencyError(msg) from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(data)).to_pylist()
    except ArrowException as error:
        raise OSError(str(error)) from error
    return rows
