use std::time::Duration;

use datamill_wire::{Chunk, sha512};

use super::super::{Added, Assembler, Budget, Complete, InstanceIds, SpillFolder};
use super::*;
use crate::progress::Progress;

const CONTENT: &[u8] = b"two theta, intensity\n10.0, 312\n10.5, 318\n";
const CHUNK: usize = 16;

/// What a file is made of; the content is cut after every 16 bytes.
struct Upload<'a> {
    filename: &'a str,
    subdir: &'a str,
    content: &'a [u8],
    /// Replaces the bytes of this chunk.
    damaged: Option<(u32, &'a [u8])>,
    spilled: bool,
}

impl Default for Upload<'_> {
    fn default() -> Self {
        Self { filename: "scan.csv", subdir: "monday/series 1", content: CONTENT, damaged: None, spilled: false }
    }
}

struct Folder {
    root: tempfile::TempDir,
    budget: Arc<Budget>,
}

impl Folder {
    fn new() -> Self {
        let folder = Self { root: tempfile::tempdir().unwrap(), budget: Arc::default() };
        std::fs::create_dir(folder.work()).unwrap();
        folder
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn output(&self) -> PathBuf {
        self.root.path().join("output")
    }

    /// Number of files and folders under a folder.
    fn count(folder: &Path) -> usize {
        std::fs::read_dir(folder).map_or(0, |entries| entries.map(|e| 1 + Self::count(&e.unwrap().path())).sum())
    }

    fn verify(&self, upload: &Upload<'_>) -> Result<DownloadDataFile, NotVerified> {
        let file_hash = sha512(upload.content);
        let pieces: Vec<&[u8]> =
            if upload.content.is_empty() { vec![&[]] } else { upload.content.chunks(CHUNK).collect() };
        let spill = SpillFolder::prepare(self.root.path().join("spill")).unwrap();
        let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&self.budget));
        assembler.assign(0, Progress::starting_at(40), 40);
        let mut whole = None;
        for (i, piece) in pieces.iter().enumerate() {
            let index = i as u32 + 1;
            let data = upload.damaged.filter(|(at, _)| *at == index).map_or(*piece, |(_, data)| data);
            let chunk = Chunk {
                filename: upload.filename,
                file_hash: &file_hash,
                chunk_hash: &sha512(piece),
                offset: (i * CHUNK) as u64,
                index,
                total: pieces.len() as u32,
                subdir: upload.subdir,
                filename_append: "",
                data,
                mtime: Some(1_700_000_000.25),
            };
            let (added, written) = assembler.add(0, 40 + i as i64, 1000, &chunk);
            written.unwrap();
            if upload.spilled {
                assembler.spill_down_to(0, &spill).unwrap();
            }
            if let Added::Whole(Complete::Here(file)) = added {
                assembler.finish(&InstanceIds::from_iter([file.info.id]));
                whole = Some(file);
            }
        }
        let topic = SourceTopic { name: "scans".into(), id: "7".into(), by_name: None, own_files: Default::default() };
        DownloadDataFile::verify(&Arc::new(topic), whole.unwrap())
    }
}

fn read(file: &DownloadDataFile) -> Vec<u8> {
    let mut content = Vec::new();
    file.reader().unwrap().read_to_end(&mut content).unwrap();
    content
}

#[test]
fn a_file_tells_what_was_uploaded() {
    let file = Folder::new().verify(&Upload::default()).unwrap();
    assert_eq!(file.relative_path(), "monday/series 1/scan.csv");
    assert_eq!((file.filename(), file.subdirectory()), ("scan.csv", "monday/series 1"));
    assert_eq!((file.size(), file.n_chunks(), file.topic()), (CONTENT.len() as u64, 3, "scans"));
    assert_eq!(*file.sha512(), sha512(CONTENT));
    assert_eq!(file.spans(), [Span { partition: 0, first: 40, last: 42 }]);
    assert_eq!(file.modified(), Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250)));
}

#[test]
fn in_mode_memory_a_file_has_no_path_and_leaves_nothing_on_disk() {
    let folder = Folder::new();
    let mut file = folder.verify(&Upload::default()).unwrap();
    assert_eq!((file.bytes().unwrap(), read(&file).as_slice(), file.path()), (CONTENT, CONTENT, None));
    assert_eq!(folder.budget.whole(), CONTENT.len());
    file.publish(&folder.output()).unwrap();
    drop(file);
    assert_eq!(Folder::count(&folder.output()) + Folder::count(&folder.work()), 0);
    assert_eq!(folder.budget.whole(), 0);
}

#[test]
fn in_modes_disk_and_both_a_file_is_in_a_folder_of_its_own_until_it_is_published() {
    for (keep, spilled) in [(false, false), (true, false), (false, true), (true, true)] {
        let folder = Folder::new();
        let mut file = folder.verify(&Upload { spilled, ..Upload::default() }).unwrap();
        file.place(&folder.work(), keep).unwrap();
        file.place(&folder.work(), keep).unwrap();
        let path = file.path().unwrap().to_owned();
        assert!(path.starts_with(folder.work()) && path.ends_with("scan.csv"), "{}", path.display());
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
        assert_eq!(std::fs::metadata(&path).unwrap().modified().ok(), file.modified());
        assert_eq!((file.bytes().unwrap(), read(&file).as_slice()), (CONTENT, CONTENT));
        let in_memory = if keep && !spilled { CONTENT.len() } else { 0 };
        assert_eq!(folder.budget.whole(), in_memory);

        // the version before is replaced in one step
        let public = folder.output().join("monday/series 1/scan.csv");
        std::fs::create_dir_all(public.parent().unwrap()).unwrap();
        std::fs::write(&public, "the version before").unwrap();
        file.publish(&folder.output()).unwrap();
        assert_eq!(std::fs::read(&public).unwrap(), CONTENT);
        assert_eq!((file.path(), Folder::count(&folder.work())), (None, 0));
        drop(file);
        assert_eq!(std::fs::read(&public).unwrap(), CONTENT);
        assert_eq!(folder.budget.whole() + folder.budget.filling(), 0);
    }
}

