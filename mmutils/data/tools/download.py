"""The `get` command: fetch a data set from its public address, with resume and checksums, and unpack it.

The addresses are those on the data set's page; they may move. Checksums of the files are not published, so only those
that you give are checked. The checksum of what came is printed and noted beside the file.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from mmutils.data import dataset
from mmutils.data.tools.archive import KINDS, unpack
from mmutils.runs.files import sweep, write
from mmutils.runs.parameters import printable

HOME = "https://crisisnlp.qcri.org/data/crisismmd"
PUBLIC = ("CrisisMMD_v2.0.tar.gz", "crisismmd_datasplit_agreed_label.zip", "crisismmd_datasplit_all.zip")
ADDRESSES = {"crisismmd": [f"{HOME}/{name}" for name in PUBLIC]}  # the first is about 2 GB
ATTEMPTS, PAUSE, PATIENCE = 5, 2, 60  # tries of one file; seconds between them; seconds without a byte


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m mmutils.data get` takes."""
    parser.add_argument("data", help=f"data set: {', '.join(ADDRESSES)}")
    parser.add_argument("--root", required=True, metavar="DIR", help="folder to fetch into and to unpack in")
    parser.add_argument("--url", action="append", help="another address, instead of the known ones; may be repeated")
    parser.add_argument("--sha256", action="append", default=[], metavar="FILE=HEX", help="of a file; may be repeated")


def main(options: argparse.Namespace) -> int:
    """Fetch, print the checksums, unpack; 0, 1 where that failed, or 2 for wrong arguments or no public address."""
    try:
        downloads = _downloads(options)
    except ValueError as error:
        print(printable(error))
        return 2
    sweep(options.root)
    try:
        for url, path, sha256 in downloads:
            print(printable(f"{path.name}: sha256 {fetch(url, path, sha256)}"), flush=True)
            unpack(path, path.with_name(re.sub(r"(\.zip|\.tar\.gz|\.tgz)$", "", path.name) or path.name))
    except (ValueError, OSError) as error:
        print(printable(error))
        return 1
    print(f"now: python -m mmutils.data check {options.data} --root {options.root}")
    return 0


def fetch(url: str, path: Path, sha256: str | None = None) -> str:
    """Fetch a file unless it is there, and return its sha256, which `<file>.sha256` keeps in sha256sum's format.

    Until it is complete it is `<file>.part`; a later call continues it if the server still has the same file.
    ValueError for another checksum than given or noted, and for an address that is not http; OSError for the network.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"cannot fetch {url!r}: give an address that begins with https://")
    content, note, noted = path, path.with_name(path.name + ".sha256"), None
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.with_name(path.name + ".part")
        _complete(url, content)
    elif note.is_file():
        noted = re.match(r"[0-9a-fA-F]{64}\b|", note.read_text(encoding="ascii", errors="replace")).group()
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = sha256 or noted or digest
    if digest != expected.lower():
        raise ValueError(f"{content} has the sha256 {digest}, not {expected}: remove it, or doubt where it came from")
    write(note, f"{digest}  {path.name}\n")
    os.replace(content, path)
    path.with_name(path.name + ".part.json").unlink(missing_ok=True)
    return digest


def _downloads(options: argparse.Namespace) -> list[tuple[str, Path, str | None]]:
    """Address, file and expected checksum of each download; ValueError for wrong arguments."""
    page = getattr(dataset(options.data), "WHERE", "where you have it from")
    urls = options.url or ADDRESSES.get(options.data)
    if not urls:
        raise ValueError(f"{options.data} has no public address to fetch: ask for it at {page}, or give one with --url")
    files = [Path(options.root, Path(urlsplit(url).path).name) for url in urls]
    if not all(file.name.endswith(KINDS) for file in files):
        raise ValueError(f"the file of an address must be {', '.join(KINDS)}; given {', '.join(urls)}")
    names, sums = {file.name for file in files}, dict(entry.rpartition("=")[::2] for entry in options.sha256)
    if set(sums) - names or not all(re.fullmatch("[0-9a-fA-F]{64}", value) for value in sums.values()):
        raise ValueError(f"give --sha256 FILE=HEX with 64 hex digits for a file of {', '.join(names)}; given {sums}")
    return [(url, file, sums.get(file.name)) for url, file in zip(urls, files, strict=True)]


def _complete(url: str, part: Path) -> None:
    """Continue the part until it is whole; ConnectionError after ATTEMPTS tries in a row that brought nothing."""
    tries = 0
    while tries < ATTEMPTS:
        before = _size(part)
        try:
            if _continue(url, part):
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            problem = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                raise ConnectionError(f"{url}: {problem}") from error
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        tries = 0 if _size(part) > before else tries + 1
        time.sleep(PAUSE)
    raise ConnectionError(f"{url}: {problem}. What came is kept in {part}: run the command again to go on")


def _continue(url: str, part: Path) -> bool:
    """One request for what is missing, or for everything where the server's file may differ; is the part whole now?"""
    state = part.with_name(part.name + ".json")
    version = _version(state, url)
    start, headers = _size(part) if version else 0, {"User-Agent": "mmutils", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "nothing after byte `start`": the part is whole, or it is of another file
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True
        part.unlink()
        return False
    with response:
        sent, length = (response.headers.get(name) for name in ("Content-Range", "Content-Length"))
        if response.status != 206:
            start = 0
        elif not (sent or "").startswith(f"bytes {start}-"):
            raise ConnectionError(f"asked for bytes from {start} on, the server sent {sent!r}")
        total = start + int(length) if length else None
        bar = tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, delay=1)
        with part.open("ab" if start else "wb") as file, bar:
            tag = response.headers.get("ETag") or ""  # a weak one (W/...) does not promise the same bytes
            version = response.headers.get("Last-Modified") if tag[:2] in ("", "W/") else tag
            write(state, json.dumps({"url": url, "version": version}))
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
    return total is None or _size(part) == total


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version(state: Path, url: str) -> str | None:
    """What the server called the file that a part is of; None where it is of another address, or not known."""
    try:
        content = json.loads(state.read_bytes())
        return content["version"] if content["url"] == url else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
