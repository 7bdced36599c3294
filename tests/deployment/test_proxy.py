"""The nginx example, run as it is shipped but for ports and files, in front of a real Dagster webserver."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from p33_sidecar.rehearsal.processes import Process, free_port
from tests.tools import needed

PAGE = Path(__file__).parents[2] / "deployment" / "nginx" / "p33.conf"
WHO = ("ops", "a-password-of-the-test")
PATIENCE_S = 120


class Proxy:
    """nginx and what is behind it."""

    def __init__(self, folder: Path) -> None:
        self.port, self.upstream = free_port(), free_port()
        self.log, self.conf = folder / "nginx.log", folder / "nginx.conf"
        self.certificate = folder / "p33.pem"
        key = folder / "p33.key"
        subprocess.run([needed("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out",
                        str(self.certificate)], check=True, capture_output=True)
        passwords = folder / "htpasswd"
        salt = secrets.token_bytes(8)
        digest = hashlib.sha1(WHO[1].encode() + salt).digest()
        passwords.write_text(f"{WHO[0]}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")
        text = PAGE.read_text()
        for shipped, here in (("443", f"127.0.0.1:{self.port}"), ("p33.example.com", "localhost"),
                              ("/etc/ssl/certs/p33.pem", str(self.certificate)), ("/etc/ssl/private/p33.key", str(key)),
                              ("/etc/nginx/p33.htpasswd;", f"{passwords};"), ("127.0.0.1:3000",
                               f"127.0.0.1:{self.upstream}")):
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        (folder / "p33.conf").write_text(text)
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.conf.write_text(f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {self.log} info;\n"
                             f"events {{}}\nhttp {{ access_log off; {temporary} include {folder}/p33.conf; }}\n")

    def command(self, *words: str) -> list[str]:
        return [needed("nginx"), "-c", str(self.conf), "-e", str(self.log), *words]

    def get(self, path: str, who: tuple[str, str] | None = WHO) -> httpx.Response:
        context = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.get(f"https://localhost:{self.port}{path}", auth=who, verify=context, trust_env=False, timeout=60)

    def talk(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    made = Proxy(folder)
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    env = {**os.environ, "DAGSTER_HOME": str(home)}
    behind = Process("dagster-webserver", [
        str(Path(sys.executable).with_name("dagster-webserver")), "-h", "127.0.0.1", "-p", str(made.upstream),
        "--empty-workspace"], env=env, log=folder / "webserver.log")
    front = Process("nginx", made.command(), env=env, log=folder / "nginx.out")
    try:
        for process in (behind, front):
            process.start()
        deadline_s = time.monotonic() + PATIENCE_S
        while not _serves(made):
            behind.check()
            front.check()
            assert time.monotonic() < deadline_s, behind.tail() + front.tail()
            time.sleep(0.2)
        yield made
    finally:
        front.stop(patience_s=30)
        behind.stop(patience_s=30)


def _serves(proxy: Proxy) -> bool:
    try:
        return proxy.get("/server_info").status_code == 200
    except httpx.HTTPError:
        return False


def test_nginx_has_nothing_to_say(proxy: Proxy) -> None:
    """`nginx -t` on the file."""
    said = subprocess.run(proxy.command("-t"), capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "[warn]" not in said.stderr, said.stderr


@pytest.mark.parametrize("who", [None, ("ops", "wrong"), ("nobody", WHO[1])])
@pytest.mark.parametrize("path", ["/", "/server_info", "/graphql"])
def test_nobody_passes_without_the_password(proxy: Proxy, path: str, who: tuple[str, str] | None) -> None:
    """Whatever the path."""
    assert proxy.get(path, who).status_code == 401


def test_the_password_opens_the_ui(proxy: Proxy) -> None:
    """The page itself, and the version behind it."""
    assert "dagster_webserver_version" in proxy.get("/server_info").json()
    page = proxy.get("/")
    assert page.status_code == 200 and 'id="initialization-data"' in page.text
    assert page.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(("who", "status"), [(WHO, b"101"), (("ops", "wrong"), b"401")])
def test_websocket_is_proxied_behind_the_same_password(proxy: Proxy, who: tuple[str, str], status: bytes) -> None:
    """The handshake of the UI's live pages; with it, GraphQL over the socket is answered."""
    with proxy.talk() as talk:
        login = base64.b64encode(":".join(who).encode()).decode()
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        talk.sendall(f"GET /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n"
                     f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     f"Sec-WebSocket-Protocol: graphql-ws\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        stream = talk.makefile("rb")
        assert stream.readline().split()[1] == status
        if status == b"101":
            while stream.readline() != b"\r\n":
                pass
            talk.sendall(_frame(json.dumps({"type": "connection_init", "payload": {}}).encode()))
            length = stream.read(2)[1]
            assert json.loads(stream.read(length))["type"] == "connection_ack"


def _frame(text: bytes) -> bytes:
    """A client's text frame of less than 126 bytes, masked as it has to be (RFC 6455, 5.2)."""
    mask = secrets.token_bytes(4)
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
