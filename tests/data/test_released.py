"""Files are found, or downloaded completely, or it raises; archives stay in their directory."""

import dataclasses
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest

from lru.data import download
from lru.data.released import Paths, Release, lra_release
from lru.errors import UserError

FILES = {"part/one.txt": b"first", "part/two/a.txt": b"second", "part/two/b.txt": b"third"}
WANTED = ("one.txt", "two/")


def archive(members, mode="w:gz"):
    """Returns a tar file of `{name: bytes}`, or of `TarInfo`s."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def release(content, url="http://127.0.0.1:9/set.tar.gz"):
    return Release(
        url=url,
        files=WANTED,
        folders=("part",),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@pytest.fixture
def paths(tmp_path):
    for name in ("manual", "scratch"):
        (tmp_path / name).mkdir()
    names = ("manual", "downloads", "scratch", "unfinished")
    return Paths(*(tmp_path / name for name in names), "prepare --task=set")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(download, "_WAITS", (0, 0, 0))


@pytest.fixture
def server(monkeypatch):
    """Serves `server.content`; `server.requests` has the requested paths."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            httpd.requests.append(self.path)
            self.send_response(httpd.status)
            self.send_header("Content-Length", str(httpd.promised or len(httpd.content)))
            self.end_headers()
            self.wfile.write(httpd.content)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.content, httpd.status, httpd.requests, httpd.promised = archive(FILES), 200, [], 0
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/some/set.tar.gz"
        threading.Thread(target=httpd.serve_forever, args=(0.01,)).start()
        yield httpd
        httpd.shutdown()


def write(directory, files=FILES):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(found):
    folder = found["one.txt"].parent
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"part/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def test_files_of_the_user_are_read_in_place_and_nothing_is_written(paths, server):
    for folder in ("", "outer"):
        write(paths.manual / folder)
        found = release(server.content, server.url).find(paths)
        assert found["one.txt"] == paths.manual / "part" / "one.txt"
        assert read(found) == FILES
    assert not server.requests and not list(paths.scratch.iterdir())
    assert not paths.downloads.exists()


def test_files_in_the_directory_itself_are_found(paths):
    write(paths.manual)
    inner = dataclasses.replace(paths, manual=paths.manual / "part")
    assert read(release(b"").find(inner)) == FILES


def test_an_archive_of_the_user_is_read_and_not_downloaded(paths, server):
    (paths.manual / "set.tar.gz").write_bytes(server.content)
    assert read(release(server.content, server.url).find(paths)) == FILES
    assert not server.requests


def test_an_archive_that_is_not_the_released_one_raises(paths, server):
    other = bytearray(server.content)
    other[-1] ^= 1
    (paths.manual / "set.tar.gz").write_bytes(other)
    with pytest.raises(UserError, match="is not the released file: sha256 .*; expected sha256 "):
        release(server.content).find(paths)
    (paths.manual / "set.tar.gz").write_bytes(other[:-1])
    with pytest.raises(UserError, match="is not the released file: .* bytes; expected .* bytes"):
        release(server.content).find(paths)


def test_downloads_are_saved_and_downloaded_once(paths, server, tmp_path):
    wanted = release(server.content, server.url)
    assert read(wanted.find(paths)) == FILES
    assert (paths.downloads / "set.tar.gz").read_bytes() == server.content
    again = dataclasses.replace(paths, manual=None, scratch=tmp_path / "again")
    assert read(wanted.find(again)) == FILES
    assert server.requests == ["/some/set.tar.gz"]


def test_a_part_of_another_file_is_replaced(paths, server):
    paths.downloads.mkdir()
    (paths.downloads / "set.tar.gz.part").write_bytes(b"x" * len(server.content))
    assert read(release(server.content, server.url).find(paths)) == FILES
    assert [path.name for path in paths.downloads.iterdir()] == ["set.tar.gz"]


def test_an_interrupted_download_is_completed_by_the_next_one(paths, server):
    server.promised, whole = len(server.content), server.content
    wanted = release(whole, server.url)
    server.content = whole[:-9]
    with pytest.raises(UserError, match="cannot be downloaded: .* bytes arrived"):
        wanted.find(paths)
    server.promised, server.content = 0, whole
    assert read(wanted.find(paths)) == FILES


def test_a_changed_download_raises(paths, server):
    paths.downloads.mkdir()
    (paths.downloads / "set.tar.gz").write_bytes(b"x")
    with pytest.raises(UserError, match=f"{paths.downloads}/set.tar.gz is not the released file"):
        release(server.content, server.url).find(paths)


@pytest.mark.parametrize("fault", ["cut off", "other content", "not found"])
def test_a_failed_download_raises_and_leaves_nothing_that_is_read(paths, server, fault):
    wanted = release(server.content, server.url)
    if fault == "cut off":
        server.promised, server.content = len(server.content), server.content[:-9]
    elif fault == "other content":
        server.content = b"x" * len(server.content)
    else:
        server.status = 404
    with pytest.raises(UserError) as error:
        wanted.find(paths)
    assert server.url in str(error.value)
    assert len(str(error.value).splitlines()) == 2
    assert not list(paths.downloads.glob("*.gz"))


def test_without_a_network_it_raises_with_missing_files_and_the_command(paths):
    for given in (paths, dataclasses.replace(paths, manual=None)):
        with pytest.raises(UserError) as error:
            release(b"x").find(given)
        first, second = str(error.value).splitlines()
        looked = f"looked in {paths.manual}, in the folders named part below it, and for set.tar.gz"
        assert first.startswith(
            "one.txt, two not found: " + (looked if given.manual else "no manual_dir was given")
        )
        assert "; set.tar.gz cannot be downloaded: " in first
        assert second == (
            "download http://127.0.0.1:9/set.tar.gz into a DIRECTORY and add "
            "--manual_dir=DIRECTORY to this command, or prepare the data in advance: "
            "prepare --task=set --manual_dir=DIRECTORY"
        )


