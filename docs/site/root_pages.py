"""What mkdocs needs to show the repository's pages as they are: those at its root, links that leave docs/, diagrams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md"} | {
    name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "RELEASE.md", "SECURITY.md") if (ROOT / name).exists()
}


def on_files(files: Any, config: Any) -> Any:
    """Add the root's pages beside those of docs/, their links as from there."""
    for name, page in PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / name).read_text())
        files.append(File.generated(config, page, content=_between_pages(text, "")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links from docs/ to pages of the root at these; links to other files of the repository become names."""
    pages = _between_pages(markdown, "../" * (page.file.src_uri.count("/") + 1))
    return re.sub(r"^```mermaid\nflowchart TB\n(.*?)^```", _layers, pages, flags=re.DOTALL | re.MULTILINE)


def _layers(diagram: re.Match[str]) -> str:
    """A chain of boxes as a table, since the script that draws such diagrams would come from a server."""
    boxes = re.findall(r'\["(.+?)(?:<br/>(.*?))?"\]', diagram[1].replace("|", "\\|").replace("#95;", "\\_"))
    return "\n".join(["| from the top | |", "|---|---|", *(f"| **{name}** | {words} |" for name, words in boxes)])


def _between_pages(text: str, up: str) -> str:
    def target(match: re.Match[str]) -> str:
        words, name = match["words"], match["name"]
        if name in PAGES:
            return f"[{words}]({'../' * (up.count('/') - 1) if up else ''}{PAGES[name]}{match['anchor'] or ''})"
        return f"{words} (`{name}`)" if (ROOT / name).exists() and not (ROOT / "docs" / name).exists() else match[0]

    return re.sub(rf"\[(?P<words>[^\]]+)\]\({re.escape(up)}(?P<name>[^)#:]+)(?P<anchor>#[^)]*)?\)", target, text)
