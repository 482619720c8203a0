"""A man in the middle of a client and a real S3 server: counts requests, and does to some of them what networks do."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """What a request asks for; `kind` is the method, or LIST."""

    kind: str
    key: str
    query: dict
    headers: dict


@dataclass(frozen=True)
class Error:
    """An answer of S3 that refuses; the server never sees the request."""

    status: int
    code: str
    more: str = ""


LOST = "the server did it, and the answer is lost"
CUT = "the connection ends before the request is passed on"
LATE = "the server did it, and the answer comes when the client has given up"
TORN = "half of the answer's body, then the connection ends"
Fault = Callable[[Request], "Error | str | None"]


@dataclass
class Proxy:
    """`with Proxy(endpoint) as proxy:` listens at `proxy.endpoint`; `fault` is asked for each request."""

    upstream: str
    fault: Fault = lambda _request: None
    seen: list[Request] = field(default_factory=list)
    given_up: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                proxy._pass(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, kind):
        return sum(request.kind == kind for request in self.seen)

    def _pass(self, handler):
        asked = urlsplit(handler.path)
        query = parse_qs(asked.query, keep_blank_values=True)
        kind = "LIST" if handler.command == "GET" and "list-type" in query else handler.command
        request = Request(kind, asked.path, query, dict(handler.headers))
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.seen.append(request)
        fault = self.fault(request)
        if fault == CUT:
            handler.close_connection = True
            return
        if isinstance(fault, Error):
            text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>on purpose</Message>{fault.more}</Error>".encode()
            self._answer(handler, fault.status, [("Content-Type", "application/xml")], text)
            return
        status, headers, text = self._forwarded(handler, body)
        if fault == LATE:
            self.given_up.wait(30)
        if fault in (LOST, LATE):
            handler.close_connection = True
            return
        self._answer(handler, status, headers, text, torn=fault == TORN)

    def _forwarded(self, handler, body):
        target = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(self, handler, status, headers, text, *, torn=False):
        handler.send_response(status)
        length = next((value for name, value in headers if name.lower() == "content-length" and handler.command == "HEAD"), str(len(text)))
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(text[: len(text) // 2] if torn else text)
        if torn:
            handler.close_connection = True
