"""A plot under its final name, open until the last word: is it there still, and not the plotter's own?"""

from __future__ import annotations

import os
from dataclasses import dataclass

from drive_manager import guard, marks
from drive_manager.errors import DriveFault, SameFile
from drive_manager.settings import Settings
from drive_manager.voice import Voice
from manager_core.plots import LEAVING
from manager_core.wire import Have, Kept


@dataclass(frozen=True)
class Published:
    """The file, open as `fd`, in its open folder on the drive `mount`; `facts` are the size and mtime_ns it must have.

    `rehearsal`: the folder is one of its own, beside the plots. `taken`: we have the drive's lock, for which whoever
    takes it offline waits.
    """

    settings: Settings
    mount: str
    uuid: str
    disk: str
    name: str
    facts: tuple[int, int]
    folder: int
    fd: int
    rehearsal: bool = False
    taken: bool = False

    def say_again(self, voice: Voice, said: Have | Kept) -> None:
        """The answer to ASIDE: the same once more. Raises SameFile, DriveFault, DriveGone, MarksUnreadable, OSError."""
        voice.step("looking again", self.mount)
        # The plotter's file has another name now; if this one has too, it is the same file, by whatever way. That
        # name was never asked for before, so no file system (FUSE, NFS) answers by what it remembers of it.
        renamed = not guard.exists(self.folder, self.name) and os.fstat(self.fd).st_nlink > 0
        if guard.exists(self.folder, self.name + LEAVING) or renamed:
            raise SameFile(
                f"{self.mount}/{self.name} is the very file that was offered; "
                "the plotter's [plots] folders must not be, or lead to, a drive of the NAS"
            )
        self.prove()
        voice.say(said)

    def prove(self) -> None:
        """That it has its name still, on a drive that may be relied on. Raises as `say_again`, but for SameFile."""
        facts = os.fstat(self.fd)
        try:
            named = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            named = None
        same = named is not None and os.path.samestat(facts, named)
        if not same or (facts.st_size, facts.st_mtime_ns) != self.facts:
            raise DriveFault(f"{self.mount}/{self.name} changed meanwhile")
        if self.rehearsal:
            return
        guard.still_there(self.settings.drives, self.mount, self.folder)
        offline = marks.read(self.settings.files.state_folder)
        mark = marks.find(offline, self.mount, self.uuid, self.disk)
        if mark is not None and (mark.failed or not self.taken):
            raise DriveFault(f"{self.mount} was set aside meanwhile: {mark.why}")
