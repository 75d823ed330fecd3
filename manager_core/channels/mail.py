"""Mail: by a mail server (SMTP over TLS, STARTTLS, with or without a login) or by this machine's own sendmail."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import smtplib
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from types import TracebackType
from typing import TYPE_CHECKING

from manager_core import __version__
from manager_core.alerts import Severity
from manager_core.channels.settings import Email
from manager_core.channels.trouble import Refused, Trouble, Unsure, making
from manager_core.entry import Entry
from manager_core.letters import Letter, one_line
from manager_core.secrets import SecretUnreadable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

AT_ONCE = True  # one mail reaches all its recipients
# A subject that is folded at 78 characters comes out with another blank in it; a line may have 998 (RFC 5322, 2.1.1).
_WHOLE_LINES = SMTP.clone(max_line_length=900)
_PORTS = {"starttls": 587, "ssl": 465, "none": 25}
_FOR_GOOD = 500
_LOGIN = range(530, 540)
_HERE = {"localhost", "127.0.0.1", "::1"}


class _Smtp(smtplib.SMTP):
    """`handed`: the last byte of a mail was sent, and no answer to it has come."""

    handed = False

    def send(self, s: ReadableBuffer | str) -> None:
        """As smtplib's own, which sends a mail's lines and their end at once."""
        super().send(s)
        self.handed = isinstance(s, bytes) and s.endswith(b"\r\n.\r\n")

    def getreply(self) -> tuple[int, bytes]:
        """As smtplib's own."""
        reply = super().getreply()
        self.handed = False
        return reply


class _SmtpSsl(_Smtp, smtplib.SMTP_SSL):
    """The same by TLS from the first byte on."""


class Mail:
    """A session with the mail server. Raises Trouble, and Refused for one mail that it does not take."""

    def __init__(self, settings: Email, timeout_s: float) -> None:
        self.settings = settings
        self.timeout_s = timeout_s
        self._smtp: _Smtp | None = None

    def __enter__(self) -> Mail:
        if self.settings.server:
            with _said(self.settings):
                self._smtp = self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._smtp is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._smtp.quit()

    def send(self, entry: Entry, recipients: Sequence[str]) -> dict[str, str]:
        """Send one mail; returns the recipients that were refused, and why."""
        mail = _addressed(entry, self.settings)
        with making():
            _fill(mail, entry.letter)
            text = mail.as_bytes()  # what cannot be written is known before the server hears of it
        try:
            with _said(self.settings):
                if self._smtp is None:
                    _sendmail(self.settings, mail, recipients, self.timeout_s)
                    return {}
                # Not send_message: it makes ">From" of each "From" that begins a line.
                refused = self._smtp.sendmail(sender(self.settings), list(recipients), text)
        except Trouble as error:
            if self._smtp is not None and self._smtp.handed:
                raise Unsure(str(error)) from None
            raise
        return {who: _words(code, text) for who, (code, text) in refused.items()}

    def _connected(self) -> _Smtp:
        settings = self.settings
        trusted = ssl.create_default_context(cafile=settings.ca_file)
        port = settings.port or _PORTS[settings.security]
        # The name is given because smtplib would look for it in the DNS, which may take longer than all the rest.
        name = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename) or "localhost"
        smtp: _Smtp
        if settings.security == "ssl":
            smtp = _SmtpSsl(settings.server, port, name, timeout=self.timeout_s, context=trusted)
        else:
            smtp = _Smtp(settings.server, port, name, timeout=self.timeout_s)
        try:
            if settings.security == "starttls":
                smtp.starttls(context=trusted)
            if settings.login:
                if settings.security == "none" and settings.server not in _HERE:
                    raise Trouble("security = none would send the password readable; use starttls or ssl")
                smtp.login(settings.login, settings.password.value())
        except BaseException:
            smtp.close()
            raise
        return smtp


def connect(settings: Email, timeout_s: float) -> Mail:
    """A session for some mails, to be used with `with`."""
    return Mail(settings, timeout_s)


def probe(settings: Email, timeout_s: float) -> None:
    """Try everything but a mail. Raises Trouble."""
    if not settings.server:
        if not os.access(settings.sendmail, os.X_OK):
            raise Trouble(
                f"{settings.sendmail}: no such program; name a mail server in [email] server, or install one"
            )
        return
    with Mail(settings, timeout_s):
        pass


