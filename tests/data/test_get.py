"""Fetching from a real server that supports ranges, ignores them or drops the connection; unpacking what is hostile."""

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mmutils.data.__main__ import main
from mmutils.data.tools import archive
from mmutils.data.tools import download as get

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
        ({"name": "/outside.txt", "size": 3}, "is absolute"),
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


def test_headers_and_the_number_of_files_are_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "BLOCK", 2_000_000)
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        tarred(tmp_path / "header.tgz", name="header", type=kind, size=3_000_000)
        with pytest.raises(ValueError, match=r"header.tgz has a header of 3 MB"):
            archive.unpack(tmp_path / "header.tgz", tmp_path / "home" / "data")
    (tmp_path / "list.zip").write_bytes(zipped({f"{number:0>60000}": b"" for number in range(40)}))
    with pytest.raises(ValueError, match=r"list.zip has a header of 2 MB"):
        archive.unpack(tmp_path / "list.zip", tmp_path / "home" / "data")
    monkeypatch.setattr(archive, "SPARE", 0)
    (tmp_path / "many.zip").write_bytes(zipped({str(number): b"" for number in range(200)}))
    monkeypatch.setattr(archive, "RATIO", 5)
    with pytest.raises(ValueError, match=r"many.zip unpacks to more than"):
        archive.unpack(tmp_path / "many.zip", tmp_path / "home" / "data")
    assert list((tmp_path / "home").iterdir()) == []


def test_names_in_an_archive_that_clash_or_are_of_windows(tmp_path) -> None:
    (tmp_path / "clash.zip").write_bytes(zipped({"a": b"1", "a/b": b"2"}))
    with pytest.raises(ValueError, match=r"clash.zip is damaged"):
        archive.unpack(tmp_path / "clash.zip", tmp_path / "clash")
    windows = {name: zipfile.ZipInfo("x") for name in ("top\\", "top\\img\\1.png", "top\\top\\2.png")}
    for name, info in windows.items():
        info.filename = name
    (tmp_path / "windows.zip").write_bytes(zipped(dict.fromkeys(windows.values(), b"1")))
    archive.unpack(tmp_path / "windows.zip", home := tmp_path / "windows")
    assert sorted(path.relative_to(home).as_posix() for path in home.rglob("*.png")) == ["img/1.png", "top/2.png"]


def test_an_archive_whose_folder_was_damaged_is_unpacked_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data.zip").write_bytes(zipped({"a.txt": b"first", "b.txt": b"second"}))
    key = archive.folder(tmp_path / "data.zip").name
    home = tmp_path / "cache" / "archives" / key
    (home / "a.txt").write_bytes(b"fIrst")
    code = f"from mmutils.data.tools import archive; print(archive.folder({str(tmp_path / 'data.zip')!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(home) and (home / "a.txt").read_bytes() == b"first"
    assert sorted(path.name for path in home.parent.iterdir()) == [key]


def test_a_damaged_note_of_a_part_or_a_checksum_is_no_obstacle(server, tmp_path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1000])
    (tmp_path / "data.zip.part.from").write_bytes(b"\xff{")
    get.fetch(server.url, tmp_path / "data.zip")
    assert (tmp_path / "data.zip").read_bytes() == CONTENT and server.asked == [None]
    (tmp_path / "data.zip.sha256").write_bytes(b"")
    assert get.fetch(server.url, tmp_path / "data.zip") == hashlib.sha256(CONTENT).hexdigest()
    assert (tmp_path / "data.zip.sha256").read_text().endswith("  data.zip\n")


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
