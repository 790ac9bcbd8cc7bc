"""Downloads: mirrors, checksums, going on, and archives that are refused."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.errors import UserError
from datasets import download
from datasets.download import Archive


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str | None]]]:
    """A web server: its address, the files it has, and the ranges it was asked for."""
    files: dict[str, bytes] = {}
    ranges: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, asked = files.get(self.path), self.headers.get("Range")
            if content is None:
                self.send_error(404)
                return
            ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if asked and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", files, ranges
        httpd.shutdown()
        thread.join()


def tar(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def test_a_download_tries_mirrors_and_continues(tmp_path: Path, server: tuple[str, dict[str, bytes], list]) -> None:
    address, files, ranges = server
    files["/set.tgz"] = tar({"set/a.txt": b"a" * 5000})
    checksum = f"sha256:{hashlib.sha256(files['/set.tgz']).hexdigest()}"
    (tmp_path / "set.tgz.partial").write_bytes(files["/set.tgz"][:50])
    archive = Archive("set.tgz", (f"{address}/gone.tgz", f"{address}/set.tgz"), checksum, "set")
    assert download.obtain(archive, tmp_path)
    assert ranges == ["bytes=50-"]
    assert (tmp_path / "set/a.txt").read_bytes() == b"a" * 5000
    assert sorted(each.name for each in tmp_path.iterdir()) == ["set", "set.tgz"]
    assert not download.obtain(archive, tmp_path)


def test_no_mirror_and_wrong_checksum(tmp_path: Path, server: tuple[str, dict[str, bytes], list]) -> None:
    address, files, _ = server
    with pytest.raises(UserError, match=r"set\.tgz could not be downloaded .*404.*yourself"):
        download.obtain(Archive("set.tgz", (f"{address}/gone.tgz",), None, "set"), tmp_path)
    files["/set.tgz"] = b"something else"
    with pytest.raises(UserError, match=r"has md5 .* but 00 was expected: delete it"):
        download.obtain(Archive("set.tgz", (f"{address}/set.tgz",), "md5:00", "set"), tmp_path)
    assert not (tmp_path / "set").exists()
    assert not download.obtain(Archive("other.zip", (), None, "set"), tmp_path)


@pytest.mark.parametrize("name", ["../evil.txt", "set/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_would_write_outside_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    path = root / "set.archive"
    if kind == "tar":
        path.write_bytes(tar({"set/a.txt": b"a", name: b"evil"}))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("set/a.txt", b"a")
            archive.writestr(name, b"evil")
    with pytest.raises(UserError, match="would be written outside its folder"):
        download.unpack(path, "set")
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["set.archive"]


def test_archives_with_links_damaged_or_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("set/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match="'set/link', which is no plain file"):
        download.unpack(path, "set")
    path.write_bytes(tar({"set/a.txt": os.urandom(5000)})[:-200])
    with pytest.raises(UserError, match="cannot be unpacked"):
        download.unpack(path, "set")
    path.write_bytes(tar({"other/a.txt": b"a"}))
    with pytest.raises(UserError, match="does not hold set"):
        download.unpack(path, "set")
    assert [each.name for each in tmp_path.iterdir() if each != path and each.name != "prepared"] == []
