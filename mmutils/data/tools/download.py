"""The `get` command: fetch a data set from its public address, with resume and checksums, and unpack it.

The addresses are those that the data set's page gave when this was written; they may move, and the files' checksums
are not published, so none can be checked unless you give it. What came is measured and noted beside the file.
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
    """Fetch, say the checksums, unpack; 0, 1 where that failed, or 2 for a data set without a public address."""
    try:
        page = getattr(dataset(options.data), "WHERE", "where you have it from")
    except ValueError as error:
        print(printable(error))
        return 2
    urls = options.url or ADDRESSES.get(options.data)
    sums = dict(entry.rpartition("=")[::2] for entry in options.sha256)
    names = [Path(urlsplit(url).path).name for url in urls or ()]
    if not urls:
        print(f"{options.data} has no public address to fetch: ask for it at {page}, or give one with --url")
        return 2
    if not all(name.endswith(KINDS) for name in names):
        print(printable(f"the file of an address must be {', '.join(KINDS)}; given {', '.join(urls)}"))
        return 2
    if set(sums) - set(names) or not all(re.fullmatch("[0-9a-fA-F]{64}", value) for value in sums.values()):
        print(f"give --sha256 FILE=HEX with 64 hex digits for a file of {', '.join(names)}; given {options.sha256}")
        return 2
    sweep(options.root)
    try:
        for url, name in zip(urls, names, strict=True):
            path = Path(options.root, name)
            print(printable(f"{name}: sha256 {fetch(url, path, sums.get(name))}"), flush=True)
            unpack(path, path.with_name(re.sub(r"(\.zip|\.tar\.gz|\.tgz)$", "", name) or name))
    except (ValueError, OSError) as error:
        print(printable(error))
        return 1
    print(f"now: python -m mmutils.data check {options.data} --root {options.root}")
    return 0


def fetch(url: str, path: Path, sha256: str | None = None) -> str:
    """Bring a file here unless it is, and return its sha256, which `<file>.sha256` keeps as sha256sum writes it.

    Until it is complete it is `<file>.part`, which a later call goes on with if the server still has the same file.
    ValueError for another checksum than given or noted, and for an address that is not http; OSError for the network.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"cannot fetch {url!r}: give an address that begins with https://")
    noted, part = path.with_name(path.name + ".sha256"), path.with_name(path.name + ".part")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part)
    there = path if path.exists() else part
    with there.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = sha256 or (_noted(noted) if there == path else None) or digest
    if digest != expected.lower():
        raise ValueError(f"{there} has the sha256 {digest}, not {expected}: remove it, or doubt where it came from")
    write(noted, f"{digest}  {path.name}\n")
    os.replace(there, path)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
    return digest


def _noted(file: Path) -> str | None:
    """The checksum in a file as sha256sum writes it; None where there is none."""
    match = re.match(rb"[0-9a-fA-F]{64}\b", file.read_bytes()) if file.is_file() else None
    return match.group().decode() if match else None


def _complete(url: str, part: Path) -> None:
    """Go on with the part until it is whole; after ATTEMPTS tries in a row that brought nothing, ConnectionError."""
    tries = 0
    while tries < ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(url, part):
                return
            problem = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise ConnectionError(f"{url}: the server says {error.code} {error.reason}") from error
            problem = f"the server says {error.code}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        tries = 0 if part.exists() and part.stat().st_size > before else tries + 1
        time.sleep(PAUSE)
    raise ConnectionError(f"{url}: {problem}. What came is kept in {part}: run the command again to go on")


def _continue(url: str, part: Path) -> bool:
    """One request for what is missing, or for everything where that is not sure to be the same; is it whole now?"""
    note = part.with_name(part.name + ".json")
    start = part.stat().st_size if part.exists() and note.exists() else 0
    version = _version(note, url) if start else None
    headers = {"User-Agent": "mmutils", "Accept-Encoding": "identity"}
    if version:
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
        rest = response.headers.get("Content-Range", "")
        goes_on = response.status == 206 and rest.startswith(f"bytes {start}-")
        if response.status == 206 and not goes_on:
            raise ConnectionError(f"asked for bytes from {start} on, the server sent {rest!r}")
        length = response.headers.get("Content-Length")
        start, total = start if goes_on else 0, None if length is None else int(length) + (start if goes_on else 0)
        tag = response.headers.get("ETag") or ""  # a weak one (W/...) does not promise the same bytes
        version = response.headers.get("Last-Modified") if tag[:2] in ("", "W/") else tag
        with part.open("ab" if goes_on else "wb") as file, _bar(part, start, total) as bar:
            write(note, json.dumps({"url": url, "version": version}))
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
    return total is None or part.stat().st_size == total


def _version(note: Path, url: str) -> str | None:
    """What the server called the file that a part is of; None where the note is of another address, or damaged."""
    try:
        entries = json.loads(note.read_text(encoding="utf-8"))
        return entries["version"] if entries["url"] == url else None
    except (ValueError, KeyError, TypeError):
        return None


def _bar(part: Path, start: int, total: int | None) -> tqdm:
    return tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, delay=1)
