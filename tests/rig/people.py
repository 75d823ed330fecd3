"""Services that reach people, on loopback: a real mail server, and stubs as strict as the published interfaces."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import gzip
import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trustme
from aiosmtpd.smtp import SMTP, AuthResult


class MailServer:
    """A mail server with login `farmer`, a password, and TLS. What it took is in `mails`, with its envelope."""

    def __init__(self, folder: Path, password: str, security: str = "starttls") -> None:
        self.password = password
        self.security = security
        self.fault = ""  # an answer such as "451 later" in place of taking a mail
        self.refuse: set[str] = set()
        self.late_s = 0.0  # a mail is taken, and this much later answered
        self.cuts = False  # in place of answering what was taken, end the connection
        self.thinks_s = 0.0  # about each recipient, before anything is taken
        self.largest = 1 << 25  # bytes of a mail, as it says and holds to
        self.sender_fault = ""  # an answer in place of taking the sender of a mail
        self.hanging = False
        self.mails: list[tuple[tuple[str, ...], EmailMessage]] = []
        authority = trustme.CA()
        self.ca_file = folder / "mail_ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._tls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._server: asyncio.Server | None = None
        self.start()

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = self._call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._call(self._close(self._server))
            self._server = None

    def end(self) -> None:
        """Stop, and end the thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ini(self, to: str = "pilot@example.org", **options: str) -> str:
        """The [email] section for it."""
        lines = {
            "to": to,
            "server": "127.0.0.1",
            "port": str(self.port),
            "security": self.security,
            "login": "farmer",
            "password": self.password,
            "ca_file": str(self.ca_file),
            "sender": "nas@example.org",
        } | options
        return "[email]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items() if value)

    async def handle_MAIL(  # noqa: N802  aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take a sender, or not."""
        if self.sender_fault:
            return self.sender_fault
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        """Take a recipient, or not."""
        await asyncio.sleep(self.thinks_s)
        if address in self.refuse:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Take a mail, or not."""
        if self.fault:
            return self.fault
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((tuple(envelope.rcpt_tos), mail))
        if self.cuts:
            server.transport.abort()
        await asyncio.sleep(self.late_s)
        return "250 OK"

    def _login(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        good = (data.login, data.password) == (b"farmer", self.password.encode())
        return AuthResult(success=good, handled=False)

    def _protocol(self) -> asyncio.Protocol:
        if self.hanging:
            return asyncio.Protocol()
        starttls = self.security == "starttls"
        return SMTP(
            self,
            hostname="mail.example.org",
            data_size_limit=self.largest,
            tls_context=self._tls if starttls else None,
            require_starttls=starttls,
            auth_required=True,
            auth_require_tls=starttls,
            authenticator=self._login,
            loop=self._loop,
        )

    async def _listen(self) -> asyncio.Server:
        tls = self._tls if self.security == "ssl" else None
        return await self._loop.create_server(self._protocol, "127.0.0.1", self.port, ssl=tls)

    async def _close(self, server: asyncio.Server) -> None:
        server.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


class WebStub:
    """A web service on loopback. `fault` is a status it answers with, or hang: it takes a request and says nothing."""

    def __init__(self) -> None:
        self.fault = ""
        self.late_s = 0.0  # a request is done, and this much later answered
        self.cuts = False  # in place of answering what was done, end the connection
        self.headers: dict[str, str] = {}  # sent along with a fault
        self.requests: list[tuple[str, str]] = []
        self._released = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                stub.take(self, b"")

            def do_POST(self) -> None:
                stub.take(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        self.requests.append((request.command, request.path))
        if self.fault == "hang":
            self._released.wait(30)
            return
        headers = {"Content-Type": "application/json"}
        if self.fault:
            status, value = int(self.fault), self.trouble(int(self.fault))
            headers |= self.headers
        else:
            status, value = self.answer(request, body)
        if self.cuts and request.command == "POST":
            request.close_connection = True
            return
        self._released.wait(self.late_s if request.command == "POST" else 0.0)
        data = json.dumps(value).encode()
        request.send_response(status)
        for name, text in (headers | {"Content-Length": str(len(data))}).items():
            request.send_header(name, text)
        request.end_headers()
        request.wfile.write(data)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, object]:
        """What a request is answered with."""
        raise NotImplementedError

    def trouble(self, status: int) -> object:
        """What comes with a fault's status."""
        return {"error": status}

    def end(self) -> None:
        """Stop it."""
        self._released.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class Twilio(WebStub):
    """Messages of Twilio's REST interface, 2010-04-01 (twilio.com/docs/messaging/api/message-resource)."""

    ACCOUNT = "AC" + "0123456789abcdef" * 2

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.messages: list[dict[str, str]] = []
        self.unreachable: set[str] = set()

    def ini(self, to: str = "+15551234567", **options: str) -> str:
        """The [sms] section for it."""
        lines = {
            "to": to,
            "sender": "+15557654321",
            "account_sid": self.ACCOUNT,
            "auth_token": self.token,
            "api_base": self.base,
        } | options
        return "[sms]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())

    def trouble(self, status: int) -> object:
        """Twilio's error object."""
        code = {401: 20003, 404: 20404, 429: 20429, 500: 20500}.get(status, 20001)
        return self._fault(status, code, "as the test wants it")[1]

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, object]:
        """As Twilio: login first, then the path, then each field."""
        login = base64.b64encode(f"{self.ACCOUNT}:{self.token}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}":
            return self._fault(401, 20003, "Authenticate")
        top = f"/2010-04-01/Accounts/{self.ACCOUNT}"
        if (request.command, request.path) == ("GET", f"{top}.json"):
            return 200, {"sid": self.ACCOUNT, "status": "active", "friendly_name": "farm"}
        if (request.command, request.path) != ("POST", f"{top}/Messages.json"):
            return self._fault(404, 20404, f"The requested resource {request.path} was not found")
        if request.headers.get_content_type() != "application/x-www-form-urlencoded":
            return self._fault(415, 20001, "Unsupported media type")
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
        fault = self._wrong(fields)
        if fault:
            return self._fault(400, *fault)
        self.messages.append(fields)
        answer = {"sid": f"SM{uuid.uuid4().hex}", "account_sid": self.ACCOUNT, "status": "queued"}
        return 201, answer | {"to": fields["To"], "from": fields["From"], "body": fields["Body"]}

    def _wrong(self, fields: dict[str, str]) -> tuple[int, str] | None:
        number = r"\+[1-9]\d{6,14}"
        if not fields.get("To"):
            return 21604, "A 'To' phone number is required."
        if not fields.get("From") and not fields.get("MessagingServiceSid"):
            return 21603, "A 'From' phone number is required."
        if not fields.get("Body"):
            return 21602, "Message body is required."
        if not re.fullmatch(number, fields["To"]) or fields["To"] in self.unreachable:
            return 21211, f"Invalid 'To' Phone Number: {fields['To'][:6]}XXXX"
        if not re.fullmatch(number, fields.get("From", "")):
            return 21212, "Invalid 'From' Phone Number"
        if len(fields["Body"]) > 1600:
            return 21617, "The concatenated message body exceeds the 1600 character limit"
        unknown = set(fields) - {"To", "From", "Body", "MessagingServiceSid"}
        return (20001, f"unknown {unknown}") if unknown else None

    @staticmethod
    def _fault(status: int, code: int, text: str) -> tuple[int, object]:
        about = f"https://www.twilio.com/docs/errors/{code}"
        return status, {"code": code, "message": text, "more_info": about, "status": status}


class PushbulletStub(WebStub):
    """Pushbullet's interface v2 (docs.pushbullet.com): token, users/me, devices, chats, channels, pushes."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.pushes: list[dict[str, str]] = []

    def ini(self, **options: str) -> str:
        """The [pushbullet] section for it."""
        lines = {"access_token": self.token, "api_base": self.base} | options
        return "[pushbullet]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())

    def trouble(self, status: int) -> object:
        """Pushbullet's error object."""
        return self._fault(status, "as the test wants it")[1]

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, object]:
        """As Pushbullet: the token first, as header or as user name."""
        basic = base64.b64encode(f"{self.token}:".encode()).decode()
        given = (request.headers.get("Access-Token"), request.headers.get("Authorization"))
        if self.token != given[0] and f"Basic {basic}" != given[1]:
            return self._fault(401, "Access token is missing or invalid.")
        device = {"iden": "ujpah72o0sjAoRtnM0jc", "active": True, "nickname": "My phone", "icon": "phone"}
        got = {
            "/v2/users/me": {"iden": "ujpah72o0", "email": "pilot@example.org", "name": "Pilot"},
            "/v2/devices": {"devices": [device]},
            "/v2/chats": {"chats": []},
            "/v2/channels": {"channels": [{"iden": "x", "tag": "farm", "active": True, "name": "Farm"}]},
        }
        if request.command == "GET" and request.path in got:
            return 200, got[request.path]
        if (request.command, request.path) != ("POST", "/v2/pushes"):
            return self._fault(404, "Object not found")
        if request.headers.get_content_type() != "application/json":
            return self._fault(400, "The resource was not of the correct type")
        push = json.loads(body)
        fault = self._wrong(push, device["iden"])
        if fault:
            return self._fault(400, fault)
        if push["guid"] not in {old["guid"] for old in self.pushes}:
            self.pushes.append(push)
        return 200, push | {"iden": uuid.uuid4().hex, "active": True, "created": 1.4e9}

    @staticmethod
    def _wrong(push: dict[str, str], device: object) -> str:
        known = {"type", "title", "body", "guid", "device_iden", "email", "channel_tag"}
        if set(push) - known:
            return f"unknown parameter {set(push) - known}"
        if push.get("type") != "note":
            return "The 'type' parameter has an invalid value"
        if not push.get("title") and not push.get("body"):
            return "The param 'body' is missing"
        if push.get("device_iden", device) != device:
            return "The param 'device_iden' has an invalid value"
        return (
            ""
            if push.get("channel_tag", "farm") == "farm"
            else "The param 'channel_tag' has an invalid value"
        )

    @staticmethod
    def _fault(status: int, text: str) -> tuple[int, object]:
        return status, {
            "error": {"code": "invalid", "type": "invalid_request", "message": text, "cat": "~(=^.^)"}
        }


