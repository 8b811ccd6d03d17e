//! The engine over both logs with code that needs a path, or asks for one, in each mode.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{Bench, Place, chunks, content, on_both_logs};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::process::{Access, Call, Clock, Needs, ReproducerMessage, UserCode};
use parking_lot::Mutex;

on_both_logs! {
    code_that_needs_a_path_has_one_in_each_mode,
    a_path_can_be_asked_for_in_each_mode,
    each_attempt_has_a_path_of_its_own_and_all_are_gone_afterwards,
    a_name_that_no_file_can_have_fails_its_file_at_once,
    code_that_needs_bytes_has_them_in_memory_in_each_mode,
    a_path_is_absolute_where_the_output_folder_is_not,
    a_file_can_have_its_public_name_while_the_code_runs,
    a_file_that_is_tried_again_does_not_take_the_name_of_a_later_version,
}

/// Files by path: one that stays in memory, one that fills up on disk, and an empty one.
fn files() -> BTreeMap<String, Vec<u8>> {
    let names = [("run 1/Scan 7.XRDML", 3000), ("large.Dm3", 400_000), ("empty", 0)];
    names.map(|(path, len)| (path.to_owned(), content(len as u64, len))).into()
}

fn send(bench: &Bench, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        bench.send(&chunks(0, path, bytes, 4096));
    }
}

/// Everything below a folder that is a file.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// Answers with the file as it is on disk.
fn answer(file: &DownloadDataFile, path: &Path) -> ReproducerMessage {
    assert_eq!(path.file_name().unwrap(), file.filename());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the folder is the file's own");
    assert!(path.components().any(|part| part.as_os_str() == ".datamill"), "it is not public yet");
    let content = fs::read(path).unwrap();
    assert!(file.bytes().unwrap() == content);
    ReproducerMessage::new(content)
}

fn check(place: &Place, code: impl Fn() -> UserCode) {
    for mode in [Mode::Memory, Mode::Disk, Mode::Both] {
        let bench = Bench::new(place, 1);
        let files = files();
        send(&bench, &files);
        let mut settings = bench.settings();
        (settings.mode, settings.memory_limit) = (mode, 600_000);
        let summary = bench.run_code(&settings, code()).unwrap();
        assert_eq!((summary.succeeded, summary.failed), (3, 0), "{mode:?}");
        let results: BTreeMap<_, _> =
            bench.read_results().into_iter().map(|r| (r.path().to_owned(), r.value)).collect();
        assert!(results == files, "{mode:?}");
        let work = below(&bench.output().join(".datamill/work"));
        assert!(work.is_empty(), "{mode:?}: {work:?}");
        for (path, bytes) in &files {
            let public = fs::read(bench.output().join(path)).ok();
            assert_eq!(public.as_ref(), Some(bytes).filter(|_| mode != Mode::Memory), "{mode:?}: {path}");
        }
    }
}

fn code_that_needs_a_path_has_one_in_each_mode(place: &Place) {
    check(place, || {
        UserCode::function(Needs::new(Access::Path, Clock::AtOnce), |file, _| {
            Ok(Some(answer(file, file.path().ok_or("no path")?)))
        })
    });
}

fn a_path_can_be_asked_for_in_each_mode(place: &Place) {
    for access in [Access::Bytes, Access::Either] {
        check(place, || {
            UserCode::function(Needs::new(access, Clock::AtOnce), |file, call| {
                let (one, other) = std::thread::scope(|scope| {
                    let asked = scope.spawn(|| call.path(file));
                    (call.path(file), asked.join().unwrap())
                });
                assert_eq!(one.as_ref().ok(), other.as_ref().ok(), "whoever asks, it is one file");
                Ok(Some(answer(file, one?)))
            })
        });
    }
}

fn each_attempt_has_a_path_of_its_own_and_all_are_gone_afterwards(place: &Place) {
    for access in [Access::Path, Access::Either] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "a.csv", b"abc", 10));
        let mut settings = bench.settings();
        settings.max_attempts = 3;
        let seen: Arc<Mutex<Vec<PathBuf>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let run = move |file: &DownloadDataFile, call: &Call<'_>| {
            let path = call.path(file)?;
            assert!(noted.lock().iter().all(|before| !before.exists()), "that of the attempt before is gone");
            assert_eq!(fs::read(path)?, b"abc");
            noted.lock().push(path.to_owned());
            match call.attempt() {
                1 => Err("not yet".into()),
                2 => panic!("nor now"),
                _ => Ok(Some(ReproducerMessage::new("done"))),
            }
        };
        let summary = bench.run_code(&settings, UserCode::function(Needs::new(access, Clock::AtOnce), run)).unwrap();
        assert_eq!((summary.succeeded, summary.failed), (1, 0));
        let seen = seen.lock();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|path| !path.exists() && !path.parent().unwrap().exists()), "{seen:?}");
        assert!(!bench.output().join("a.csv").exists());
    }
}

