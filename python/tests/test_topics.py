"""Sending files and reading messages from Python."""

from __future__ import annotations

import pytest

import datamill

from work import until


def test_what_is_sent_can_be_read(work):
    sent = work.upload({"a.txt": b"x" * 10, "b/c.txt": b"y"})
    assert (sent.files, sent.messages, sent.size) == (2, 2, 11)
    assert "sent 2 files" in str(sent)
    with (work.folder / "d.txt").open("wb") as file:
        file.write(b"z")
    assert datamill.upload(bytes(work.folder / "d.txt"), work.log.topic("one"), config=work.log.config).files == 1
    messages = list(datamill.read(work.files, config=work.log.config))
    assert len(messages) == 2
    assert {message.topic for message in messages} == {work.files}
    assert all(message.value and message.timestamp > 1.7e9 and message.path is None for message in messages)


def test_reading_begins_where_it_is_told_to(local):
    local.upload({f"{n}": b"x" for n in range(5)})
    local.reproduce(lambda file: file.filename, name="names")

    def offsets(**options):
        return [message.offset for message in datamill.read(local.results, config=local.log.config, **options)]

    assert offsets() == [0, 1, 2, 3, 4]
    assert offsets(offset=3) == [3, 4]
    assert offsets(offset=-2) == [3, 4]
    assert offsets(offset=99) == []


def test_following_waits_for_what_comes(local):
    local.upload({"a": b"x"})
    messages = datamill.read(local.files, config=local.log.config, follow=True)
    assert next(messages).offset == 0
    local.upload({"b": b"x"})
    assert next(messages).offset == 1


def test_what_cannot_be_sent_is_an_error_that_says_so(work, tmp_path):
    with pytest.raises(datamill.SetUpError, match="nowhere"):
        datamill.upload(tmp_path / "nowhere", work.files, config=work.log.config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(datamill.RunError, match="found no file to send: check the paths") as raised:
        datamill.upload(tmp_path / "empty", work.files, config=work.log.config)
    assert raised.value.exit_code == 1
    with pytest.raises(datamill.SetUpError, match="not provided: `topic`$"):
        datamill.upload(tmp_path, None, config=work.log.config)
    with pytest.raises(datamill.SetUpError, match="the value of `upload_regex` cannot be used"):
        datamill.upload(tmp_path, work.files, config=work.log.config, upload_regex="(")
    with pytest.raises(datamill.SetUpError, match="`chunk_size`.*power of two"):
        datamill.upload(tmp_path, work.files, config=work.log.config, chunk_size=3)
    with pytest.raises(datamill.RunError, match="nothing to send"):
        datamill.upload([], work.files, config=work.log.config)


def test_options_of_the_command_are_keywords_and_a_mistyped_one_is_named_with_the_nearest(local, tmp_path, capfd):
    (tmp_path / "a").write_bytes(b"x")
    sent = datamill.upload(
        tmp_path / "a", local.files, config=local.log.config, queue_max_size=1, logger_stream_level="error"
    )
    assert (sent.exit_code, sent.files) == (0, 1)
    with pytest.raises(TypeError, match="upload\\(\\) has no option `chunksize`: did you mean `chunk_size`"):
        datamill.upload(tmp_path / "a", local.files, chunksize=4)
    with pytest.raises(TypeError, match="read\\(\\) has no option `folow`: did you mean `follow`"):
        datamill.read(local.files, folow=True)
    with pytest.raises(TypeError, match="UploadDataFile\\(\\) has no option `root_dir`: did you mean `rootdir`"):
        datamill.UploadDataFile(tmp_path / "a", root_dir=tmp_path)


@pytest.mark.parametrize("again", [None, 1, 4])
def test_a_topic_that_is_deleted_or_created_again_while_it_is_followed_ends_the_reading(work, again):
    work.upload({"a": b"x"})
    messages = datamill.read(work.files, config=work.log.config, follow=True)
    assert next(messages).offset == 0
    work.log.program("topic", "delete", work.files, "--yes")
    if again:
        until(lambda: work.log.tries("topic", "create", work.files, "--partitions", str(again)), "the new topic")
    with pytest.raises(datamill.RunError, match=f"topic `{work.files}` was deleted") as raised:
        next(messages)
    assert "--" not in str(raised.value)
    if again:
        work.upload({"b": b"x"})
        assert [message.offset for message in datamill.read(work.files, config=work.log.config)] == [0]


def test_what_cannot_be_read_is_an_error_that_says_so(work, tmp_path):
    work.upload({"a": b"x"})
    with pytest.raises(datamill.SetUpError, match="no-such-topic"):
        datamill.read("no-such-topic", config=work.log.config)
    (tmp_path / "other.config").write_text("[broker]\nbootstrap.servers = sqlite:other.db\n")
    with pytest.raises(datamill.SetUpError, match="no program has used it yet"):
        datamill.read("files", config=tmp_path / "other.config")
