"""Downloads a file; if possible, resumes an interrupted download, even one of an earlier process.

Pooch and TensorFlow Datasets do not resume: they start again from the first byte.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import lru
from lru.data.archives import progress
from lru.io.files import open_new, open_to_append

_logger = logging.getLogger(__name__)
_CHUNK = 1 << 18
_WAITS = (1.0, 2.0, 4.0)  # seconds to wait before each consecutive retry without progress


def download(url: str, part: Path, size: int = 0) -> None:
    """Downloads a file to `part`, which may hold the beginning of the file from an earlier try.

    If the network or the server causes an error, waits and tries again. Gives up after three
    consecutive retries without progress.

    Args:
      url: the URL of the file.
      part: the path to write to; after an error, it may hold the beginning of the file.
      size: the size of the file in bytes; 0 if unknown.

    Raises:
      OSError or HTTPException: the error of the last try.
    """
    waits, most = list(_WAITS), _length(part)
    while True:
        try:
            return _continue(url, part, size)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # until then, the connection stays open
            if _length(part) > most:
                waits, most = list(_WAITS), _length(part)
            if not waits or not from_network(error):
                raise
            arrived, reason = _length(part) / 1e6, getattr(error, "reason", None) or error
            _logger.info("download failed after %.1f MB (%s): trying again", arrived, reason)
            time.sleep(waits.pop(0))


def from_network(error: Exception) -> bool:
    """Returns whether the network or the server caused the error, so that a retry may help."""
    network = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
    return isinstance(error, network)


def _continue(url: str, part: Path, size: int) -> None:
    """Requests the missing bytes and appends them; starts again if the server cannot resume."""
    start = _length(part)
    if size and start == size:
        return
    if size and start > size:
        part.unlink()
        start = 0
    agent = {"User-Agent": f"lru-flax/{lru.__version__}"}
    asked = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(url, headers=agent | asked)
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server's file has no byte at `start`: start again
            part.unlink(missing_ok=True)
        raise
    with response:
        resumed = start > 0 and _begins_at(response, start)
        if start and not resumed:
            _logger.info(
                "the server cannot resume the download: starting again from the first byte"
            )
        _copy(response, part, start if resumed else 0, size)


def _begins_at(response: http.client.HTTPResponse, start: int) -> bool:
    """Returns whether the response is partial and begins at byte `start`."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and found is not None and int(found[1]) == start


def _copy(response: http.client.HTTPResponse, part: Path, start: int, size: int) -> None:
    length = response.headers.get("Content-Length")
    expected = start + int(length) if length and length.isdigit() else size
    if size:  # one byte too many proves that this is another file
        expected = min(expected, size + 1)
    opened = open_to_append(part) if start else open_new(part)
    with opened as file, progress(response, expected, "downloading", start) as watched:
        arrived = start
        while arrived <= (size or arrived) and (chunk := watched.read(_CHUNK)):
            arrived += file.write(chunk)
    if arrived < expected:
        raise ConnectionError(f"{arrived:,} of {expected:,} bytes arrived")


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() and not part.is_symlink() else 0
