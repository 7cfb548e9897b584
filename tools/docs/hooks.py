"""What MkDocs is told beside `mkdocs.yml`."""

import logging
import os
import pathlib
import re

import links  # MkDocs looks in the folder of this file.
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = pathlib.Path(__file__).parents[2]

# Pages of the site that are not in docs/, by their place in the site.
_ELSEWHERE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "results/exports.md": "benchmarks/results/exports.md",
    "results/kernels.md": "benchmarks/results/kernels.md",
    "results/layers.md": "benchmarks/results/layers.md",
    "results/mesh.md": "benchmarks/results/mesh.md",
    "results/nnx.md": "benchmarks/results/nnx.md",
    "results/train.md": "benchmarks/results/train.md",
}

_DOWNLOAD = re.compile(
    r"<(?:iframe|img|link|script)\b[^>]*\b(?:href|src)=[\"']?(?:https?:)?//[^>]*"
)

_log = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from elsewhere."""
    for page, source in _ELSEWHERE.items():
        path = str(_ROOT / source)
        files.append(File.generated(config, page, abs_src_path=path))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Makes the links of a page those of the site."""
    pages = {
        os.path.relpath(file.abs_src_path, _ROOT): file.src_uri
        for file in files
        if file.abs_src_path
    }
    source = os.path.relpath(page.file.abs_src_path, _ROOT)
    return links.for_site(markdown, source, pages=pages, root=_ROOT)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warns of what a browser would download from somewhere else."""
    for match in _DOWNLOAD.findall(output):
        _log.warning("%s is not self-contained: %s", page.file.src_uri, match)
    return output
