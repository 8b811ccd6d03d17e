//! The count for downloading workers: the shared folder holds the newest version of each path and nothing
//! else, and what the workers recorded agrees with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use datamill::wire::{hex, sha512};

use crate::check::{Failed, Uploads, Verdict};
use crate::members::Place;

/// Counts. Each path that was sent whole must be there, with the content of its newest version; no file may
/// be there beside these, under a name of a version or left aside; no file failed; and no path may stand in
/// the registry files more often than it was sent.
pub fn check(
    uploads: &Uploads,
    newest: &BTreeMap<String, String>,
    failures: &[Failed],
    place: &Place,
) -> Result<Verdict> {
    let mut there = BTreeMap::new();
    hashes(&place.mirror(), "", &mut there)?;
    let mut verdict = Verdict {
        uploads: uploads.values().sum(),
        versions: uploads.len(),
        results: there.len(),
        failures: failures.len(),
        ..Verdict::default()
    };
    for (path, hash) in newest {
        match there.remove(path) {
            None => {
                verdict.lost += 1;
                verdict.example(format!("`{path}` is not in the folder"));
            }
            // an older version: the newest one has not come yet, or is lost
            Some(other) if other != *hash && uploads.contains_key(&(path.clone(), other.clone())) => {
                verdict.lost += 1;
                verdict.example(format!("`{path}` is an older version"));
            }
            Some(other) if other != *hash => {
                verdict.wrong += 1;
                verdict.example(format!("`{path}` is of no version that was sent"));
            }
            Some(_) => {}
        }
    }
    for path in there.keys() {
        verdict.doubled += 1;
        verdict.example(format!("`{path}` is there beside what was sent"));
    }
    for failed in failures {
        verdict.wrong += 1;
        verdict.example(format!("`{}` counts as failed", failed.version.0));
    }
    registered(uploads, place, &mut verdict)?;
    Ok(verdict)
}

/// The hash of each file in the folder by path, without the folders of the program.
fn hashes(folder: &Path, below: &str, there: &mut BTreeMap<String, String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if below.is_empty() && (name == ".datamill" || name == "LOGS") {
            continue;
        }
        let path = format!("{below}{name}");
        if entry.file_type()?.is_dir() {
            hashes(&entry.path(), &format!("{path}/"), there)?;
        } else {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read `{path}`"))?;
            there.insert(path, hex(&sha512(&bytes)));
        }
    }
    Ok(())
}

/// Compares the registry files of all workers with what was sent. The last rows before a kill may be
/// missing.
fn registered(uploads: &Uploads, place: &Place, verdict: &mut Verdict) -> Result<()> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for ((path, _), count) in uploads {
        *times.entry(path).or_default() += count;
    }
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for worker in fs::read_dir(&place.folder)? {
        let Ok(logs) = fs::read_dir(worker?.path().join("LOGS")) else { continue };
        for table in logs {
            let table = table?.path();
            if !table.file_name().is_some_and(|name| name.to_string_lossy().starts_with("processed_from_")) {
                continue;
            }
            let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_path(&table)?;
            for row in reader.records() {
                *rows.entry(row?.get(1).unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
    let sent: BTreeSet<&str> = times.keys().copied().collect();
    for (path, count) in &rows {
        if !sent.contains(path.as_str()) || *count > times[path.as_str()] {
            verdict.wrong += 1;
            verdict.example(format!("`{path}` stands {count} times in the registry files"));
        }
    }
    verdict.registered = Some(rows.values().sum());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Job;

    fn place(folder: &Path) -> Place {
        let nothing = || folder.join("nothing");
        Place {
            folder: folder.to_owned(),
            config: nothing(),
            datamill: nothing(),
            chaos: nothing(),
            job: Job::Download,
        }
    }

    fn hash(text: &str) -> String {
        hex(&sha512(text.as_bytes()))
    }

    #[test]
    fn what_is_missing_old_foreign_or_left_over_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let version = |path: &str, text: &str| ((path.to_owned(), hash(text)), 1);
        let uploads: Uploads = [version("d/a", "1"), version("d/a", "2"), version("b", "1")].into();
        let newest = BTreeMap::from([("d/a".to_owned(), hash("2")), ("b".to_owned(), hash("1"))]);
        let counts = |failures: &[Failed]| {
            let verdict = check(&uploads, &newest, failures, &place).unwrap();
            (verdict.lost, verdict.doubled, verdict.wrong)
        };
        assert_eq!(counts(&[]), (2, 0, 0));
        fs::create_dir_all(place.mirror().join("d")).unwrap();
        fs::create_dir_all(place.mirror().join(".datamill/aside")).unwrap();
        fs::write(place.mirror().join(".datamill/aside/0"), "half").unwrap();
        let put = |path: &str, text: &str| fs::write(place.mirror().join(path), text).unwrap();
        put("b", "1");
        put("d/a", "1");
        assert_eq!(counts(&[]), (1, 0, 0), "an older version");
        put("d/a", "2");
        assert_eq!(counts(&[]), (0, 0, 0));
        assert_eq!(counts(&[Failed { version: ("b".to_owned(), hash("1")), spans: String::new() }]), (0, 0, 1));
        put("d/a.0123.x", "2");
        assert_eq!(counts(&[]), (0, 1, 0));
        put("b", "torn");
        assert_eq!(counts(&[]), (0, 1, 1));
        put("b", "1");
        fs::remove_file(place.mirror().join("d/a.0123.x")).unwrap();
        let table = folder.path().join("worker/LOGS/processed_from_t_by_g.csv");
        fs::create_dir_all(table.parent().unwrap()).unwrap();
        fs::write(&table, "filename;rel_filepath\nb;b\na;d/a\na;d/a\n").unwrap();
        assert_eq!(counts(&[]), (0, 0, 0));
        fs::write(&table, "filename;rel_filepath\nb;b\nb;b\nx;x\n").unwrap();
        assert_eq!(counts(&[]), (0, 0, 2));
    }
}
