"""A department's web server, as bad as a test wants it to be, on loopback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mtgpt.ingest.manifest import Source
from mtgpt.ingest.pull.pull import pull

Answer = Callable[[BaseHTTPRequestHandler], None]


class Feed:
    """Serves ``answers[path]``; remembers every request and counts connections."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        feed = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                feed.requests.append((self.path, dict(self.headers)))
                feed.answers[self.path.partition("?")[0]](self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                feed.connections += 1
                return super().get_request()

            def handle_error(self, request, client_address) -> None:
                pass  # the client hung up on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        self.answers[path] = answer(body, status, **headers)
        return self.url(path)

    def serve_in_turn(self, path: str, *answers: Answer) -> str:
        left = list(answers)

        def give(request: BaseHTTPRequestHandler) -> None:
            (left.pop(0) if len(left) > 1 else left[0])(request)

        self.answers[path] = give
        return self.url(path)


def answer(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    def give(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | names).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return give


@contextmanager
def feed_server():
    feed = Feed()
    thread = threading.Thread(target=lambda: feed.server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield feed
    finally:
        feed.server.shutdown()
        feed.server.server_close()
        thread.join(timeout=5)


def a_source(**changes) -> Source:
    return Source.model_validate_json(
        __import__("json").dumps(
            {"id": "loops", "kind": "matrix", "url": "http://x/", "allow_loopback": True} | changes
        )
    )


class Sleeps(list):
    """Waits that were asked for; none is waited."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(url, folder, *, source=None, **options):
    options.setdefault("sleep", Sleeps())
    return pull(url, folder, source=source or a_source(), **options)
