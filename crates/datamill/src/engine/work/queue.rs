//! The files that wait for a worker, and what the workers are at.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::assemble::{FileInfo, InstanceId, WholeFile};
use crate::engine::in_hand::{HandSlot, InHand};
use crate::facts::Hold;
use crate::process::Watch;

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<WholeFile>,
    /// Files that run before all others, each while nothing else does.
    pub(super) alone: VecDeque<WholeFile>,
    /// One of them is with a worker.
    pub(super) runs_alone: bool,
    /// No file is taken up: it is not known yet which of them run alone.
    pub(super) held: bool,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// Files that wait for another one of their path; a key is there while a file of it is ready or runs.
    pub(super) behind: HashMap<Arc<str>, VecDeque<WholeFile>>,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) stopping: bool,
    /// What is not available, and when that is looked at again.
    pub(super) unavailable: Option<(Instant, Hold)>,
    /// Runs of user code, where their time is limited.
    pub(super) calls: HashMap<Place, Running>,
    /// Workers that were given up and whose user code still runs.
    pub(super) given_up: HashSet<usize>,
    /// Workers that have started.
    pub(super) started: usize,
    /// Workers that are being stopped.
    pub(super) ending: usize,
}

/// The number of a worker, and which of its files.
pub(super) type Place = (usize, usize);

/// One run of user code.
pub(super) struct Running {
    pub(super) watch: Arc<Watch>,
    pub(super) info: Arc<FileInfo>,
    pub(super) attempt: u32,
    pub(super) slot: Option<Arc<HandSlot>>,
}

impl Queue {
    /// Takes a file in.
    pub(super) fn submit(&mut self, file: WholeFile) {
        self.waiting += 1;
        let path = Arc::clone(&file.info.version.path);
        match self.behind.get_mut(&path) {
            Some(behind) => behind.push_back(file),
            None => {
                self.behind.insert(path, VecDeque::new());
                self.make_ready(file);
            }
        }
    }

    fn make_ready(&mut self, file: WholeFile) {
        if self.is_to_run_alone(&file) { self.alone.push_back(file) } else { self.ready.push_back(file) }
    }

    fn is_to_run_alone(&self, file: &WholeFile) -> bool {
        let in_hand = self.in_hand.as_ref();
        in_hand.is_some_and(|in_hand| in_hand.deaths(&file.info, file.failed_before).is_some())
    }

    /// Looks again which files run alone.
    pub(super) fn sort_out(&mut self) {
        std::mem::take(&mut self.ready).into_iter().for_each(|file| self.make_ready(file));
    }

    /// The next file, for a worker.
    pub(super) fn take(&mut self) -> Option<WholeFile> {
        if self.held || self.runs_alone || !self.alone.is_empty() && self.running > 0 {
            return None;
        }
        self.runs_alone = !self.alone.is_empty();
        let file = if self.runs_alone { self.alone.pop_front() } else { self.ready.pop_front() }?;
        self.waiting -= 1;
        self.running += 1;
        Some(file)
    }

    /// The small files behind this one, where a worker takes up to `most` together. They count as running.
    pub(super) fn take_more(&mut self, first: &WholeFile, most: usize) -> Vec<WholeFile> {
        let is_fit = |file: &WholeFile| file.is_small() && !file.failed_before;
        let mut more = Vec::new();
        if self.runs_alone || self.unavailable.is_some() || !is_fit(first) {
            return more;
        }
        while more.len() + 1 < most
            && self.alone.is_empty()
            && self.ready.front().is_some_and(is_fit)
            && let Some(file) = self.take()
        {
            more.push(file);
        }
        more
    }

    /// The three files behind this one, where all four are to be hashed together. They count as running.
    pub(super) fn take_others(&mut self, file: &WholeFile) -> Option<[WholeFile; 3]> {
        if !file.is_small() || self.ready.len() < 3 || !self.ready.range(..3).all(WholeFile::is_small) {
            return None;
        }
        // where files run alone there are none
        let [a, b, c] = [self.take(), self.take(), self.take()];
        Some([a?, b?, c?])
    }

    /// Files that wait again, before all others. After a stop nobody would take them up.
    pub(super) fn give_back(&mut self, files: [WholeFile; 3]) {
        self.running -= files.len();
        if !self.stopping {
            self.waiting += files.len();
            files.into_iter().rev().for_each(|file| match self.is_to_run_alone(&file) {
                true => self.alone.push_front(file),
                false => self.ready.push_front(file),
            });
        }
    }

    /// The file of this path is with no worker any more.
    pub(super) fn end(&mut self, path: &Arc<str>) {
        self.running -= 1;
        self.runs_alone = false;
        self.advance(path);
    }

    /// The run of user code is given up, and with it its worker.
    pub(super) fn give_up(&mut self, number: usize, call: &Running) {
        call.watch.give_up();
        self.given_up.insert(number);
        self.end(&call.info.version.path);
    }

    /// Gives up the calls that are overdue, and those that have not begun, if any is overdue. Answers the first: what
    /// begins meanwhile is none of them.
    pub(super) fn end_overdue(&mut self) -> Vec<Running> {
        let overdue: Vec<_> = self.calls.extract_if(|_, call| call.watch.is_overdue()).collect();
        if !overdue.is_empty() {
            let waiting: Vec<_> = self.calls.extract_if(|_, call| !call.watch.has_begun()).collect();
            waiting.iter().for_each(|((number, _), call)| self.give_up(*number, call));
        }
        overdue.iter().for_each(|((number, _), call)| self.give_up(*number, call));
        overdue.into_iter().map(|(_, call)| call).collect()
    }

    /// The path has no file ready or running any more: the next one's turn.
    fn advance(&mut self, path: &Arc<str>) {
        let Some(next) = self.behind.get_mut(path) else { return };
        match next.pop_front() {
            Some(file) => self.make_ready(file),
            None => {
                self.behind.remove(path);
            }
        }
    }

    /// Drops the files that no worker has taken up and that `drop` names.
    pub(super) fn cancel(&mut self, drop: impl Fn(InstanceId) -> bool) {
        for behind in self.behind.values_mut() {
            behind.retain(|file| !drop(file.info.id));
        }
        let mut paths = HashSet::new();
        let mut is_kept = |file: &WholeFile| {
            let is_dropped = drop(file.info.id);
            if is_dropped {
                paths.insert(Arc::clone(&file.info.version.path));
            }
            !is_dropped
        };
        self.ready.retain(&mut is_kept);
        self.alone.retain(&mut is_kept);
        for path in &paths {
            self.advance(path);
        }
        self.waiting = self.ready.len() + self.alone.len() + self.behind.values().map(VecDeque::len).sum::<usize>();
    }
}
