"""Files and folders to a topic and back, by the classes of OpenMSIStream's names, on both logs."""

import subprocess
import sys
import textwrap
import threading
import time
import urllib.request

import pytest
from programs import LONG, results, send

import datamill
from datamill import _engine, _host


def wait_for(condition, what):
    """Waits until the condition holds."""
    until = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < until, f"{what} never came"
        time.sleep(0.05)


def test_a_file_is_sent_under_its_name_or_its_path_below_a_root(log, tmp_path):
    topic, copies = log.topic("files"), log.topic("copies")
    file = tmp_path / "data" / "sub" / "one.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    alone = datamill.UploadDataFile(file)
    assert alone.filename == "one.txt" and not alone.fully_produced
    alone.upload_whole_file(log.config, topic, 2, 4)
    assert alone.fully_produced
    below = datamill.UploadDataFile(file, rootdir=tmp_path / "data", filename_append="_2")
    below.upload_whole_file(config_path=log.config, topic_name=topic, chunk_size=2)
    datamill.UploadDataFile(file, to_upload=False).upload_whole_file(log.config, topic)

    class Copy(datamill.DataFileStreamReproducer):
        def _get_processing_result_message_for_file(self, datafile, lock):
            return datamill.ReproducerMessage(datafile, datafile.bytestring + b" in %d" % datafile.n_total_chunks)

    program = Copy(log.config, topic, copies, output_dir=tmp_path / "out", exit_at_end=True)
    assert program.produce_processing_results_for_files_as_read()[:4] == (5, 5, 2, 2)
    assert results(log, copies) == {"one.txt": "12345 in 2", "sub/one_2.txt": "12345 in 3"}


def test_what_cannot_be_sent_is_named(embedded, tmp_path):
    file = tmp_path / "one.txt"
    file.write_bytes(b"1")
    with pytest.raises(datamill.SetUpError, match="nothing.txt"):
        datamill.UploadDataFile(tmp_path / "nothing.txt").upload_whole_file(embedded.config, "files")
    with pytest.raises(datamill.SetUpError, match="power of two"):
        datamill.UploadDataFile(file).upload_whole_file(embedded.config, "files", chunk_size=3)
    with pytest.raises(datamill.SetUpError, match="other"):
        datamill.UploadDataFile(file, rootdir=tmp_path / "other").upload_whole_file(embedded.config, "files")
    with pytest.raises(datamill.SetUpError, match="not there|cannot"):
        datamill.UploadDataFile(file).upload_whole_file(tmp_path / "nowhere.config", "files")


def test_a_folder_is_watched_and_downloaded_while_both_run_in_threads(log, tmp_path):
    topic = log.topic("files")
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    (source / "sub").mkdir(parents=True)
    (source / "old.txt").write_bytes(b"old")
    sent, got = [], []
    upload = datamill.DataFileUploadDirectory(source, log.config, watchdog_lag_time=0.1, status_listen=0)
    uploading = threading.Thread(
        target=lambda: sent.extend(upload.upload_files_as_added(topic, upload_existing=True)), daemon=True
    )
    uploading.start()
    download = datamill.DataFileDownloadDirectory(mirror, log.config, topic, n_threads=2)
    downloading = threading.Thread(target=lambda: got.append(download.reconstruct()), daemon=True)
    downloading.start()
    wait_for(lambda: (mirror / "old.txt").is_file(), "the file that was there")
    (source / "sub" / "new.txt").write_bytes(b"new")
    wait_for(lambda: (mirror / "sub" / "new.txt").is_file(), "the file that came")
    wait_for(lambda: "2 files sent" in upload.progress_msg, "the upload's own count")
    wait_for(lambda: download.n_processed_files == 2, "the download's own count")
    assert upload.alive and download.alive
    [port] = _engine.status_ports()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG) as metrics:
        assert b'datamill_files_total{outcome="delivered"} 2' in metrics.read()
    upload.close()
    download.close()
    uploading.join(LONG)
    downloading.join(LONG)
    assert sorted(sent) == [source / "old.txt", source / "sub" / "new.txt"]
    assert (mirror / "sub" / "new.txt").read_bytes() == b"new"
    assert got[0][2] == 2 and sorted(map(str, got[0][3])) == ["old.txt", "sub/new.txt"]
    # started again, nothing is sent again
    again = datamill.DataFileUploadDirectory(source, log.config, watchdog_lag_time=0.1, exit_at_end=True)
    assert again.upload_files_as_added(topic) == []


PROGRAMS = textwrap.dedent(
    """
    import sys
    from openmsistream import DataFileDownloadDirectory, DataFileUploadDirectory, UploadDataFile
    globals()[sys.argv.pop(1)].run_from_command_line()
    """
)


def test_the_programs_run_from_their_command_lines(embedded, tmp_path):
    topic = embedded.topic("files")
    (tmp_path / "program.py").write_text(PROGRAMS)
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.txt").write_bytes(b"1")

    def run(*words, text=""):
        command = [sys.executable, "-m", "datamill.openmsistream", "program.py", *map(str, words)]
        options = ["--config", str(embedded.config), "--topic_name", topic]
        return subprocess.Popen(
            [*command, *options], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    upload = run("UploadDataFile", source / "one.txt")
    assert "sent 1 file" in upload.communicate("", timeout=LONG)[1] and upload.returncode == 0
    watch = run("DataFileUploadDirectory", source, "--upload_existing", "--watchdog_lag_time", 0)
    wait_for(lambda: list((source / "LOGS").glob("uploaded_to_*.csv")), "the table")
    download = run("DataFileDownloadDirectory", tmp_path / "mirror")
    wait_for(lambda: (tmp_path / "mirror" / "one.txt").is_file(), "the file")
    for program in (watch, download):
        said = program.communicate("q\n", timeout=LONG)[1]
        assert program.returncode == 0, said


def test_files_go_to_a_store_by_the_engine_itself(embedded, tmp_path):
    topic = embedded.topic("files")
    send(embedded, topic, tmp_path / "data", {"a/one.txt": b"1"})
    store = tmp_path / "store"
    store.mkdir()
    words = [f"--config={embedded.config}", f"--topic_name={topic}", f"--output_dir={tmp_path / 'out'}", "--exit-at-end"]
    engine = _engine.Engine(
        kind="transfer", name="ToStore", arguments=words, code=None, logger=None, target=f"file://{store}"
    )
    assert _host.run(engine).files == 1
    assert (store / topic / "a" / "one.txt").read_bytes() == b"1"
    assert engine.counts()["recent"] == ["a/one.txt"]


def test_a_bucket_without_a_server_is_refused_at_the_start(embedded, tmp_path):
    config = tmp_path / "s3.config"
    config.write_text(embedded.config.read_text() + "\n[s3]\nregion = nowhere\n")
    program = datamill.S3TransferStreamProcessor("Bucket!", config, "files", output_dir=tmp_path / "out", exit_at_end=True)
    with pytest.raises(datamill.SetUpError):
        program.make_stream()