def sender(settings: Email) -> str:
    """Whom the mails are from."""
    return settings.sender or f"plot_manager@{os.uname().nodename}"


def _addressed(entry: Entry, settings: Email) -> EmailMessage:
    """A mail with nothing in it: what is wrong with one is wrong with each."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = f"plot_manager <{sender(settings)}>"
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = format_datetime(entry.created)
    # The same each time it is tried: a mail server or reader can tell a second one for what it is.
    mail["Message-ID"] = f"<{entry.id}@{re.sub(r'[^A-Za-z0-9.-]', '-', os.uname().nodename) or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail["User-Agent"] = f"plot_manager {__version__}"
    return mail


def _fill(mail: EmailMessage, letter: Letter) -> None:
    """Put a letter into the mail: plain text, HTML beside it when there is some, pictures within that."""
    mail["Subject"] = one_line(letter.subject)
    if letter.severity >= Severity.CRITICAL:
        mail["Importance"] = "high"
    mail.set_content(letter.text)
    if letter.html:
        mail.add_alternative(letter.html, subtype="html")
        page = mail.get_payload()[1]  # type: ignore[index]
        assert isinstance(page, EmailMessage)
        for cid, picture in letter.images:
            page.add_related(picture, "image", "png", cid=f"<{cid}>", disposition="inline")
    mail.policy = _WHOLE_LINES


def _sendmail(settings: Email, mail: EmailMessage, recipients: Sequence[str], timeout_s: float) -> None:
    """Hand the mail to sendmail. -oi: a line with one dot does not end it."""
    command = [str(settings.sendmail), "-oi", "-f", sender(settings), "--", *recipients]
    text = mail.as_bytes(policy=_WHOLE_LINES.clone(linesep="\n"))
    done = subprocess.run(command, input=text, capture_output=True, timeout=timeout_s, check=False)
    if done.returncode:
        said = one_line(done.stderr.decode(errors="replace"))[:200] or "says nothing"
        raise Trouble(f"{settings.sendmail} failed with {done.returncode} for {getpass.getuser()}: {said}")


@contextlib.contextmanager
def _said(settings: Email) -> Iterator[None]:
    """Put into words what smtplib raises."""
    where = f"{settings.server}:{settings.port or _PORTS[settings.security]}"
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        answers = dict.fromkeys(_words(code, text) for code, text in error.recipients.values())
        raise _kind(max(code for code, _text in error.recipients.values()), "; ".join(answers)) from None
    except smtplib.SMTPDataError as error:
        raise _kind(error.smtp_code, _words(error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPSenderRefused as error:  # the first answer of which the size, say, is a reason
        raise _kind(error.smtp_code, _words(error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPAuthenticationError as error:
        raise Trouble(
            f"{where} does not take login or password: {_words(error.smtp_code, error.smtp_error)}"
        ) from None
    except smtplib.SMTPResponseException as error:
        raise Trouble(f"{where} refuses: {_words(error.smtp_code, error.smtp_error)}") from None
    except ssl.SSLError as error:
        raise Trouble(
            f"{where}: no secure connection: {error.reason or error}; see security, ca_file"
        ) from None
    except (TimeoutError, subprocess.TimeoutExpired):
        raise Trouble(f"{where if settings.server else settings.sendmail}: no answer in time") from None
    except (OSError, smtplib.SMTPException) as error:
        what = where if settings.server else str(settings.sendmail)
        raise Trouble(f"{what}: {one_line(str(error))}") from None
    except SecretUnreadable as error:
        raise Trouble(f"password: {error}") from None


def _kind(code: int, said: str) -> Refused | Trouble:
    """400 to 499 is "not now", of the server; from 500 on it is this mail that is not taken (RFC 5321, 4.2.1).

    But 530 to 539 is about the login (RFC 4954).
    """
    of_this_mail = code >= _FOR_GOOD and code not in _LOGIN
    return Refused(said) if of_this_mail else Trouble(f"the mail server answers {said}")


def _words(code: int, text: bytes | str) -> str:
    said = text.decode(errors="replace") if isinstance(text, bytes) else text
    return f"{code} {one_line(said)[:200]}"
