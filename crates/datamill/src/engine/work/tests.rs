use super::*;
use crate::assemble::testing::whole;

fn queue(sizes: &[usize]) -> Queue {
    let files = sizes.iter().enumerate().map(|(i, size)| whole(&i.to_string(), &vec![i as u8; *size]));
    Queue { ready: files.collect(), waiting: sizes.len(), ..Queue::default() }
}

fn waiting(queue: &Queue) -> Vec<&str> {
    queue.ready.iter().map(|file| &*file.info.version.path).collect()
}

#[test]
fn small_files_are_hashed_with_the_one_before_them_and_wait_on_in_their_order() {
    let mut queue = queue(&[10, 3_000, 0, 128, 7]);
    let first = queue.take().unwrap();
    let others = queue.take_others(&first).unwrap();
    assert_eq!((queue.waiting, queue.running), (1, 4));
    let [a, b, c] = &others;
    WholeFile::hash_four([&first, a, b, c]);
    queue.give_back(others);
    assert_eq!((queue.waiting, queue.running), (4, 1));
    assert_eq!(waiting(&queue), ["1", "2", "3", "4"]);
    let next = queue.take().unwrap();
    assert!(queue.take_others(&next).is_none(), "it is hashed already");
    let topic = Arc::new(SourceTopic {
        name: "files".into(),
        id: "files of this log".into(),
        by_name: None,
        own_files: Default::default(),
    });
    for file in [first, next].into_iter().chain(std::iter::from_fn(|| queue.take())) {
        let path = Arc::clone(&file.info.version.path);
        assert!(DownloadDataFile::verify(&topic, file).is_ok(), "{path}");
    }
}

#[test]
fn files_are_hashed_alone_where_fewer_than_four_are_small() {
    for sizes in [&[10, 10, 10][..], &[10, 10, 100_000, 10, 10], &[100_000, 10, 10, 10]] {
        let mut queue = queue(sizes);
        let first = queue.take().unwrap();
        assert!(queue.take_others(&first).is_none(), "{sizes:?}");
        assert_eq!((queue.waiting, queue.running), (sizes.len() - 1, 1));
    }
}

#[test]
fn after_a_stop_no_file_comes_back() {
    let mut queue = queue(&[10, 10, 10, 10]);
    let first = queue.take().unwrap();
    let others = queue.take_others(&first).unwrap();
    queue.stopping = true;
    queue.give_back(others);
    assert_eq!((queue.waiting, queue.running, queue.ready.len()), (0, 1, 0), "only the one in hand is waited for");
}
