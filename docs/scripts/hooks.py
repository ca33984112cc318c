"""Hooks of mkdocs: rendered diagrams in place of their source, and names of files that are not pages of the site.

GitHub draws a page's Mermaid source itself. The site must fetch nothing from elsewhere, so it shows the picture that
`docs/scripts/diagrams.py` rendered, whose name has the hash of the source: a changed diagram without a new picture is
an error of the build.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^]]+)\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")


def diagram_name(source: str) -> str:
    """Return the file name of a diagram's picture.

    Args:
        source: The Mermaid source between the fences.
    """
    return f"{hashlib.sha256(source.strip().encode()).hexdigest()[:12]}.svg"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace diagrams by their pictures, and links to files of the repository by the names of these files."""
    folder = posixpath.dirname(page.file.src_uri)

    def picture(match: re.Match[str]) -> str:
        name = diagram_name(match[1])
        if not (ROOT / "docs" / "diagrams" / name).is_file():
            from mkdocs.exceptions import PluginError

            raise PluginError(f"{page.file.src_uri}: a diagram has no picture docs/diagrams/{name}; run: make diagrams")
        path = posixpath.relpath(f"diagrams/{name}", folder or ".")
        return f"![Diagram: {_labels(match[1])}]({path}){{ .diagram }}"

    def file_name(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, match[2]))
        if target.startswith("docs/") or not (ROOT / target).exists():
            return match[0]
        return f"`{target}`" if match[1].strip("`") == target else f"{match[1]} (`{target}` in the repository)"

    return _LINK.sub(file_name, MERMAID.sub(picture, markdown))


def _labels(source: str) -> str:
    """Return the labels of a diagram's nodes, for those who do not see it."""
    labels = re.findall(r'\["([^"]+)"\]', source)
    return ", ".join(label.split("<br/>")[0] for label in labels)
