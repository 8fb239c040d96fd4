"""Make arbitrary text, such as the name of a class, safe for each format.

There is a function for each format; all of them start with `printable`. HTML and SVG need only
`printable` and their own escaping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of the text that
# follows, and what is no character: XML has no place for most of them.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
MARKDOWN = re.compile(r"[\\`*<|~$]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
MARKDOWN_START = re.compile(r"^(?:[#>]|[-+=](?=\s|[-=]|$)|\d+(?=[.)](?:\s|$)))")
LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "†": r"$^\dagger$",
    "↓": r"$\downarrow$",
    "<": r"$<$",
    ">": r"$>$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    # After the end of a row these are arguments of it.
    "[": "{[}",
    "*": "{*}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def printable(text: str) -> str:
    r"""One line of text, with unprintable characters as escapes: `\n`, `\x1b`."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def all_printable(value: Any) -> Any:
    """Make every text in nested lists and mappings `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [all_printable(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): all_printable(each) for key, each in value.items()}
    return value


def markdown_cell(text: str) -> str:
    """Literal text in a table."""
    return MARKDOWN.sub(lambda found: f"\\{found[0]}", printable(text))


def markdown(text: str) -> str:
    """Literal text in a paragraph, a heading or an item of a list."""
    return MARKDOWN_START.sub(_escaped_start, markdown_cell(text))


def _escaped_start(found: re.Match[str]) -> str:
    """A number's point is what makes a list of it."""
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def markdown_code(text: str) -> str:
    """A code span, fenced by more backticks than the text has in a row."""
    shown = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def latex(text: str) -> str:
    escaped = "".join(LATEX.get(character, character) for character in printable(text))
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)
