//! `datamill watch` where the watched folder has no room for the record.

use std::fs;

use crate::common::{record, wait_until};
use crate::small::Small;

fn a_full_disk_holds_a_watch_until_there_is_room(kafka: bool) {
    let small = Small::new(kafka);
    let watch = small.start();
    wait_until("the first start", || record(&small.watched()).contains("started"));
    // More than there are lines of the record in what is left of its last block.
    for number in 0..60 {
        fs::write(small.watched().join(format!("{number}.csv")), number.to_string()).unwrap();
    }
    small.fill();
    let held = "no further file is sent until the record can be written";
    wait_until("the full disk", || small.said(held) > 0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(small.recorded() < 60);
    small.make_room();
    wait_until("the whole record", || small.recorded() == 60);
    assert_eq!((small.said(held), small.said("is written again: going on")), (1, 1));
    small.end(watch, 60);
}

fn a_watch_that_is_started_on_a_full_disk_waits_for_room(kafka: bool) {
    let small = Small::new(kafka);
    fs::write(small.watched().join("a.csv"), "a").unwrap();
    small.fill();
    small.fill_files();
    let watch = small.start();
    wait_until("the full disk", || small.said("waiting until there is room") > 0);
    small.make_room();
    wait_until("the file", || small.recorded() == 1);
    assert_eq!(small.said("waiting until there is room"), 1);
    small.end(watch, 1);
}

#[test]
fn a_watch_whose_log_has_no_room_either_waits_for_it() {
    let small = Small::new(false);
    fs::write(small.watched().join("a.csv"), "a").unwrap();
    small.take_the_log_in();
    small.fill();
    let watch = small.start();
    wait_until("the full disk", || small.said("waiting until there is room") > 0);
    small.make_room();
    wait_until("the file", || small.recorded() == 1);
    assert_eq!(watch.end(), 0);
}

#[test]
fn a_full_disk_holds_a_watch_until_there_is_room_on_the_embedded_log() {
    a_full_disk_holds_a_watch_until_there_is_room(false);
}

#[test]
fn a_full_disk_holds_a_watch_until_there_is_room_on_kafka() {
    a_full_disk_holds_a_watch_until_there_is_room(true);
}

#[test]
fn a_watch_that_is_started_on_a_full_disk_waits_for_room_on_the_embedded_log() {
    a_watch_that_is_started_on_a_full_disk_waits_for_room(false);
}

#[test]
fn a_watch_that_is_started_on_a_full_disk_waits_for_room_on_kafka() {
    a_watch_that_is_started_on_a_full_disk_waits_for_room(true);
}
