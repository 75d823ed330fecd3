"""How the demo looks on the screen."""

from __future__ import annotations

import os
import shutil
import sys

BOLD, DIM, GREEN, RED, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[31m", "\x1b[0m"


class Screen:
    """Chapters, words of explanation, and what programs said."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.chapter = 0
        self.width = max(110, shutil.get_terminal_size((132, 24)).columns)

    def paint(self, colour: str, text: str) -> str:
        """The text in a colour, on a terminal."""
        return f"{colour}{text}{PLAIN}" if self.colours else text

    def title(self, text: str) -> None:
        """Begin a chapter."""
        self.chapter += 1
        print(f"\n{self.paint(BOLD, f'{self.chapter}. {text}')}", flush=True)

    def say(self, text: str) -> None:
        """A word of explanation."""
        print(text, flush=True)

    def good(self, text: str) -> None:
        """Something that was proven."""
        print(self.paint(GREEN, text), flush=True)

    def head(self, text: str) -> None:
        """What the next lines are: a command, a file."""
        print(self.paint(DIM, f"  {text}"), flush=True)

    def show(self, text: str) -> None:
        """What a program said or a file holds, word for word."""
        for line in text.splitlines():
            print(f"    {line}".rstrip(), flush=True)
