"""Messages by Pushbullet."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import pushbullet
from pushbullet.errors import InvalidKeyError, PushbulletError
from requests import RequestException

from manager_core.channels.settings import ALL, Pushbullet
from manager_core.channels.trouble import Refused, Trouble, network, seconds
from manager_core.channels.web import Careful
from manager_core.entry import Entry
from manager_core.letters import one_line
from manager_core.secrets import SecretUnreadable

AT_ONCE = False
_LONGEST = 4000  # a note is read on a telephone
_BUSY = 429


class Notes:
    """Pushbullet's pushes. Raises Trouble, and Refused for one note that is not taken."""

    def __init__(self, settings: Pushbullet, timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._account: Any = None

    def __enter__(self) -> Notes:
        try:
            token = self.settings.access_token.value()
        except SecretUnreadable as error:
            raise Trouble(f"access_token: {error}") from None
        with self._said():
            self._account = _Account(token, self.settings.api_base, self.timeout_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._account.close()

    def send(self, entry: Entry, recipients: Sequence[str]) -> dict[str, str]:
        """Send a note to each."""
        for who in recipients:
            with self._said():
                self._account.note(
                    who, one_line(entry.letter.subject), entry.letter.text[:_LONGEST], entry.id
                )
        return {}

    def account(self) -> None:
        """Ask for the account: it shows that token and network work."""
        with self._said():
            self._account.me()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Put into words what pushbullet.py and requests raise."""
        try:
            yield
        except InvalidKeyError:
            raise Trouble("Pushbullet does not take the access token") from None
        except PushbulletError as error:
            status, after_s = self._account.last if self._account is not None else (0, 0.0)
            said = f"Pushbullet answers {status or ''}: {_message(error)}"
            if status in {200, 400, 404}:  # 200: there is no such device
                raise Refused(said) from None
            raise Trouble(said, after_s) from None
        except RequestException as error:
            raise Trouble(f"{self.settings.api_base}: {network(error)[:200]}") from None


def connect(settings: Pushbullet, timeout_s: float) -> Notes:
    """A session for some notes, to be used with `with`."""
    return Notes(settings, timeout_s)


def probe(settings: Pushbullet, timeout_s: float) -> None:
    """Try everything but a note. Raises Trouble."""
    with Notes(settings, timeout_s) as notes:
        notes.account()


def _message(error: Exception) -> str:
    """What Pushbullet says: a JSON object with error.message (docs.pushbullet.com, Errors)."""
    text = str(error)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return one_line(text)[:200]


class _Account(pushbullet.Pushbullet):  # type: ignore[misc]
    """One account, without the four requests that pushbullet.py makes before each note."""

    def __init__(self, token: str, base: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.last = (0, 0.0)  # the last answer's status, and how long it asks to wait
        for name in ("DEVICES_URL", "CHANNELS_URL", "ME_URL", "PUSH_URL"):
            old = getattr(pushbullet.Pushbullet, name)
            setattr(self, name, base.rstrip("/") + old.partition("pushbullet.com")[2])
        super().__init__(token)

    def refresh(self) -> None:
        """Called when the session is there; what it would fetch here is fetched when it is needed."""
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, Careful(self.timeout_s))  # pushbullet.py waits for ever
        self._session.hooks["response"].append(self._answered)

    def me(self) -> None:
        """Ask who we are."""
        self._load_user_info()

    def note(self, who: str, title: str, body: str, guid: str) -> None:
        """Push one note."""
        kind, _, name = who.partition(":")
        data = {"type": "note", "title": title, "body": body}
        # Pushbullet takes a push with the same guid once (docs.pushbullet.com, Create Push).
        data["guid"] = f"{guid}-{who}"
        if kind == "device":
            self._load_devices()
            data["device_iden"] = self.get_device(name).device_iden
        elif kind == "channel":
            data["channel_tag"] = name
        elif who != ALL:
            data["email"] = who
        self._push(data)

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def _answered(self, response: Any, *_args: Any, **_named: Any) -> None:
        wait_s = seconds(response.headers.get("Retry-After"))
        reset = seconds(response.headers.get("X-Ratelimit-Reset"))  # a moment, in epoch seconds
        if response.status_code == _BUSY and reset and not wait_s:
            wait_s = max(0.0, reset - time.time())
        self.last = (response.status_code, wait_s)