fn a_name_that_no_file_can_have_fails_its_file_at_once(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, &"x".repeat(300), b"abc", 10));
    bench.send(&chunks(0, "good", b"abc", 10));
    let mut settings = bench.settings();
    settings.max_attempts = 3;
    let code = UserCode::function(Needs::new(Access::Path, Clock::AtOnce), |file, _| {
        assert_eq!(file.filename(), "good");
        Ok(Some(ReproducerMessage::new("done")))
    });
    let summary = bench.run_code(&settings, code).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (1, 1));
    let state = bench.log.group_state(&bench.group).unwrap();
    let text =
        String::from_utf8_lossy(state.iter().find(|(key, _)| key.starts_with("failed/")).unwrap().1).into_owned();
    assert!(text.contains("cannot be written under this name") && text.contains(r#""attempts":0"#), "{text}");
}

fn code_that_needs_bytes_has_them_in_memory_in_each_mode(place: &Place) {
    for mode in [Mode::Memory, Mode::Disk, Mode::Both] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "a.csv", b"abc", 10));
        let mut settings = bench.settings();
        settings.mode = mode;
        let code = UserCode::function(Needs::new(Access::Bytes, Clock::AtOnce), move |file, _| {
            let Some(path) = file.path() else { return Ok(Some(ReproducerMessage::new(file.bytes()?))) };
            // what is not there for the moment cannot be read from there
            let aside = path.with_extension("aside");
            fs::rename(path, &aside)?;
            let bytes = file.bytes().map(<[u8]>::to_vec);
            fs::rename(&aside, path)?;
            Ok(Some(ReproducerMessage::new(bytes?)))
        });
        let summary = bench.run_code(&settings, code).unwrap();
        assert_eq!((summary.succeeded, summary.failed), (1, 0), "{mode:?}");
        assert_eq!(bench.read_results()[0].value, b"abc");
        assert_eq!(bench.output().join("a.csv").exists(), mode != Mode::Memory);
    }
}

fn a_path_is_absolute_where_the_output_folder_is_not(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a.csv", b"abc", 10));
    let here = std::env::current_dir().unwrap();
    let root: PathBuf = here.components().skip(1).map(|_| "..").collect();
    for mode in [Mode::Memory, Mode::Disk] {
        let mut settings = bench.settings();
        settings.mode = mode;
        settings.group = format!("{}-{mode:?}", bench.group);
        settings.output_dir = root.join(bench.output().strip_prefix("/").unwrap());
        let code = UserCode::function(Needs::default(), |file, call| {
            let path = call.path(file)?;
            Ok(Some(ReproducerMessage::new(format!("{} {}", path.is_absolute(), path.exists()))))
        });
        bench.run_code(&settings, code).unwrap();
    }
    let answers: Vec<_> = bench.read_results().into_iter().map(|result| result.value).collect();
    assert_eq!(answers, [b"true true", b"true true"]);
}

/// Code that fails for these bytes, and looks for its file in the output folder.
fn looks_in(bench: &Bench, bad: &'static [u8], is_public: bool) -> UserCode {
    let output = std::path::absolute(bench.output()).unwrap();
    UserCode::function(Needs::default().with_public_names(), move |file, call| {
        let bytes = file.bytes()?.to_vec();
        if let Some(path) = file.path() {
            let public = output.join(file.relative_path());
            assert_eq!(fs::read(&public)? == bytes, is_public, "its public name is that of the version in hand");
            assert_eq!(path == public, is_public);
            assert_eq!((fs::read(path)?, call.path(file)?), (bytes.clone(), path));
        }
        if bytes == bad { Err("bad".into()) } else { Ok(Some(ReproducerMessage::new(bytes))) }
    })
}

fn a_file_can_have_its_public_name_while_the_code_runs(place: &Place) {
    for mode in [Mode::Memory, Mode::Disk, Mode::Both] {
        let bench = Bench::new(place, 1);
        let versions: Vec<Vec<u8>> = (0..20).map(|version| content(version, 5000)).collect();
        for bytes in &versions {
            bench.send(&chunks(0, "run 1/a.csv", bytes, 4096));
        }
        let mut settings = bench.settings();
        settings.mode = mode;
        let summary = bench.run_code(&settings, looks_in(&bench, b"", true)).unwrap();
        assert_eq!((summary.succeeded, summary.failed), (20, 0), "{mode:?}");
        let public = fs::read(bench.output().join("run 1/a.csv")).ok();
        assert_eq!(public.as_ref(), versions.last().filter(|_| mode != Mode::Memory), "{mode:?}");
        assert!(below(&bench.output().join(".datamill/work")).is_empty(), "{mode:?}");
    }
}

fn a_file_that_is_tried_again_does_not_take_the_name_of_a_later_version(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a.csv", b"old", 10));
    bench.send(&chunks(0, "a.csv", b"new", 10));
    let mut settings = bench.settings();
    (settings.mode, settings.max_attempts) = (Mode::Disk, 1);
    let summary = bench.run_code(&settings, looks_in(&bench, b"old", true)).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (1, 1));
    let summary = bench.run_code(&settings, looks_in(&bench, b"", false)).unwrap();
    assert_eq!((summary.succeeded, summary.retried), (1, 1));
    assert_eq!(fs::read(bench.output().join("a.csv")).unwrap(), b"new");
}
