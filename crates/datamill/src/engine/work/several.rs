//! Small files that a worker has at once, where it hands them on and waits for the answers.
//!
//! Each of them has its seat: its clock, and the note of what is in hand. One that failed, or that needs what is not
//! available, goes on alone, as any file does, after the others have their outcomes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Shared;
use super::attempts::Prepared;
use super::life::{Hand, Seat};
use super::queue::Place;
use crate::assemble::WholeFile;
use crate::facts::Fact;
use crate::panics;
use crate::process::{Answer, Call, ErrorKind, ProcessingError, Several, Together};

/// A file with the worker.
struct Open<'a> {
    prepared: Prepared,
    call: Call<'a>,
    since: Instant,
}

/// By their places; none where the answer is there.
struct Opened<'a> {
    files: Vec<Option<Open<'a>>>,
    shared: &'a Shared,
}

impl Together for Opened<'_> {
    fn path(&self, place: usize) -> Result<PathBuf, ProcessingError> {
        match self.files.get(place) {
            Some(Some(Open { prepared, call, .. })) => call.path(&prepared.file).map(Into::into),
            _ => Err(ProcessingError::file_failed("the call is over")),
        }
    }

    fn is_given_up(&self, place: usize) -> bool {
        self.files.get(place).and_then(Option::as_ref).is_some_and(|open| open.call.is_given_up())
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Relaxed)
    }
}

/// Whether the function runs again for the file.
fn is_asked_again(prepared: &Prepared, answer: &Answer) -> bool {
    match answer.as_ref().map_err(ProcessingError::kind) {
        Err(ErrorKind::NotAvailable) => true,
        Err(ErrorKind::FileFailed) => prepared.before + 1 < prepared.max_attempts && !prepared.file.is_asked_again(),
        Ok(_) | Err(_) => false,
    }
}

/// A file that goes on alone.
struct Alone {
    place: usize,
    prepared: Prepared,
    /// What the function has answered already.
    first: Option<Answer>,
}

impl Shared {
    /// Answers whether the worker goes on.
    pub(super) fn work_on_several(&self, files: impl Iterator<Item = WholeFile>, hand: &mut Hand) -> bool {
        let files: Vec<_> = files.collect();
        for four in files.chunks_exact(4) {
            if let [a, b, c, d] = four {
                WholeFile::hash_four([a, b, c, d]);
            }
        }
        let Some(alone) = self.run_several(files, hand) else { return false };
        for Alone { place, prepared, first } in alone {
            let path = Arc::clone(&prepared.info.version.path);
            let _span = tracing::error_span!("work", file = &*path).entered();
            let processed = self.compute(prepared, hand, place, first);
            if self.is_given_up(hand.number) || !self.tell(processed) {
                return false;
            }
            self.end_all([path]);
        }
        true
    }

    /// Answers the files that go on alone. `None` where the worker does not.
    fn run_several(&self, files: Vec<WholeFile>, hand: &mut Hand) -> Option<Vec<Alone>> {
        let Hand { number, seats, worker } = hand;
        let mut opened = Opened { files: Vec::with_capacity(files.len()), shared: self };
        let mut alone = Vec::new();
        let mut several = worker.several();
        for (place, (file, seat)) in files.into_iter().zip(&*seats).enumerate() {
            let path = Arc::clone(&file.info.version.path);
            opened.files.push(match (self.prepare(file, seat.slot.as_ref()), &mut several) {
                (Some(Ok(prepared)), Some(several)) => {
                    self.open((*number, place), seat, *several, prepared, &mut alone)
                }
                // a worker that takes none together gets each by itself
                (Some(Ok(prepared)), None) => {
                    alone.push(Alone { place, prepared, first: None });
                    None
                }
                (ended, _) => {
                    if !self.tell(ended.and_then(Result::err)) {
                        return None;
                    }
                    self.end_all([path]);
                    None
                }
            });
        }
        while let Some(several) = several.as_mut().filter(|_| opened.files.iter().any(Option::is_some)) {
            let answers = panics::caught(|| several.answers(&opened));
            let answers = answers.unwrap_or_else(|panic| {
                let open = opened.files.iter().enumerate().filter(|(_, open)| open.is_some());
                open.map(|(place, _)| (place, Err(ProcessingError::file_failed(&panic)))).collect()
            });
            let mut done = Vec::with_capacity(answers.len());
            for (place, answer) in answers {
                let open = opened.files.get_mut(place).and_then(Option::take);
                let Some(Open { mut prepared, since, .. }) = open else { continue };
                let seat = &seats[place];
                if !self.end_call((*number, place), seat) {
                    continue;
                }
                if answer.as_ref().map_err(ProcessingError::kind).err() != Some(ErrorKind::NotAvailable) {
                    let took = seat.watch.took().unwrap_or_else(|| since.elapsed());
                    self.settings.facts.tell(&Fact::Ran { file: &prepared.info.version.path, took });
                }
                let answer = self.checked(answer);
                if is_asked_again(&prepared, &answer) {
                    alone.push(Alone { place, prepared, first: Some(answer) });
                    continue;
                }
                prepared.file.take_back();
                done.push(Arc::clone(&prepared.info.version.path));
                let attempts = prepared.before + 1;
                if !self.tell(Some(self.concluded(prepared, attempts, answer))) {
                    return None;
                }
            }
            self.end_all(done);
        }
        (!self.is_given_up(*number)).then_some(alone)
    }

    /// Hands a file to the worker. Where that is answered at once, the file goes on alone, unless it was given up.
    fn open<'a>(
        &'a self,
        place: Place,
        seat: &'a Seat,
        several: &mut dyn Several,
        prepared: Prepared,
        alone: &mut Vec<Alone>,
    ) -> Option<Open<'a>> {
        let attempt = prepared.before + 1;
        self.settings.facts.tell(&Fact::Started { file: &prepared.info.version.path, attempt, again: false });
        self.begin_call(place, seat, &prepared.info, attempt);
        let call = self.call(seat, attempt, attempt >= prepared.max_attempts);
        let (_, number) = place;
        let begun = panics::caught(|| several.begin(number, &prepared.file, &call));
        match begun.unwrap_or_else(|panic| Err(ProcessingError::file_failed(panic))) {
            Ok(()) => Some(Open { prepared, call, since: Instant::now() }),
            Err(error) => {
                if self.end_call(place, seat) {
                    alone.push(Alone { place: number, prepared, first: Some(Err(error)) });
                }
                None
            }
        }
    }

    /// These files are with no worker any more.
    fn end_all(&self, paths: impl IntoIterator<Item = Arc<str>>) {
        let mut queue = self.queue.lock();
        let ready = queue.ready.len() + queue.alone.len();
        paths.into_iter().for_each(|path| queue.end(&path));
        if queue.ready.len() + queue.alone.len() > ready {
            self.wake.notify_all();
        }
    }
}
