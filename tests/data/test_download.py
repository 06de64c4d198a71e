"""A download ends with the whole file or an error, whatever the server does."""

import http.server
import os
import threading
import urllib.error

import pytest

from lru.data import download as module
from lru.data.download import download

CONTENT = os.urandom(1 << 20)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; first answers with `errors`, breaks off after `limits` bytes, and so on."""

    def __init__(self):
        self.content, self.errors, self.limits, self.requests = CONTENT, [], [], []
        self.ranges = True
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, *args):
        """Ignores errors of clients that disconnected."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range") if self.server.ranges else None
        self.server.requests.append(self.headers.get("Range"))
        if self.server.errors:
            return self.send_error(self.server.errors.pop(0))
        content, start = self.server.content, int(asked[6:-1]) if asked else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.limits.pop(0) if self.server.limits else None
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "_WAITS", (0, 0, 0))
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.part"


def test_an_interrupted_download_is_resumed(server, part):
    server.limits = [300_000] * 3  # more interruptions than tries without progress
    server.limits += [1] * 5
    download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert server.requests[:3] == [None, "bytes=300000-", "bytes=600000-"]
    assert len(server.requests) == 9


def test_a_download_of_an_earlier_process_is_resumed(server, part):
    part.write_bytes(CONTENT[:700_000])
    download(server.url, part, len(CONTENT))
    assert (part.read_bytes() == CONTENT, server.requests) == (True, ["bytes=700000-"])


def test_a_server_that_cannot_resume_sends_the_whole_file(server, part):
    server.ranges, server.limits = False, [300_000]
    download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [403, 404, 429, 500, 503])
def test_a_few_errors_are_retried(server, part, code):
    server.errors = [code, code, code]
    download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [403, 404, 500])
def test_a_persistent_error_raises(server, part, code):
    server.errors = [code] * 9
    with pytest.raises(urllib.error.HTTPError, match=str(code)):
        download(server.url, part, len(CONTENT))
    assert len(server.requests) == 4
    assert not part.exists()


def test_arrived_bytes_stay_for_the_next_try(server, part):
    server.limits = [500_000, 0, 0, 0, 0]
    with pytest.raises(ConnectionError, match="500,000 of 1,048,576 bytes arrived"):
        download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT[:500_000]


@pytest.mark.parametrize("more", [b"x", b"x" * 2**20])
def test_a_part_that_is_too_long_is_discarded(server, part, more):
    part.write_bytes(CONTENT + more)
    download(server.url, part, len(CONTENT))
    assert part.read_bytes() == CONTENT


def test_a_part_longer_than_the_servers_file_is_discarded(server, part):
    part.write_bytes(b"x" * 2_000_000)
    download(server.url, part)
    assert part.read_bytes() == CONTENT


def test_a_complete_file_is_not_requested_again(server, part):
    part.write_bytes(CONTENT)
    download(server.url, part, len(CONTENT))
    assert not server.requests


@pytest.mark.parametrize("ranges", [True, False])
def test_a_shorter_file_ends_the_download(server, part, ranges):
    server.content, server.ranges = b"<html>sign in</html>", ranges
    for left in (None, CONTENT[:99], CONTENT[:5]):
        if left:
            part.write_bytes(left)
        download(server.url, part, len(CONTENT))
        assert part.stat().st_size < len(CONTENT)


def test_an_endless_file_is_not_written_beyond_the_expected_size(server, part):
    server.content = CONTENT * 3
    download(server.url, part, len(CONTENT))
    assert len(CONTENT) < part.stat().st_size < 2 * len(CONTENT)


def test_a_missing_server_raises(part):
    with pytest.raises(OSError, match="refused"):
        module._continue("http://127.0.0.1:9/file", part, 9)


@pytest.mark.parametrize("size", [0, 5])
def test_a_link_at_the_path_of_the_part_is_replaced_and_not_followed(server, part, tmp_path, size):
    mine = tmp_path / "mine"
    mine.write_bytes(CONTENT[:size])
    part.symlink_to(mine)
    download(server.url, part, len(CONTENT))
    assert not part.is_symlink() and part.read_bytes() == CONTENT
    assert mine.read_bytes() == CONTENT[:size]


def test_a_local_error_is_not_retried(server, part):
    with pytest.raises(FileNotFoundError):
        download(server.url, part / "below", len(CONTENT))
    assert len(server.requests) == 1
