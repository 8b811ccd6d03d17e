//! What `datamill watch` could not send, and can later: it is sent, and no longer on the list of what was not.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::common::{Place, Running, record, wait_until};
use crate::small::Small;

/// A user who has no rights of its own. Nothing is unreadable for root.
const NOBODY: u32 = 65_534;

#[test]
fn a_folder_that_can_be_read_again_is_sent_and_leaves_the_list() {
    let place = Place::new();
    place.write("in/sub/late.csv", b"late");
    place.write("in/ok.csv", b"ok");
    for path in ["", "in", "in/sub", "in/sub/late.csv", "in/ok.csv"] {
        chown(place.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::set_permissions(place.path("in/sub"), Permissions::from_mode(0o000)).unwrap();
    // The folder of the build may be closed to others.
    fs::copy(env!("CARGO_BIN_EXE_datamill"), place.path("datamill")).unwrap();
    let messages = place.path("messages.txt");
    let watch = Command::new(place.path("datamill"))
        .args(["watch", "in", "--topic_name", "t", "--upload_existing", "--watchdog_lag_time", "0.1"])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&messages).unwrap())
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn();
    let watch = Running(watch.expect("the tests need to be root, to run a program as another user"));
    let said = || fs::read_to_string(&messages).unwrap();
    wait_until("the folder is named", || said().contains("`sub/`") || said().contains("file=sub/"));
    wait_until("the other file", || record(&place.path("in")).contains("ok.csv"));
    assert!(!said().contains("by scans alone"), "the other folders are watched: {}", said());
    fs::set_permissions(place.path("in/sub"), Permissions::from_mode(0o755)).unwrap();
    wait_until("its file", || record(&place.path("in")).contains("sub/late.csv"));
    assert_eq!(watch.end(), 0, "{}", said());
    assert!(said().contains("sent 2 files"), "{}", said());
    assert!(!said().contains("\nnot sent: "), "{}", said());
    assert!(!said().contains("[\""), "no debug form: {}", said());
}

#[test]
fn a_file_whose_size_was_wrong_leaves_the_list_once_it_is_sent_or_gone() {
    for is_sent in [true, false] {
        let small = Small::new(false);
        // The kernel's own files are the only ones at hand whose size is not that of their bytes.
        small.shell("touch in/x && mount --bind /sys/class/net/lo/address in/x");
        let watch = small.start();
        wait_until("it is named", || small.said("only `18` can be read") > 0);
        small.shell("umount in/x");
        if is_sent {
            fs::write(small.watched().join("x"), "of its true size").unwrap();
            wait_until("the file", || small.recorded() == 1);
        } else {
            fs::remove_file(small.watched().join("x")).unwrap();
            fs::write(small.watched().join("y"), "another").unwrap();
            wait_until("the other file", || small.recorded() == 1);
            // The next look at the whole folder finds that it is gone.
            std::thread::sleep(std::time::Duration::from_secs(20));
        }
        small.end(watch, 1);
        assert_eq!(small.said("\nnot sent: "), 0);
    }
}