def test_a_folder_with_some_of_the_files_raises(paths, server):
    write(paths.manual, {"outer/part/one.txt": b"first"})
    with pytest.raises(UserError, match="^two not found: looked in"):
        release(server.content, server.url).find(paths)
    assert not server.requests


def test_the_archive_of_the_long_range_arena_is_read_but_never_downloaded(paths):
    wanted = lra_release("sub", ("a.tsv", "b.tsv"))
    with pytest.raises(UserError, match="^a.tsv, b.tsv not found: looked in") as error:
        wanted.find(paths)
    assert "cannot be downloaded" not in str(error.value)
    for folder in ("lra_release/sub", "./lra_release/lra_release/sub"):
        members = {f"{folder}/a.tsv": b"1", f"{folder}/c.tsv": b"3", f"{folder}/b.tsv": b"2"}
        (paths.manual / "lra_release.gz").write_bytes(archive(members))
        found = wanted.find(dataclasses.replace(paths, scratch=paths.scratch / folder))
        assert found.folder == folder.removeprefix("./")
        unpacked = found["a.tsv"].parent
        assert {path.name: path.read_text() for path in unpacked.iterdir()} == {
            "a.tsv": "1",
            "b.tsv": "2",
        }


def hostile(paths):
    """Asserts that a hostile archive wrote nothing outside of its directory."""
    outside = paths.scratch.parent / "outside"
    assert not outside.exists() and not (paths.scratch / "outside").exists()
    assert not [path for path in paths.scratch.rglob("*") if path.is_symlink()]


def test_an_archive_that_writes_outside_its_directory_raises(paths):
    content = archive(FILES | {"part/two/../../../../outside": b"x"})
    (paths.manual / "set.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tar\.gz is unsafe: .*outside"):
        release(content).find(paths)
    hostile(paths)


def test_links_in_an_archive_are_neither_followed_nor_created(paths):
    outside = paths.scratch.parent
    members = {"1": link("part/two/up", str(outside)), "part/two/up/outside": b"x"}
    members |= {"2": link("part/two/c.txt", "/etc/passwd")}
    members |= {"3": link("part/two/d.txt", "part/one.txt", tarfile.LNKTYPE)}
    content = archive(members | FILES | {"../outside": b"x", "/outside": b"x"})
    (paths.manual / "set.tar.gz").write_bytes(content)
    found = release(content).find(paths)
    assert read(found) == FILES | {"part/two/up/outside": b"x"}
    hostile(paths)


def test_an_archive_without_the_files_raises(paths):
    content = archive({"part/one.txt": b"first"})
    (paths.manual / "set.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tar\.gz has no two: download http"):
        release(content).find(paths)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 2000, archive(FILES)[:90]], ids=["empty", "other", "cut off"]
)
def test_an_unreadable_archive_raises(paths, content):
    (paths.manual / "set.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"set\.tar\.gz (is damaged|has no)"):
        release(content).find(paths)


ZIPPED = Release("http://127.0.0.1:9/set.zip", ("one.txt",), ("part",))


@pytest.mark.parametrize("folder", ["", "part/"])
def test_only_the_needed_files_of_a_zip_archive_are_unpacked(paths, folder):
    members = {f"{folder}one.txt": b"first" * 99, "../outside": b"x", "part/two.txt": b"second"}
    (paths.manual / "set.zip").write_bytes(zip_archive(members))
    assert ZIPPED.find(paths)["one.txt"].read_bytes() == b"first" * 99
    assert [path.name for path in paths.scratch.rglob("*") if path.is_file()] == ["one.txt"]
    hostile(paths)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-30], lambda content: content.replace(b"first", b"thirf")]
)
def test_a_damaged_zip_archive_raises(paths, damage):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored without compression
        archive.writestr("one.txt", b"first")
    (paths.manual / "set.zip").write_bytes(damage(buffer.getvalue()))
    with pytest.raises(UserError, match=r"set\.zip is damaged"):
        ZIPPED.find(paths)


def test_a_zip_archive_without_the_file_raises(paths):
    (paths.manual / "set.zip").write_bytes(zip_archive({"two.txt": b"second"}))
    with pytest.raises(UserError, match=r"set\.zip has no one\.txt: download http"):
        ZIPPED.find(paths)


def test_a_size_without_a_checksum_is_verified(paths):
    content = zip_archive({"one.txt": b"first"})
    (paths.manual / "set.zip").write_bytes(content)
    right, wrong = (dataclasses.replace(ZIPPED, size=len(content) + more) for more in (0, 1))
    with pytest.raises(UserError, match=rf"not the released file: {len(content)} bytes; expected"):
        wrong.find(paths)
    assert right.find(paths)["one.txt"].read_bytes() == b"first"


def test_a_release_of_one_file_is_searched_in_the_directory_only(paths):
    wanted = Release("http://127.0.0.1:9/one.txt", ("one.txt",))
    with pytest.raises(UserError) as error:
        wanted.find(paths)
    assert str(error.value).startswith(f"one.txt not found: looked in {paths.manual}\ndownload ")
    (paths.manual / "one.txt").write_bytes(b"first")
    assert wanted.find(paths)["one.txt"] == paths.manual / "one.txt"
