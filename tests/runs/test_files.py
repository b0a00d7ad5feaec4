"""Files and folders are written whole or not at all; damaged cache files are noticed and made again."""

import os
import subprocess
import sys
import threading

import pytest

from mmutils.runs import files


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write(path, "old")
    with pytest.raises(OSError, match="disk is full"), files.whole_file(path) as draft:
        draft.write_text("half of the n")
        raise OSError("disk is full")
    assert path.read_text() == "old" and os.listdir(path.parent) == ["file"]


def test_of_two_that_make_a_folder_at_once_one_stays(tmp_path):
    together, drafts = threading.Barrier(2), []

    def make(folder):
        together.wait(timeout=60)  # both saw that there is no folder
        (folder / "file").write_text("whole")
        drafts.append(folder)

    threads = [threading.Thread(target=files.cached_folder, args=(tmp_path / "made", make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drafts) == 2 and os.listdir(tmp_path) == ["made"]
    assert files.cached_folder(tmp_path / "made", make) == tmp_path / "made" and len(drafts) == 2
    with pytest.raises(OSError, match="disk is full"):
        files.cached_folder(tmp_path / "other", lambda folder: full())
    assert os.listdir(tmp_path) == ["made"]


def full():
    raise OSError("disk is full")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {"cut": lambda p: os.truncate(p, p.stat().st_size // 2), "empty": lambda p: os.truncate(p, 0), "flipped": flip}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_damage_in_the_cache_heals(kind, damage, tmp_path):
    made = []

    def make(draft):
        made.append(draft)
        (draft / "part" if kind == "folder" else draft).write_bytes(b"content" * 100)

    def get():
        files._checksum_once.cache_clear()  # as a new process
        if kind == "folder":
            return files.cached_folder(tmp_path / "x", make) / "part"
        return files.cached_file(tmp_path / "x", ".bin", make)

    damage(get())
    assert get().read_bytes() == b"content" * 100 and len(made) == 2
    assert get() and len(made) == 2 and len(os.listdir(tmp_path)) == 1


def test_drafts_of_dead_processes_are_swept_and_those_of_living_ones_stay(tmp_path):
    code = "import os, sys; from mmutils.runs import files\n"
    code += "with files.whole_file(sys.argv[1]) as d: d.touch(); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=False)
    with files.whole_folder(tmp_path / "folder") as mine:
        assert len(list(tmp_path.glob(".draft-*"))) == 2
        files.sweep(tmp_path)
        assert list(tmp_path.glob(".draft-*")) == [mine]
