"""MkDocs' hook: the pages read on GitHub as they stand, and their links lead to the same things on the site.

README.md is the first page. Pictures come along; what else lies outside of docs/ is linked in the repository, at the
address and revision of mkdocs.yml, and is plain text where no address is known. The report is in the navigation where
it has been rendered.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Link, Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "results" / "report.html"
CODE_OR_LINK = re.compile(r"(?ms)^```.*?^```|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> None:
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    if REPORT.exists():
        files.append(File.generated(config, REPORT.name, abs_src_path=str(REPORT)))


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> None:
    if REPORT.exists():
        nav.items.append(Link("Report", REPORT.name))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = "" if page.file.src_uri == "index.md" else "docs"

    def led(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or "://" in target or target.startswith("#"):
            return found[0]
        path, _, heading = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if found["image"] and not files.get_file_from_path(path):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
        address = _address(path, found["image"] != "", config)
        if address is None:
            return found["text"]
        return f"{found['image']}[{found['text']}]({address}{'#' * bool(heading)}{heading})"

    return CODE_OR_LINK.sub(led, markdown)


def _address(path: str, is_image: bool, config: MkDocsConfig) -> str | None:
    """Where a file of the repository is found from a page of the site, all of which lie side by side; None: nowhere."""
    if is_image:
        return path
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/") and path.endswith(".md"):
        return path.removeprefix("docs/")
    if not config.repo_url:
        return None
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{config.repo_url.rstrip('/')}/{kind}/{config.extra['revision']}/{path}"
