"""An S3-compatible server on loopback for tests and rehearsals: moto, one request at a time, each noted.

One at a time since moto looks at a write's condition and stores in two steps, which a real store does in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock, Thread
from typing import Any, Self

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "history"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal-secret",
               "AWS_EC2_METADATA_DISABLED": "true"}
"""What a process that uses the server has in its environment."""


class ObjectStore:
    """A server with one empty bucket. `deaf`: one of those that ignore the conditions of a write."""

    def __init__(self, *, deaf: bool = False) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._deaf, self._turn = deaf, Lock()
        self.asked: list[tuple[str, str]] = []
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True, request_handler=_Quiet)
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def url(self, folder: str) -> str:
        """The URL of a folder of the bucket."""
        return f"s3://{BUCKET}/{folder}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=f"http://{self.endpoint}", region_name="us-east-1",
                            aws_access_key_id="rehearsal", aws_secret_access_key="rehearsal-secret")

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.client().create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _app(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._turn:
            self.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            if self._deaf:
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
            return list(self._moto(environ, start))


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    def log(self, *_: object) -> None:
        """Quiet."""
