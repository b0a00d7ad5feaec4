"""Fetching from a real server that supports ranges, ignores them or drops the connection; unpacking what is hostile."""

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mmutils.data import archive, get
from mmutils.data.__main__ import main

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """A server of one file; `content`, `tag`, `ranges` and `drops` (bytes after which each reply ends) can be set."""
    monkeypatch.setattr(get, "PAUSE", 0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told, start = self.server, 0
            told.asked.append(self.headers.get("Range"))
            if told.ranges and self.headers.get("Range") and self.headers.get("If-Range") == told.tag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(told.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(told.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(told.content) - 1}/{len(told.content)}")
            self.send_header("Content-Length", str(len(told.content) - start))
            self.send_header("ETag", told.tag)
            self.end_headers()
            return self.wfile.write(told.content[start:][: told.drops])

        def log_message(self, *_) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.content, made.tag, made.ranges, made.drops, made.asked = CONTENT, '"first"', True, None, []
    made.url = f"http://127.0.0.1:{made.server_port}/data.zip"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_dropped_connection_is_resumed_where_it_ended(server, tmp_path) -> None:
    server.drops = 1_100_000
    found = get.fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT and found == hashlib.sha256(CONTENT).hexdigest()
    assert server.asked == [None, "bytes=1100000-", "bytes=2200000-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.zip", "data.zip.sha256"]
    get.fetch(server.url, tmp_path / "data.zip")
    assert len(server.asked) == 3  # it is there


def test_a_server_without_ranges_sends_everything_again(server, tmp_path) -> None:
    server.drops, server.ranges = 1_100_000, False
    with pytest.raises(ConnectionError, match=r"ended early.*run the command again"):
        get.fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip.part").stat().st_size == 1_100_000 and not (tmp_path / "data.zip").exists()
    server.drops = None
    get.fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_not_mixed_with_the_old(server, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(get, "ATTEMPTS", 1)
    server.drops, server.ranges = 1_100_000, False
    with pytest.raises(ConnectionError):
        get.fetch(server.url, tmp_path / "data.zip")
    server.content, server.tag, server.drops, server.ranges = CONTENT[::-1], '"second"', None, True
    get.fetch(server.url, tmp_path / "data.zip")
    assert server.asked[-1] == "bytes=1100000-" and (tmp_path / "data.zip").read_bytes() == CONTENT[::-1]


def test_another_checksum_is_refused_and_a_whole_part_is_not_fetched_again(server, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"data.zip.part has the sha256 .* not 0000"):
        get.fetch(server.url, tmp_path / "data.zip", "0" * 64)
    assert not (tmp_path / "data.zip").exists()
    get.fetch(server.url, tmp_path / "data.zip", hashlib.sha256(CONTENT).hexdigest().upper())
    assert server.asked == [None, f"bytes={len(CONTENT)}-"]  # answered by 416
    (tmp_path / "data.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="not "):  # the noted one
        get.fetch(server.url, tmp_path / "data.zip")


def test_the_command_fetches_and_unpacks(server, tmp_path, capsys) -> None:
    server.content = zipped({"top/train.jsonl": b"{}", "__MACOSX/._top": b""})
    command = ["get", "crisismmd", "--root", str(tmp_path), "--url", server.url]
    wanted = hashlib.sha256(server.content).hexdigest()
    assert main([*command, "--sha256", f"other.zip={wanted}"]) == 2 and not server.asked
    assert main([*command, "--sha256", f"data.zip={wanted}"]) == 0
    assert (tmp_path / "data" / "train.jsonl").read_bytes() == b"{}" and wanted in capsys.readouterr().out
    assert main(["get", "hateful_memes", "--root", str(tmp_path)]) == main(["get", "x", "--root", str(tmp_path)]) == 2
    assert "drivendata.org" in (told := capsys.readouterr().out) and "unknown data set 'x'" in told


def tarred(path: Path, **entry) -> None:
    with tarfile.open(path, "w:gz") as made:
        member = tarfile.TarInfo(entry.pop("name"))
        for name, value in entry.items():
            setattr(member, name, value)
        made.addfile(member, io.BytesIO(bytes(member.size)))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "../../outside.txt", "size": 3}, "leads out"),
        ({"name": "/outside.txt", "size": 3}, "leads out"),
        ({"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "link"),
        ({"name": "link", "type": tarfile.LNKTYPE, "linkname": "other"}, "link"),
        ({"name": "zeros", "size": 20_000_000}, "too much for its size"),
    ],
)
def test_hostile_archives_leave_nothing(entry, problem, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "SPARE", 1_000_000)
    tarred(tmp_path / "data.tar.gz", **entry)
    with pytest.raises(ValueError, match=problem):
        archive.unpack(tmp_path / "data.tar.gz", tmp_path / "home" / "data")
    assert list((tmp_path / "home").iterdir()) == [] and not (tmp_path / "outside.txt").exists()


def test_hostile_and_damaged_zips(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "SPARE", 1_000_000)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    for files, problem in (
        ({link: b"/etc/passwd"}, "a link"),
        ({"../outside": b"1"}, "leads out"),
        ({"zeros": bytes(20_000_000)}, "too much"),
    ):
        (tmp_path / "data.zip").write_bytes(zipped(files))
        with pytest.raises(ValueError, match=problem):
            archive.unpack(tmp_path / "data.zip", tmp_path / "home" / "data")
    for name, content in (("cut.zip", zipped({"a": CONTENT})[:-100]), ("cut.tgz", b"\x1f\x8b\x08 no"), ("x.rar", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged|no archive by its name"):
            archive.unpack(tmp_path / name, tmp_path / "home" / "data")
    tarred(tmp_path / "whole.tgz", name="zeros", size=1000)
    whole = (tmp_path / "whole.tgz").read_bytes()
    for content in (whole[:-4], whole[:-8] + bytes(4) + whole[-4:]):  # cut in the checksum; another checksum
        (tmp_path / "cut.tgz").write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            archive.unpack(tmp_path / "cut.tgz", tmp_path / "home" / "data")
    assert list((tmp_path / "home").iterdir()) == []


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))
    packed = tmp_path / "data.zip"
    packed.write_bytes(zipped({"top/a.txt": b"first"}))
    home = archive.folder(packed)
    (home / "mark").touch()
    assert archive.folder(packed) == home and (home / "mark").exists() and (home / "a.txt").read_bytes() == b"first"
    packed.write_bytes(zipped({"top/a.txt": b"the second"}))
    assert (archive.folder(packed) / "a.txt").read_bytes() == b"the second"
    assert archive.folder(tmp_path) == tmp_path and archive.folder(None) is None