class SentryStub(WebStub):
    """A Sentry server: decodes the envelopes it gets (develop.sentry.dev/sdk/data-model/envelopes)."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.events: list[dict[str, Any]] = []
        self.raw: list[str] = []

    def ini(self) -> str:
        """The [sentry] section for it."""
        return f"[sentry]\ndsn = http://{self.key}@{self.base[7:]}/42\n"

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, object]:
        """As Sentry's relay: key and form, then the envelope."""
        auth = dict(re.findall(r"(\w+)=([^,\s]+)", request.headers.get("X-Sentry-Auth", "")))
        if auth.get("sentry_key") != self.key or auth.get("sentry_version") != "7":
            return 403, {"detail": "event submission rejected with_reason: ProjectId"}
        if (request.command, request.path) != ("POST", "/api/42/envelope/"):
            return 404, {}
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        head, item, payload, *_rest = body.split(b"\n")
        kind, event = json.loads(item), json.loads(payload)
        if kind["type"] != "event" or kind.get("length", len(payload)) != len(payload):
            return 400, {"detail": "invalid envelope"}
        if json.loads(head)["event_id"] != event["event_id"]:
            return 400, {"detail": "invalid event id"}
        self.raw.append(body.decode())
        self.events.append(event)
        return 200, {"id": event["event_id"]}


class PingStub(WebStub):
    """A service like healthchecks.io: remembers method, path and body of each ping."""

    def __init__(self) -> None:
        super().__init__()
        self.pings: list[tuple[str, dict[str, str], str]] = []

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, object]:
        """As healthchecks.io."""
        parts = urlsplit(request.path)
        if len(body) > 100_000:
            return 413, {}
        self.pings.append((parts.path, dict(parse_qsl(parts.query)), body.decode()))
        return 200, "OK"


@contextmanager
def ended(*services: MailServer | WebStub) -> Iterator[None]:
    """End the services afterwards."""
    try:
        yield
    finally:
        for service in services:
            service.end()
