"""A wall clock of a program's own, which a file sets: CLOCK_REALTIME alone, as when a person or NTP sets the clock.

A few lines of C that are loaded before the C library's own; whatever compiler is there will do. (libfaketime has all
of Python's sleeps fail once it is told to leave CLOCK_MONOTONIC alone.)
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from rig import parts

_SOURCE = """
typedef struct { long seconds, rest; } when;
extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern int open(const char *, int, ...), close(int);
extern long read(int, void *, unsigned long), strtol(const char *, char **, int);

static long shift(void) {
    char text[32];
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, 0) : -1;
    long got;
    if (file < 0) return 0;
    got = read(file, text, 31);
    close(file);
    if (got <= 0) return 0;
    text[got] = 0;
    return strtol(text, 0, 10);
}
int clock_gettime(int id, when *now) {
    int (*real)(int, when *) = (int (*)(int, when *)) dlsym((void *) -1L, "clock_gettime");
    int failed = real(id, now);
    if ((id == 0 || getenv("CLOCK_SHIFT_ALL")) && !failed) now->seconds += shift();
    return failed;
}
int gettimeofday(when *now, void *zone) {
    int failed = clock_gettime(0, now);
    now->rest /= 1000;
    return failed;
}
long time(long *kept) {
    when now;
    clock_gettime(0, &now);
    if (kept) *kept = now.seconds;
    return now.seconds;
}
"""


class Clock:
    """The clock of the programs that are started with `env`; `set` puts it so many seconds ahead."""

    def __init__(self, folder: Path, seen_as: Path) -> None:
        """In a folder that the programs see as `seen_as`."""
        compiler = next(filter(None, map(parts.find, ("cc", "gcc", "clang", "tcc"))), None)
        if compiler is None:
            parts.missing("no C compiler is installed (package tcc)")
        assert compiler is not None
        folder.mkdir(mode=0o755)
        self._file = folder / "shift"
        self.set(0)
        source = folder / "clock.c"
        source.write_text(_SOURCE)
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-nostdlib",
            "-w",
            "-o",
            str(folder / "clock.so"),
            str(source),
        ]
        subprocess.run(command, check=True, timeout=60)
        # `env`: only the wall clock; `later`: all clocks, as for a program that is started so much later. Such a one
        # must not wait for anything with a deadline: the kernel would have it wait that much longer.
        self.env = {"LD_PRELOAD": str(seen_as / "clock.so"), "CLOCK_SHIFT_FILE": str(seen_as / "shift")}
        self.later = {**self.env, "CLOCK_SHIFT_ALL": "yes"}

    def set(self, ahead_s: int) -> None:
        """Set the clock; programs that run see it jump."""
        made = self._file.with_suffix(".new")
        made.write_text(f"{ahead_s}\n")
        made.chmod(0o644)
        made.replace(self._file)
