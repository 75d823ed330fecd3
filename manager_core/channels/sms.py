"""Short messages by Twilio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

from requests import RequestException
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from manager_core import letters
from manager_core.channels.settings import Sms
from manager_core.channels.trouble import Refused, Trouble, network, seconds
from manager_core.channels.web import Careful
from manager_core.entry import Entry
from manager_core.secrets import SecretUnreadable, learn
from manager_core.short import short

AT_ONCE = False


class _Http(TwilioHttpClient):  # type: ignore[misc]
    """Remembers the answer's headers, which twilio's exceptions do not hold."""

    headers: Mapping[str, str] = MappingProxyType({})

    def request(self, *args: Any, **named: Any) -> Any:
        """As twilio's own."""
        response = super().request(*args, **named)
        self.headers = dict(response.headers or {})
        return response


class Texts:
    """Twilio's Messages. Raises Trouble, and Refused for one message that is not taken."""

    def __init__(self, settings: Sms, timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._client: Any = None
        self._http: Any = None

    def __enter__(self) -> Texts:
        account, token = (_secret(self.settings, name) for name in ("account_sid", "auth_token"))
        learn(f"{account}:{token}")
        self._http = _Http(timeout=self.timeout_s)  # twilio's own default is to wait for ever
        for scheme in ("https://", "http://"):
            self._http.session.mount(scheme, Careful(self.timeout_s))
        self._client = Client(account, token, http_client=self._http)
        self._client.api.base_url = self.settings.api_base
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.session.close()

    def send(self, entry: Entry, recipients: Sequence[str]) -> dict[str, str]:
        """Send one message to each."""
        origin = "messaging_service_sid" if self.settings.sender.startswith("MG") else "from_"
        for number in recipients:
            with self._said():
                self._client.messages.create(
                    to=number, body=short(entry.letter.subject), **{origin: self.settings.sender}
                )
        return {}

    def account(self) -> None:
        """Ask for the account: it shows that login and network work."""
        with self._said():
            self._client.api.accounts(self._client.account_sid).fetch()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Put into words what twilio and requests raise."""
        try:
            yield
        except TwilioRestException as error:
            said = f"Twilio answers {error.status}" + (f", error {error.code}" if error.code else "")
            said = f"{said}: {letters.one_line(str(error.msg))[:200]}"
            if error.status == 400:  # this message or number is not taken, others may be
                raise Refused(said) from None
            raise Trouble(said, seconds(self._http.headers.get("Retry-After"))) from None
        except TwilioException as error:
            raise Trouble(f"Twilio: {letters.one_line(str(error))[:200]}") from None
        except RequestException as error:
            raise Trouble(f"{self.settings.api_base}: {network(error)[:200]}") from None


def connect(settings: Sms, timeout_s: float) -> Texts:
    """A session for some messages, to be used with `with`."""
    return Texts(settings, timeout_s)


def probe(settings: Sms, timeout_s: float) -> None:
    """Try everything but a message. Raises Trouble."""
    with Texts(settings, timeout_s) as texts:
        texts.account()


def _secret(settings: Sms, name: str) -> str:
    try:
        found: str = getattr(settings, name).value()
    except SecretUnreadable as error:
        raise Trouble(f"{name}: {error}") from None
    if not found or not settings.sender:
        raise Trouble("account_sid, auth_token and sender are all needed")
    return found
