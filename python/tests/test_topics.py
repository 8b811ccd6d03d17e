"""Sending files and reading messages from Python."""

from __future__ import annotations

import pytest

import datamill


def test_what_is_sent_can_be_read(work):
    sent = work.upload({"a.txt": b"x" * 10, "b/c.txt": b"y"})
    assert (sent.files, sent.messages, sent.size) == (2, 2, 11)
    assert "sent 2 files" in str(sent)
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
    with pytest.raises(datamill.RunError) as raised:
        datamill.upload(tmp_path / "empty", work.files, config=work.log.config)
    assert raised.value.exit_code == 1
    with pytest.raises(ValueError):
        datamill.upload(tmp_path, work.files, config=work.log.config, upload_regex="(")


def test_what_cannot_be_read_is_an_error_that_says_so(work, tmp_path):
    work.upload({"a": b"x"})
    with pytest.raises(datamill.SetUpError, match="no-such-topic"):
        datamill.read("no-such-topic", config=work.log.config)
    (tmp_path / "other.config").write_text("[broker]\nbootstrap.servers = sqlite:other.db\n")
    with pytest.raises(datamill.SetUpError, match="no program has used it yet"):
        datamill.read("files", config=tmp_path / "other.config")
