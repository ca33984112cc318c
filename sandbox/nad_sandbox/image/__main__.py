"""Build the sandbox image, or one with more packages: ``python -m nad_sandbox.image``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nad_sandbox.backends.docker import DockerSandbox
from nad_sandbox.base import SandboxError
from nad_sandbox.image import IMAGE, OFFICIAL_IMAGE, build_image
from nad_sandbox.image.packages import add_packages


def main() -> int:
    """Build the image and print its tag and id."""
    parser = argparse.ArgumentParser(prog="python -m nad_sandbox.image", description="Build the sandbox image.")
    parser.add_argument("--tag", default=IMAGE, help="name of the image (default: %(default)s)")
    parser.add_argument(
        "--with",
        dest="packages",
        action="append",
        metavar="PACKAGE",
        help="add a Python package, such as numpy, to a new image of the name --tag; may be given again",
    )
    parser.add_argument(
        "--base", help=f"image to which --with adds packages (default: {IMAGE}), or on which the Dockerfile builds"
    )
    parser.add_argument(
        "--method",
        choices=["auto", "debian", "dockerfile"],
        default="auto",
        help="dockerfile: on an image with Python 3.13; debian: from the packages of this Debian, without a registry; "
        "auto (default): dockerfile where the engine has or gets that image, else debian",
    )
    parser.add_argument("--rootfs", type=Path, help="keep the unpacked system in this file, for the next build")
    arguments = parser.parse_args()
    if arguments.packages and arguments.tag == (arguments.base or IMAGE):
        parser.error("--with makes another image: give it a --tag of its own, such as nad-sandbox-numpy:1")
    try:
        identity = _build(arguments)
    except (SandboxError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{arguments.tag} {identity}\n")
    return 0


def _build(arguments: argparse.Namespace) -> str:
    if not arguments.packages:
        base = arguments.base or OFFICIAL_IMAGE
        return build_image(arguments.tag, method=arguments.method, rootfs=arguments.rootfs, base=base)
    if arguments.base is None:
        with DockerSandbox(build=True, prestart=0) as sandbox:
            sandbox.check_available()
    return add_packages(arguments.packages, arguments.tag, base=arguments.base or IMAGE)


if __name__ == "__main__":
    sys.exit(main())
