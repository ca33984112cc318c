"""Render the Mermaid diagrams of docs/*.md to SVG files, which the site shows: python docs/scripts/diagrams.py.

It needs a browser for playwright and Mermaid from npm, and is run only when a diagram has changed (`make diagrams`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

from hooks import MERMAID, ROOT, diagram_name  # beside this file

MERMAID_PACKAGE = "mermaid@11"
_BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser")
_OPTIONS = "{startOnLoad: false, theme: 'neutral', fontFamily: 'sans-serif', flowchart: {htmlLabels: false}}"


def main() -> None:
    """Render what has no picture yet, and remove pictures of diagrams that are no longer there."""
    folder = ROOT / "docs" / "diagrams"
    sources = {
        diagram_name(source): source
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for source in MERMAID.findall(page.read_text(encoding="utf-8"))
    }
    for picture in folder.glob("*.svg"):
        if picture.name not in sources:
            picture.unlink()
    missing = {name: source for name, source in sources.items() if not (folder / name).exists()}
    if not missing:
        return
    browser_path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    with tempfile.TemporaryDirectory() as packages, sync_playwright() as playwright:
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", MERMAID_PACKAGE], cwd=packages, check=True)
        browser = playwright.chromium.launch(executable_path=browser_path)
        page = browser.new_page()
        page.add_script_tag(path=Path(packages) / "node_modules" / "mermaid" / "dist" / "mermaid.min.js")
        page.evaluate(f"mermaid.initialize({_OPTIONS})")
        for name, source in missing.items():
            svg = page.evaluate("async source => (await mermaid.render('diagram', source)).svg", source)
            # an XML file has no <br>
            (folder / name).write_text(svg.replace("<br>", "<br/>") + "\n", encoding="utf-8")
        browser.close()


if __name__ == "__main__":
    main()
