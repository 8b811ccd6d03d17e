use std::path::Path;

use super::*;

fn options(folder: &Path, kind: LedgerKind) -> LedgerOptions {
    LedgerOptions { output_dir: folder.to_owned(), topic: "raw".into(), group: "lab".into(), kind }
}

fn reproducer(folder: &Path) -> Ledger {
    Ledger::open(options(folder, LedgerKind::Reproducer { result_topic: "meta".into() })).unwrap()
}

fn file(rel_filepath: &str) -> FileRow {
    FileRow {
        rel_filepath: rel_filepath.into(),
        n_chunks: 3,
        first_message_ms: 1_700_000_000_000,
        most_recent_message_ms: 1_700_000_060_000,
        sha512: "ab".repeat(64),
        offsets: "0:1-3".into(),
    }
}

fn filling(row: FileRow) -> Arc<[FillingFile]> {
    Arc::new([FillingFile { row, there: 1, bytes: 10, ..FillingFile::default() }])
}

fn table(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join("LOGS").join(name)).unwrap()
}

const TABLE: &str = "consuming_from_raw_in_progress_by_lab.csv";
const TABLE_HEADER: &str = "filename;rel_filepath;status;n_chunks;first_message;most_recent_message\n";

#[test]
fn tables_have_the_names_and_columns_of_openmsistream() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = reproducer(folder.path());
    ledger.completed(&file("sub/a;b.txt"), 1_700_000_120_000);
    ledger.failed(
        &file("root.txt"),
        FailureStatus::ComputingResultMessageFailed,
        "no \"header\"\nat all",
        1_700_000_120_000,
    );
    ledger.set_filling(&filling(file("sub/filling.txt")));
    ledger.flush();
    let (first, recent, done) = (
        clock::local_time_text(1_700_000_000_000),
        clock::local_time_text(1_700_000_060_000),
        clock::local_time_text(1_700_000_120_000),
    );
    assert_eq!(
        table(folder.path(), "results_produced_to_meta.csv"),
        format!(
            "filename;rel_filepath;n_chunks;first_message;processed_at\n\"a;b.txt\";\"sub/a;b.txt\";3;{first};{done}\n"
        )
    );
    let sha512 = "ab".repeat(64);
    assert_eq!(
        table(folder.path(), "failed_from_raw_by_lab.csv"),
        format!(
            "time;rel_filepath;sha512;status;reason;offsets\n{done};root.txt;{sha512};computing_result_message_failed;\"no \"\"header\"\"\nat all\";0:1-3\n"
        )
    );
    assert_eq!(
        table(folder.path(), TABLE),
        format!(
            "{TABLE_HEADER}root.txt;root.txt;computing_result_message_failed;3;{first};{recent}\nfilling.txt;sub/filling.txt;in_progress;3;{first};{recent}\n"
        )
    );
}

#[test]
fn a_processor_has_its_table_by_topic_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(options(folder.path(), LedgerKind::Processor)).unwrap();
    ledger.completed(&file("a.txt"), 0);
    ledger.tick();
    assert_eq!(table(folder.path(), "processed_from_raw_by_lab.csv").lines().count(), 2);
}

#[test]
fn failed_files_survive_a_restart_and_filling_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = reproducer(folder.path());
    ledger.failed(&file("a;\"\n.txt"), FailureStatus::MismatchedHash, "", 0);
    ledger.failed(&file("b.txt"), FailureStatus::ProducingMessageFailed, "", 0);
    ledger.set_filling(&filling(file("c.txt")));
    ledger.flush();
    let before = table(folder.path(), TABLE);
    drop(ledger);

    let mut ledger = reproducer(folder.path());
    let failed: Vec<_> = ledger.failed_files().collect();
    assert_eq!(failed, [("a;\"\n.txt", "mismatched_hash"), ("b.txt", "producing_message_failed")]);
    ledger.tick();
    let after = table(folder.path(), TABLE);
    assert!(before.starts_with(&after) && !after.contains("c.txt"), "{after}");
    ledger.cleared("b.txt");
    ledger.cleared("never.txt");
    ledger.flush();
    assert!(!table(folder.path(), TABLE).contains("b.txt"));
}

#[test]
fn a_damaged_table_does_not_stop_the_program() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("LOGS")).unwrap();
    fs::write(folder.path().join("LOGS").join(TABLE), b"\x00\xff").unwrap();
    let mut ledger = reproducer(folder.path());
    ledger.flush();
    assert_eq!(table(folder.path(), TABLE), TABLE_HEADER);
    let aside = fs::read_dir(folder.path().join("LOGS")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(aside.into_iter().any(|name| { name.to_string_lossy().starts_with(&format!("{TABLE}.damaged-")) }));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("LOGS"), "in the way").unwrap();
    let error = Ledger::open(options(folder.path(), LedgerKind::Processor)).err().unwrap().to_string();
    assert!(error.contains("LOGS`"), "{error}");
}

#[test]
fn twenty_thousand_files_cost_well_under_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = reproducer(folder.path());
    let start = Instant::now();
    for number in 0..20_000 {
        let row = file(&format!("folder {}/file {number}.xrdml", number % 200));
        ledger.completed(&row, 1_700_000_000_000 + number);
        if number % 100 == 0 {
            ledger.set_filling(&filling(row));
            ledger.tick();
        }
    }
    ledger.flush();
    let took = start.elapsed();
    assert_eq!(table(folder.path(), "results_produced_to_meta.csv").lines().count(), 20_001);
    println!("20,000 files: {took:?}");
    assert!(took.as_millis() < 700, "{took:?}");
}