#[test]
fn a_file_that_is_not_published_leaves_nothing() {
    let folder = Folder::new();
    let mut file = folder.verify(&Upload::default()).unwrap();
    file.place(&folder.work(), false).unwrap();
    drop(file);
    assert_eq!(Folder::count(&folder.work()), 0);
}

#[test]
fn a_file_is_lent_by_path_until_it_is_taken_back_and_is_never_published() {
    for spilled in [false, true] {
        let folder = Folder::new();
        let mut file = folder.verify(&Upload { spilled, ..Upload::default() }).unwrap();
        let first = file.lend(&folder.work()).unwrap().to_owned();
        assert_eq!((file.lend(&folder.work()).unwrap(), file.path()), (&*first, Some(&*first)));
        assert!(first.ends_with("scan.csv"), "{}", first.display());
        assert_eq!((std::fs::read(&first).unwrap().as_slice(), file.bytes().unwrap()), (CONTENT, CONTENT));
        assert_eq!(std::fs::metadata(&first).unwrap().modified().ok(), file.modified());
        file.take_back();
        assert_eq!((file.path(), Folder::count(&folder.work()), file.bytes().unwrap()), (None, 0, CONTENT));
        let second = file.lend(&folder.work()).unwrap().to_owned();
        assert_ne!(first, second);
        file.publish(&folder.output()).unwrap();
        drop(file);
        assert_eq!(Folder::count(&folder.work()) + Folder::count(&folder.output()), 0);
    }
}

#[test]
fn a_spilled_file_is_mapped_and_goes_with_its_owner() {
    let folder = Folder::new();
    let file = folder.verify(&Upload { spilled: true, ..Upload::default() }).unwrap();
    assert_eq!((file.bytes().unwrap(), read(&file).as_slice(), file.path()), (CONTENT, CONTENT, None));
    assert_eq!(folder.budget.whole(), 0);
    drop(file);
    assert_eq!(Folder::count(&folder.root.path().join("spill")), 0);
}

#[test]
fn an_empty_file_is_a_file() {
    for spilled in [false, true] {
        for keep in [false, true] {
            let folder = Folder::new();
            let mut file = folder.verify(&Upload { content: b"", spilled, ..Upload::default() }).unwrap();
            assert_eq!((file.size(), file.bytes().unwrap(), read(&file).len()), (0, &[][..], 0));
            file.place(&folder.work(), keep).unwrap();
            assert_eq!((file.bytes().unwrap(), read(&file).len()), (&[][..], 0));
            assert_eq!(std::fs::read(file.path().unwrap()).unwrap(), b"");
            file.publish(&folder.output()).unwrap();
            assert_eq!(std::fs::read(folder.output().join(file.relative_path())).unwrap(), b"");
        }
    }
}

#[test]
fn a_reader_seeks_in_memory_and_on_disk() {
    for spilled in [false, true] {
        let folder = Folder::new();
        let file = folder.verify(&Upload { spilled, ..Upload::default() }).unwrap();
        let mut reader = file.reader().unwrap();
        let mut last = String::new();
        reader.seek(io::SeekFrom::End(-10)).unwrap();
        reader.read_to_string(&mut last).unwrap();
        assert_eq!(last, "10.5, 318\n");
        let mut first = [0; 3];
        assert_eq!(reader.seek(io::SeekFrom::Start(0)).unwrap(), 0);
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"two");
    }
}

#[test]
fn a_wrong_hash_names_the_chunk_that_is_wrong() {
    for spilled in [false, true] {
        let folder = Folder::new();
        let damaged = Some((2, &b"0123456789abcdef"[..]));
        let error = folder.verify(&Upload { damaged, spilled, ..Upload::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the SHA-512 of the rebuilt file differs from the uploader's; chunk 2 of 3 does not agree with its own hash"
        );
        // with the file as it arrived
        drop(error);
        assert_eq!(folder.budget.whole(), 0);
    }
}

#[test]
fn a_short_last_chunk_is_a_wrong_hash_and_a_short_one_before_a_hole() {
    let verify = |damaged| Folder::new().verify(&Upload { damaged: Some(damaged), ..Upload::default() });
    assert!(matches!(verify((3, b"10")), Err(NotVerified::Mismatch(..))));
    assert!(matches!(verify((2, b"short")), Err(NotVerified::Hole)));
}

#[test]
fn a_name_that_is_too_long_is_an_error_of_its_kind_and_keeps_the_content() {
    let filename = "x".repeat(300);
    for spilled in [false, true] {
        let folder = Folder::new();
        let mut file = folder.verify(&Upload { filename: &filename, spilled, ..Upload::default() }).unwrap();
        let error = file.place(&folder.work(), true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidFilename, "{error}");
        assert_eq!((file.path(), file.bytes().unwrap()), (None, CONTENT));
        assert_eq!(Folder::count(&folder.work()), 0);
    }
}

#[test]
fn a_folder_name_that_is_too_long_is_an_error_of_its_kind_when_the_file_is_published() {
    let subdir = "x".repeat(300);
    let folder = Folder::new();
    let mut file = folder.verify(&Upload { subdir: &subdir, ..Upload::default() }).unwrap();
    file.place(&folder.work(), true).unwrap();
    let error = file.publish(&folder.output()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidFilename, "{error}");
}
