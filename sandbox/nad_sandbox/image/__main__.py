"""``python -m nad_sandbox.image``: build the sandbox image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nad_sandbox.base import SandboxError
from nad_sandbox.image import IMAGE, build_image


def main() -> int:
    """Build the image and print its tag and id."""
    parser = argparse.ArgumentParser(prog="python -m nad_sandbox.image", description="Build the sandbox image.")
    parser.add_argument("--tag", default=IMAGE, help="its name (default: %(default)s)")
    parser.add_argument(
        "--method",
        choices=["auto", "debian", "dockerfile"],
        default="auto",
        help="debian: from Debian's packages, no registry; dockerfile: on the official Python image",
    )
    parser.add_argument("--rootfs", type=Path, help="keep the unpacked system in this file, for the next build")
    arguments = parser.parse_args()
    try:
        identity = build_image(arguments.tag, method=arguments.method, rootfs=arguments.rootfs)
    except SandboxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{arguments.tag} {identity}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
