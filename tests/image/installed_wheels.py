"""Wheels of distributions that are installed in this environment, so that an image is built without an index."""

import zipfile
from email import message_from_string
from importlib.metadata import Distribution
from pathlib import Path

from packaging.tags import sys_tags

_OF_THE_INSTALLATION = {"INSTALLER", "REQUESTED", "direct_url.json"}


def pack_wheel(distribution: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed distribution into a folder, and return its path.

    Scripts outside of the folder of packages are left out: pip makes those of entry points anew.
    """
    tags = message_from_string(distribution.read_text("WHEEL")).get_all("Tag")
    tag = next(tag for tag in map(str, sys_tags()) if tag in tags)
    name = distribution.metadata["Name"].replace("-", "_").replace(".", "_")
    path = folder / f"{name}-{distribution.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files:
            made_here = file.name in _OF_THE_INSTALLATION or file.suffix == ".pyc"
            if ".." not in file.parts and not made_here:
                archive.write(distribution.locate_file(file), file.as_posix())
    return path
