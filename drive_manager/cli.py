"""drive_manager: looks at the drives of a NAS and picks those that plots are sent to. No verb: the cron line's run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from drive_manager import settings as nas_settings
from drive_manager.settings import PROGRAM, Settings
from manager_core.program import DONE, FAILED, Program, Verb, json_option


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Look, choose, write the receive script: what cron does each minute."""
    from drive_manager import minute

    if args.test:
        from drive_manager import rehearsal

        return rehearsal.run(settings, dry_run=args.dry_run)
    if args.dry_run:
        print("\n".join(minute.rehearse(settings)))
        return DONE
    return minute.run(settings)


def status(args: argparse.Namespace, settings: Settings) -> int:
    """Show the drives, the plots on them and the room for more."""
    from drive_manager import minute, show

    facts = show.gather(settings, *minute.observe(settings, unmounted=True))
    if args.json:
        import json

        print(json.dumps(facts, indent=1))
    elif sys.stdout.isatty():
        from rich.console import Console

        show.coloured(facts, Console())
    else:
        print(show.plain(facts))
    return DONE


def check(args: argparse.Namespace, settings: Settings) -> int:
    """Check each requirement, a line each."""
    from drive_manager import check as requirements
    from drive_manager import minute
    from manager_core import checks

    lines = requirements.lines(settings, *minute.observe(settings, unmounted=True))
    return DONE if checks.show(lines, as_json=args.json) else FAILED


def report(args: argparse.Namespace, settings: Settings) -> int:
    """Print or send the report of this moment; each day one is sent by itself."""
    from drive_manager import minute, report_send

    memory, _seen, world = minute.observe(settings)
    return report_send.verb(args, settings, memory, world)


def alerts(args: argparse.Namespace, settings: Settings) -> int:
    """List what holds now and was told, and the messages that wait."""
    from manager_core import holding

    return holding.show(settings.files.state_folder, settings, as_json=args.json)


def authorize(args: argparse.Namespace, settings: Settings) -> int:
    """Print the authorized_keys line that lets a plotter's key offer plots, and nothing else."""
    from drive_manager import gate

    print(gate.authorize(settings.receive.script, args.keyfile))
    return DONE


def receive(args: argparse.Namespace, settings: Settings) -> int:
    """Receive plots over standard input and output; started by the receive script."""
    from drive_manager import receive as receiver

    return receiver.run(args, settings)


def offline(args: argparse.Namespace, settings: Settings) -> int:
    """Take a drive out of use for new plots, and say when it is safe to pull."""
    from drive_manager import aside

    return aside.offline(settings, args.mount, args.why, dry_run=args.dry_run, wait_s=args.wait)


def online(args: argparse.Namespace, settings: Settings) -> int:
    """Take a drive back into use."""
    from drive_manager import aside

    return aside.online(settings, args.mount, dry_run=args.dry_run)


def install(args: argparse.Namespace, _settings: None) -> int:
    """Set this NAS up, or take that back."""
    from drive_manager import install as installer

    return installer.run(args)


def _report(parser: argparse.ArgumentParser) -> None:
    from drive_manager import report_send

    report_send.add_arguments(parser)


def _keyfile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keyfile", type=Path, metavar="KEYFILE", help="the plotter's public key (.pub)")


def _mount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mount", metavar="MOUNT", help="where the drive is mounted")


def _mount_and_why(parser: argparse.ArgumentParser) -> None:
    _mount(parser)
    parser.add_argument("--why", default="by hand", metavar="TEXT", help="kept with the mark, for people")
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="wait no longer than this for a plot that is still being written (0: not at all); "
        "the exit code is 1 while the drive must not be pulled",
    )


def _seconds(text: str) -> float:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text)


def _receive(parser: argparse.ArgumentParser) -> None:
    from drive_manager import receive as receiver

    receiver.add_arguments(parser)


def _install(parser: argparse.ArgumentParser) -> None:
    from drive_manager import install as installer

    installer.add_arguments(parser)


VERBS = {
    "run": Verb(run),
    "status": Verb(status, json_option, writes=False),
    "check": Verb(check, json_option, writes=False),
    "report": Verb(report, _report),
    "alerts": Verb(alerts, json_option, writes=False),
    "install": Verb(install, _install, needs_config=False),
    "authorize": Verb(authorize, _keyfile, writes=False),
    "receive": Verb(receive, _receive, log="receive"),
    "offline": Verb(offline, _mount_and_why),
    "online": Verb(online, _mount),
}


def main() -> int:
    """The program drive_manager. Returns its exit code."""
    return Program(PROGRAM, __doc__ or "", VERBS, nas_settings.load).main()


if __name__ == "__main__":
    sys.exit(main())
