"""The file that a function gets."""

from __future__ import annotations

import gc
import hashlib
import os
import pathlib
import weakref

import pytest

CONTENT = bytes(range(256)) * 8000


def one(work, look, **options):
    """Runs `look` on one file, and answers what it answered."""
    said = []

    def function(file):
        said.append(look(file))
        return "done"

    work.upload({"run 1/Scan_01.XRDML": CONTENT})
    ended = work.reproduce(function, name="look", **options)
    assert ended.exit_code == 0, ended.failed_files
    return said[0]


@pytest.mark.parametrize("mode", ["memory", "disk", "both"])
def test_the_file_tells_all_of_itself_in_every_mode(work, mode):
    def look(file):
        return {
            "bytestring": file.bytestring == CONTENT and file.bytestring is file.bytestring,
            "filename": file.filename,
            "relative_filepath": file.relative_filepath,
            "subdir_str": file.subdir_str,
            "full_filepath": file.full_filepath,
            "filepath": file.filepath,
            "n_total_chunks": file.n_total_chunks,
            "hash": (file.check_file_hash, file.sha512),
            "size": file.size,
            "mtime": file.mtime,
            "on disk": file.full_filepath.exists(),
        }

    told = one(work, look, mode=mode)
    assert told["bytestring"] is True
    assert (told["filename"], told["subdir_str"]) == ("Scan_01.XRDML", "run 1")
    assert told["relative_filepath"] == pathlib.Path("run 1/Scan_01.XRDML")
    assert told["full_filepath"] == told["filepath"] == work.output_dir / "run 1" / "Scan_01.XRDML"
    assert told["n_total_chunks"] == 4
    assert told["hash"] == (hashlib.sha512(CONTENT).digest(), hashlib.sha512(CONTENT).hexdigest())
    assert told["size"] == len(CONTENT)
    sent = next(work.folder.glob("sent-*")) / "run 1" / "Scan_01.XRDML"
    assert told["mtime"] == pytest.approx(sent.stat().st_mtime, abs=1e-3)
    assert told["on disk"] is (mode != "memory")


@pytest.mark.parametrize("mode", ["memory", "disk", "both"])
def test_path_is_a_real_file_with_its_name_in_every_mode_and_the_same_each_time(local, mode):
    def look(file):
        path = file.path()
        assert path == file.path() and path.is_absolute()
        assert path.name == "Scan_01.XRDML"
        assert path.read_bytes() == CONTENT
        return path

    path = one(local, look, mode=mode)
    assert path.exists() is (mode != "memory")


def test_path_has_a_folder_of_its_own_that_is_gone_after_the_call(local):
    def look(file):
        path = file.path()
        return path, os.listdir(path.parent)

    path, beside = one(local, look)
    assert beside == ["Scan_01.XRDML"]
    assert not path.parent.exists()


def test_path_says_after_the_call_that_the_file_is_gone(local):
    kept = one(local, lambda file: file)
    with pytest.raises(RuntimeError, match="is not on disk any more"):
        kept.path()


def test_the_content_is_a_buffer_that_lives_on_after_the_call(local):
    def look(file):
        view = memoryview(file)
        assert view.readonly and view.nbytes == len(CONTENT) and view.contiguous
        return view

    view = one(local, look)
    gc.collect()
    assert view == CONTENT
    with pytest.raises(TypeError):
        view[0] = 1


def test_a_file_that_nobody_keeps_is_freed(local):
    kept = one(local, weakref.ref)
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_open_gives_a_stream_that_can_seek(local, mode):
    def look(file):
        with file.open() as stream:
            assert stream.read(4) == CONTENT[:4]
            assert stream.seek(-3, os.SEEK_END) == len(CONTENT) - 3
            assert stream.read() == CONTENT[-3:]
            assert stream.seek(10) == 10 and stream.tell() == 10
            return stream.read()

    assert one(local, look, mode=mode) == CONTENT[10:]


def test_an_empty_file_has_everything_too(local):
    said = []
    local.upload({"empty": b""})
    local.process(lambda file: said.append((file.size, file.bytestring, bytes(memoryview(file)), file.open().read(),
                                            file.path().stat().st_size)), name="empty")
    assert said == [(0, b"", b"", b"", 0)]


def test_a_file_larger_than_the_memory_limit_is_read_from_disk(local):
    content = os.urandom(9 << 20)
    local.upload({"large.bin": content})
    said = []
    local.process(lambda file: said.append(hashlib.sha512(file).hexdigest() == file.sha512), name="large", memory_limit="8M")
    assert said == [True]
