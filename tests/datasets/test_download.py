"""Downloads from a server of the tests that loses connections, forgets ranges, and sends what is wrong."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import io
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from factories.images import FACES, write_celeba

from benchmark.errors import UserError
from datasets import celeba, download, prepare, waterbirds
from datasets.download import Download, obtain

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(len(CONTENT))


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Hosted:
    """A file of the server, and how it is sent: the connection is lost after the bytes of the next of ``losses``."""

    content: bytes
    losses: tuple[int, ...] = ()
    ranges: bool = True
    tag: str = ""
    date: str = ""
    believes: bool = True
    """Whether If-Range is looked at."""
    length: bool = True
    """Whether the length is told; otherwise in chunks, as what is made while it is sent."""
    kind: str = "application/octet-stream"
    stalls: bool = False
    """Whether it waits, rather than lose the connection."""
    wrong_start: int = 0
    """By how much the part that is sent begins too late."""


class Server:
    """``files`` by their path, and what was ``asked`` for: ranges and the version that a part should be of."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Hosted] = {}
        self.asked: list[tuple[str, str | None, str | None]] = []

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def host(self, name: str, content: bytes = CONTENT, **how: object) -> str:
        self.files[f"/{name}"] = Hosted(content, **how)  # type: ignore[arg-type]
        return self.url(name)

    @property
    def ranges(self) -> list[str | None]:
        return [each[1] for each in self.asked]


