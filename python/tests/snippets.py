"""The blocks of code in the documents."""

import re
import textwrap

from conftest import ROOT

#: The documents for people who write Python.
DOCUMENTS = ["README.md", "docs/python.md", "docs/python-classes.md", "docs/migrating-from-openmsistream.md"]


def blocks(document: str) -> list[tuple[str, str]]:
    """Language and text of each block, also of those in lists."""
    text = (ROOT / document).read_text("utf-8")
    found = re.findall(r"^( *)```([a-z]*)[^\n]*\n(.*?)^\1```$", text, re.S | re.M)
    return [(language, textwrap.dedent(code)) for _, language, code in found]


def snippets(document: str, language: str) -> list[str]:
    """The blocks in a language."""
    return [code for spoken, code in blocks(document) if spoken == language]


def snippet(document: str, begin: str) -> str:
    """The block that begins so."""
    [code] = [code for _, code in blocks(document) if code.startswith(begin)]
    return code
