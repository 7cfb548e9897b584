"""Links of the pages, as the site needs them.

A page links to files by their place in the repository, which is right on a
code host. The site has some of these files, at other places, and lacks the
rest: the sources, the tests.
"""

import os
import pathlib
import posixpath
import re
from collections.abc import Mapping

# Code first, so that nothing in it is taken for a link.
_CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```$"
    r"|`[^`\n]+`"
    r"|(?P<image>!?)\[(?P<label>[^]]+)\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def for_site(
    markdown: str,
    source: str,
    *,
    pages: Mapping[str, str],
    root: str | os.PathLike[str],
) -> str:
    """Makes links lead to the site's pages, or takes them away.

    A link to a file that the site lacks becomes plain text: the file's path
    where the text was its name, and the text alone elsewhere. A link to what
    is not in the repository either stays as it is, for the build to warn of.

    Args:
        markdown: the text of a page.
        source: the page's own path in the repository.
        pages: the files of the site: paths in the site by paths in the
            repository, `source` among them.
        root: the repository.

    Returns:
        The text with other links.
    """
    folder = posixpath.dirname(source)
    site_folder = posixpath.dirname(pages[source])

    def replaced(match: re.Match[str]) -> str:
        target, label = match["target"], match["label"]
        if target is None or "://" in target or target.startswith("#"):
            return match[0]
        path, hash_sign, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path in pages:
            page = posixpath.relpath(pages[path], site_folder or ".")
            text = f"[{label}]({page}{hash_sign}{anchor})"
            return match["image"] + text
        if match["image"] or not (pathlib.Path(root) / path).exists():
            return match[0]
        named = label.strip("`") in (path, posixpath.basename(path))
        return f"`{path}`" if named else label

    return _CODE_OR_LINK.sub(replaced, markdown)
