"""The `get` command: fetch a data set from its public address, with resume and checksums, and unpack it.

The addresses are those on the data set's page; they may move. Checksums of the files are not published, so only those
that you give are checked. The checksum of what came is printed and noted beside the file.
"""

import argparse
import hashlib
import http.client
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
from mmutils.runs.parameters import show

PUBLIC = ("CrisisMMD_v2.0.tar.gz", "crisismmd_datasplit_agreed_label.zip", "crisismmd_datasplit_all.zip")  # 2 GB
ADDRESSES = {"crisismmd": [f"https://crisisnlp.qcri.org/data/crisismmd/{name}" for name in PUBLIC]}
ATTEMPTS, PAUSE, PATIENCE = 5, 2, 60  # tries of one file; seconds between them; seconds without a byte


def main(options: argparse.Namespace) -> int:
    """Fetch, print the checksums, unpack; 0, 1 where that failed, or 2 for wrong arguments or no public address."""
    status = 2
    try:
        page = getattr(dataset(options.data), "WHERE", "where you have it from")
        urls = options.url or ADDRESSES.get(options.data)
        if not urls:
            raise ValueError(f"{options.data} has no public address: ask for it at {page}, or give one with --url")
        names = [Path(urlsplit(url).path).name for url in urls]
        if not all(name.endswith(KINDS) for name in names):
            raise ValueError(f"the file of an address must be {', '.join(KINDS)}; given {', '.join(urls)}")
        sums = dict(entry.rpartition("=")[::2] for entry in options.sha256)
        if set(sums) - set(names) or not all(re.fullmatch("[0-9a-fA-F]{64}", value) for value in sums.values()):
            raise ValueError(f"give --sha256 FILE=HEX with 64 hex digits for {', '.join(names)}; given {sums}")
        status = 1
        sweep(options.root)
        for url, name in zip(urls, names, strict=True):
            path = Path(options.root, name)
            show(f"{name}: sha256 {fetch(url, path, sums.get(name))}")
            unpack(path, path.with_name(re.sub(r"(\.zip|\.tar\.gz|\.tgz)$", "", name) or name))
    except (ValueError, OSError) as error:
        show(error)
        return status
    show(f"now: python -m mmutils.data check {options.data} --root {options.root}")
    return 0


def fetch(url: str, path: Path, sha256: str | None = None) -> str:
    """Fetch a file unless it is there, and return its sha256, which `<file>.sha256` keeps in sha256sum's format.

    Until it is complete it is `<file>.part`; a later call continues it if the server still has the same file.
    ValueError for another checksum than given or noted; OSError for the network.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"cannot fetch {url!r}: give an address that begins with https://")
    part, origin, note = (path.with_name(path.name + ending) for ending in (".part", ".part.from", ".sha256"))
    content, failures, noted = path, 0, None
    if path.exists() and note.is_file():
        noted = re.match(r"[0-9a-fA-F]{64}\b|", note.read_text(encoding="ascii", errors="replace")).group()
    elif not path.exists():
        content = part
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        while True:
            size = part.stat().st_size
            try:
                if _continue(url, part, origin):
                    break
                problem = "the connection ended early"
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
                if getattr(error, "code", 500) < 500:
                    raise ConnectionError(f"{url}: {problem}") from error
            failures = 0 if part.stat().st_size > size else failures + 1
            if failures == ATTEMPTS:
                raise ConnectionError(f"{url}: {problem}. What came is kept in {part}: run the command again to go on")
            time.sleep(PAUSE)
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = sha256 or noted or digest
    if digest != expected.lower():
        raise ValueError(f"{content} has the sha256 {digest}, not {expected}: remove it, or doubt where it came from")
    write(note, f"{digest}  {path.name}\n")
    os.replace(content, path)
    origin.unlink(missing_ok=True)
    return digest


def _continue(url: str, part: Path, origin: Path) -> bool:
    """One request for what is missing, or for everything where the server's file may differ; is the part whole now?

    origin: file with the address of the part, and the server's name of its version.
    """
    address, _, version = origin.read_text(errors="replace").partition("\n") if origin.exists() else ("", "", "")
    start = part.stat().st_size if address == url and version else 0
    headers = {"User-Agent": "mmutils", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # "nothing after byte `start`": the part is whole, or it is of another file
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True
        part.write_bytes(b"")
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
            write(origin, f"{url}\n{version or ''}")
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
    return total is None or part.stat().st_size == total
