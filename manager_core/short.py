"""What fits a short message."""

from __future__ import annotations

import unicodedata

from manager_core import letters

LENGTH = 160
# In GSM 03.38 these take two of the 160 places; the back quote is not in it at all.
_TWO_PLACES = frozenset("^{}\\[~]|")
_PLAIN = str.maketrans(
    {
        "\u00b0": "",  # degree sign
        "`": "'",
        "\u2013": "-",
        "\u2014": "-",
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2192": "->",
        "\u2265": ">=",
        "\u2264": "<=",
        "\u00d7": "x",
        "\u00df": "ss",
        "\u00b5": "u",
    }
)


def short(subject: str) -> str:
    """What of a subject fits one SMS: 160 places of plain ASCII, since one other character leaves only 70."""
    plain = unicodedata.normalize("NFKD", subject.translate(_PLAIN))
    plain = letters.one_line("".join(c for c in plain if not unicodedata.combining(c)))
    plain = plain.encode("ascii", "replace").decode()
    if _places(plain) <= LENGTH:
        return plain
    while _places(plain) > LENGTH - 3:
        plain = plain[:-1]
    return f"{plain.rstrip()}..."


def _places(text: str) -> int:
    return len(text) + sum(c in _TWO_PLACES for c in text)