@pytest.fixture
def server() -> Iterator[Server]:
    go_on = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            hosted = served.files.get(self.path)
            asked, version = self.headers.get("Range"), self.headers.get("If-Range")
            served.asked.append((self.path, asked, version))
            if hosted is None:
                self.send_error(404)
                return
            start, total = 0, len(hosted.content)
            same = not hosted.believes or version in (None, hosted.tag, hosted.date)
            if asked and hosted.ranges and same:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start += hosted.wrong_start
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            for name, value in (("Content-Type", hosted.kind), ("ETag", hosted.tag), ("Last-Modified", hosted.date)):
                if value:
                    self.send_header(name, value)
            body = hosted.content[start:]
            sent = body[: hosted.losses[0]] if hosted.losses else body
            hosted.losses = hosted.losses[1:]
            if hosted.length:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(sent)
                if hosted.stalls:
                    go_on.wait(60)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for place in range(0, len(sent), 50_000):
                chunk = sent[place : place + 50_000]
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            if sent is body:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # the other side has had enough
                self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        served = Server(f"http://127.0.0.1:{httpd.server_port}")
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield served
        go_on.set()
        httpd.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def tar(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


SET = tar({"set/a.bin": CONTENT})

# What a mirror does, and the ranges that it is asked for until the file is there.
WAYS: dict[str, tuple[dict, list[str | None]]] = {
    "nothing": ({}, [None]),
    "loses the connection twice": ({"losses": (1_000_000, 500_000)}, [None, "bytes=1000000-", "bytes=1500000-"]),
    "loses it after all bytes but one": ({"losses": (2_999_999,)}, [None, "bytes=2999999-"]),
    "ignores ranges": ({"losses": (1_000_000, 2_000_000), "ranges": False}, [None, "bytes=1000000-", "bytes=2000000-"]),
    "has a tag": ({"losses": (1_000_000,), "tag": '"v1"'}, [None, "bytes=1000000-"]),
    "sends chunks": ({"length": False, "losses": (1_000_000,)}, [None, "bytes=1000000-"]),
    "sends the wrong part": ({"losses": (1_000_000,), "wrong_start": 7}, [None, "bytes=1000000-", None]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
def test_a_file_arrives_whole(tmp_path: Path, server: Server, way: str, known: bool) -> None:
    how, ranges = WAYS[way]
    url = server.host("set.bin", **how)
    wanted = Download("inner/set.bin", (url,), sha256(CONTENT), len(CONTENT) if known else None)
    assert obtain(wanted, tmp_path)
    assert (tmp_path / "inner/set.bin").read_bytes() == CONTENT
    assert names(tmp_path / "inner") == ["set.bin"]
    assert server.ranges == ranges
    assert not obtain(wanted, tmp_path), "it is there"
    assert server.ranges == ranges


@pytest.mark.parametrize(
    ("how", "version"),
    [
        ({"tag": '"v1"', "date": "Sat, 01 Feb 2020 00:00:00 GMT"}, '"v1"'),
        ({"tag": 'W/"v1"', "date": "Sat, 01 Feb 2020 00:00:00 GMT"}, "Sat, 01 Feb 2020 00:00:00 GMT"),
        ({"tag": 'W/"v1"'}, None),
        ({}, None),
    ],
    ids=["tag", "date", "weak tag", "neither"],
)
def test_without_a_checksum_only_a_version_lets_a_download_go_on(
    tmp_path: Path, server: Server, how: dict, version: str | None
) -> None:
    url = server.host("set.tgz", SET, losses=(1_000_000, 2_000_000), **how)
    assert obtain(Download("set.tgz", (url,), unpacks_to="set"), tmp_path)
    assert (tmp_path / "set/a.bin").read_bytes() == CONTENT
    if version:
        assert server.asked[1:] == [("/set.tgz", f"bytes={start}-", version) for start in (1_000_000, 3_000_000)]
    else:
        assert server.ranges == [None, None, None]


@pytest.mark.parametrize("believes", [True, False], ids=["honours If-Range", "ignores If-Range"])
@pytest.mark.parametrize("checked", [True, False], ids=["checksum", "no checksum"])
def test_a_file_that_changes_between_attempts_is_not_mixed(
    tmp_path: Path, server: Server, believes: bool, checked: bool
) -> None:
    new = tar({"set/a.bin": OTHER})
    url = server.host("set.tgz", SET, losses=(1_000_000, 0), tag='"v1"')
    wanted = Download("set.tgz", (url,), sha256(new) if checked else None, unpacks_to="set")
    with pytest.raises(UserError, match="the connection ended after 1,000,000 of 3,0"):
        obtain(wanted, tmp_path)
    assert names(tmp_path) == ["set.tgz.partial", "set.tgz.partial.origin"]
    server.host("set.tgz", new, tag='"v2"', believes=believes)
    assert obtain(wanted, tmp_path)
    assert (tmp_path / "set/a.bin").read_bytes() == OTHER
    assert server.asked[2] == ("/set.tgz", "bytes=1000000-", '"v1"')
    assert names(tmp_path) == ["set", "set.tgz"]


def test_a_change_that_no_version_tells_is_found_by_the_checksum(tmp_path: Path, server: Server) -> None:
    url = server.host("set.bin", OTHER, losses=(1_000_000, 0))
    wanted = Download("set.bin", (url,), sha256(CONTENT), len(CONTENT))
    with pytest.raises(UserError, match="the connection ended"):
        obtain(wanted, tmp_path)
    server.host("set.bin")
    assert obtain(wanted, tmp_path)
    assert server.ranges[2:] == ["bytes=1000000-", None]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_mirrors_are_tried_in_turn_and_go_on_with_the_same_bytes(tmp_path: Path, server: Server) -> None:
    first = server.host("first.bin", losses=(1_000_000, 0), tag='"v1"')
    urls = (server.url("gone.bin"), server.host("wrong.bin", CONTENT[:-1]), first, server.host("second.bin"))
    assert obtain(Download("set.bin", urls, sha256(CONTENT), len(CONTENT)), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert server.asked[-1] == ("/second.bin", "bytes=1000000-", None), "a version of another mirror means nothing here"


@pytest.mark.parametrize(
    "how",
    [{"content": b"<html></html>", "kind": "text/html"}, {"content": CONTENT[:500_000]}, {"content": CONTENT * 2}],
)
def test_a_mirror_that_is_wrong_costs_nothing_of_what_another_sent(tmp_path: Path, server: Server, how: dict) -> None:
    urls = (server.host("good.bin", losses=(1_000_000, 0)), server.host("bad.bin", **how))
    wanted = Download("set.bin", urls, sha256(CONTENT), len(CONTENT))
    with pytest.raises(UserError, match="could not be downloaded"):
        obtain(wanted, tmp_path)
    assert obtain(wanted, tmp_path)
    assert server.asked[-1] == ("/good.bin", "bytes=1000000-", None)


def test_a_damaged_note_of_the_origin_only_costs_time(tmp_path: Path, server: Server) -> None:
    url = server.host("set.tgz", SET)
    for content in (b"\x00\xff\n", f"{url}\n\x00a\r\nHost: x".encode()):
        (tmp_path / "set.tgz.partial").write_bytes(SET[:1000])
        (tmp_path / "set.tgz.partial.origin").write_bytes(content)
        assert obtain(Download("set.tgz", (url,), unpacks_to="set"), tmp_path)
        assert server.ranges[-1] is None
        shutil.rmtree(tmp_path / "set")
        (tmp_path / "set.tgz").unlink()


def test_without_a_checksum_no_mirror_goes_on_with_the_bytes_of_another(tmp_path: Path, server: Server) -> None:
    first = server.host("first.tgz", SET, losses=(1_000_000, 0), tag='"v1"')
    urls = (first, server.host("second.tgz", tar({"set/a.bin": OTHER}), tag='"v1"'))
    assert obtain(Download("set.tgz", urls, unpacks_to="set"), tmp_path)
    assert server.asked[-1] == ("/second.tgz", None, None)
    assert (tmp_path / "set/a.bin").read_bytes() == OTHER


# What a mirror does, and what is said of it; nothing of it stays.
FAULTS: dict[str, tuple[dict, str]] = {
    "another length": ({"content": CONTENT + b"more"}, "it has 3,000,004 bytes, where 3,000,000 were expected"),
    "another content": ({"content": OTHER}, "what is sent has sha256 .*, but .* was expected"),
    "less": ({"content": CONTENT[:22], "length": False}, "it has 22 bytes, where 3,000,000 were expected"),
    "a page": (
        {"content": b"<html>Try later</html>", "length": False, "kind": "text/html"},
        "it sends a page in place",
    ),
    "no end": ({"content": CONTENT + bytes(5_000_000), "length": False}, "it goes on after 3,000,000 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_refused_and_set_right_on_the_next_try(tmp_path: Path, server: Server, name: str) -> None:
    how, message = FAULTS[name]
    wanted = Download("set.bin", (server.host("set.bin", **how),), sha256(CONTENT), len(CONTENT))
    with pytest.raises(
        UserError, match=rf"^set\.bin could not be downloaded \(.*{message}.*\): put it into .* yourself"
    ):
        obtain(wanted, tmp_path)
    assert not (tmp_path / "set.bin").exists()
    server.host("set.bin")
    assert obtain(wanted, tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["set.bin"]


@pytest.mark.parametrize(
    "content", [SET[:-500], tar({"other/a.bin": b"a"}), tar({"set/a.bin": b"a", "../evil": b"e"}), b"<html></html>"]
)
def test_an_archive_without_checksum_that_is_wrong_is_given_up_for_the_next_mirror(
    tmp_path: Path, server: Server, content: bytes
) -> None:
    root = tmp_path / "data"
    wanted = Download("set.tgz", (server.host("bad.tgz", content),), unpacks_to="set")
    with pytest.raises(UserError, match="could not be downloaded"):
        obtain(wanted, root)
    assert names(root) == [], "what is wrong is not there to be taken for the archive"
    wanted = Download("set.tgz", (server.url("bad.tgz"), server.host("good.tgz", SET)), unpacks_to="set")
    assert obtain(wanted, root)
    assert names(root) == ["set", "set.tgz"]
    assert names(tmp_path) == ["data"]


def test_a_download_that_lacks_only_its_last_step_asks_nobody(tmp_path: Path, server: Server) -> None:
    """Killed between the last byte and the check; without a known size the server says that nothing is left."""
    url = server.host("set.bin")
    for size, ranges in ((len(CONTENT), []), (None, ["bytes=3000000-"])):
        (tmp_path / "set.bin.partial").write_bytes(CONTENT)
        assert obtain(Download("set.bin", (url,), sha256(CONTENT), size), tmp_path)
        assert server.ranges == ranges
        (tmp_path / "set.bin").unlink()
    (tmp_path / "set.bin.partial").write_bytes(CONTENT + b"more than there is")
    assert obtain(Download("set.bin", (url,), sha256(CONTENT)), tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_killed_process_leaves_what_the_next_one_continues(tmp_path: Path, server: Server) -> None:
    url, partial = server.host("set.bin", losses=(1_000_000,), stalls=True), tmp_path / "set.bin.partial"
    code = (
        "import sys; from pathlib import Path; from datasets.download import Download, obtain; "
        "obtain(Download('set.bin', (sys.argv[1],), sys.argv[2]), Path(sys.argv[3]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url, sha256(CONTENT), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not partial.exists() or partial.stat().st_size < 500_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = partial.stat().st_size
    server.host("set.bin")
    assert obtain(Download("set.bin", (url,), sha256(CONTENT)), tmp_path)
    assert server.ranges == [None, f"bytes={there}-"]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["set.bin"]


def test_an_archive_of_bare_files_gets_its_folder(tmp_path: Path, server: Server) -> None:
    url = server.host("blob", tar({"./list.csv": b"a", "./inner/a.bin": CONTENT}), length=False)
    wanted = Download("set.tgz", (url,), unpacks_to="set", bare="list.csv")
    assert obtain(wanted, tmp_path)
    assert names(tmp_path / "set") == ["inner", "list.csv"]
    assert names(tmp_path) == ["set", "set.tgz"]


def test_size_is_told_and_room_asked_for_beforehand(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.host("set.tgz", SET)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=4_000_000))
    with pytest.raises(
        UserError, match=r"set\.tgz needs 6\.\d*MB unpacked, of which .* has 4\.00MB: make room"
    ) as caught:
        obtain(Download("set.tgz", (url, url), unpacks_to="set"), tmp_path)
    assert "could not be downloaded" not in str(caught.value)
    assert len(server.asked) == 1, "no mirror makes room"
    assert names(tmp_path) == []
    assert "Downloading set.tgz (3.00MB) from 127.0.0.1 into" in capsys.readouterr().out
    (tmp_path / "set.bin.partial").write_bytes(CONTENT[:2_000_000])
    assert obtain(Download("set.bin", (server.host("set.bin"),), sha256(CONTENT)), tmp_path), "an archive takes both"
    assert "(3.00MB, of which 2.00MB are here)" in capsys.readouterr().out


def test_a_second_process_does_not_write_into_the_same_download(tmp_path: Path, server: Server) -> None:
    wanted = Download("set.bin", (server.host("set.bin"),), sha256(CONTENT))
    with (tmp_path / "set.bin.partial.origin").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"set\.bin is being downloaded by another process"):
            obtain(wanted, tmp_path)
    assert not server.asked
    assert obtain(wanted, tmp_path)


def test_what_a_person_put_there_is_named_and_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "set.tgz").write_bytes(SET)
    with pytest.raises(UserError, match=r"set\.tgz has md5 .* but 00 was expected: delete it and fetch it again"):
        obtain(Download("set.tgz", (), "md5:00", unpacks_to="set"), tmp_path)
    with pytest.raises(UserError, match="does not hold other"):
        obtain(Download("set.tgz", unpacks_to="other"), tmp_path)
    assert (tmp_path / "set.tgz").read_bytes() == SET
    assert not obtain(Download("gone.zip", unpacks_to="set2"), tmp_path)


def hosted_celeba(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CelebA's source with the small set of ``folder`` on the server; returns an empty data root."""
    made = write_celeba(folder, FACES)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        packed.add(made / "img_align_celeba", "img_align_celeba")
    contents = [(made / celeba.ATTRIBUTES).read_bytes(), (made / celeba.PARTITION).read_bytes(), archive.getvalue()]
    downloads = tuple(
        Download(
            each.file, (server.host(str(number), content),), sha256(content), len(content), unpacks_to=each.unpacks_to
        )
        for number, (each, content) in enumerate(zip(celeba.SOURCE.downloads, contents, strict=True))
    )
    monkeypatch.setattr(celeba, "SOURCE", replace(celeba.SOURCE, downloads=downloads))
    return folder / "data"


def test_celeba_is_downloaded_only_by_those_who_accept_its_terms(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = hosted_celeba(server, tmp_path, monkeypatch)
    arguments = ["celeba_bignose", "--size", "32", "--allow-subset", "--data-root", str(root)]
    assert prepare.main(arguments) == 2
    said = capsys.readouterr().err
    assert "--accept-terms" in said
    assert "non-commercial research only" in said
    assert not server.asked
    attributes = server.files.pop("/0")
    assert prepare.main([*arguments, "--accept-terms"]) == 2
    said = capsys.readouterr().err
    assert "list_attr_celeba.txt could not be downloaded" in said
    assert "By hand: put img_align_celeba.zip" in said
    assert (root / "celeba/img_align_celeba/000001.jpg").exists(), "the others were fetched all the same"
    server.files["/0"] = attributes
    assert prepare.main([*arguments, "--accept-terms"]) == 0
    assert [path for path, *_ in server.asked] == ["/0", "/1", "/2", "/0"]
    assert "Part of CelebA" in capsys.readouterr().out


def test_the_addresses_and_checksums_are_those_that_others_state() -> None:
    """Of CelebA, those of torchvision; of Waterbirds the release first and WILDS last."""
    torchvision = pytest.importorskip("torchvision.datasets")
    official = {name: identity for identity, _, name in torchvision.CelebA.file_list}
    for each in celeba.SOURCE.downloads:
        assert each.urls[-1].endswith(f"id={official[Path(each.file).name]}")
        assert each.checksum
        assert each.size
    assert celeba.SOURCE.terms
    (archive,) = waterbirds.SOURCE.downloads
    assert archive.urls[0].startswith("https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2")
    assert archive.bare == waterbirds.METADATA
