//! Runs a schedule against the assembler and compares what happens with the model.

mod checks;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datamill_wire::Chunk;

use super::super::buffer::Content;
use super::super::{Added, Assembler, Budget, Complete, FileInfo, InstanceIds, Reservation, SpillFolder};
use super::model::{Ends, Model};
use super::scenario::{Scenario, Step, What};
use crate::progress::{OpenKind, Progress, decode, encode};

/// A mistake that is made on purpose when a committed progress is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    None,
    /// The open list is ignored.
    OpenListIgnored,
    /// The frontier is ignored: everything from W on is taken for unseen.
    FrontierIgnored,
    /// The shadows are left out.
    ShadowsDropped,
    /// The shadows are taken for open files.
    ShadowsReopened,
    /// Files that were ended are left out of the commit.
    EndedNotCommitted,
}

struct Owned {
    /// Number of the next record of the log.
    next: usize,
    frontier: i64,
    /// Files whose first record is gone, that the assembler must name.
    lost: BTreeSet<i64>,
}

struct Ready {
    info: Arc<FileInfo>,
    bytes: Option<Vec<u8>>,
    _reservation: Reservation,
}

struct Pending {
    ready: Vec<Ready>,
    positions: Vec<(usize, i64, String)>,
    ended: Vec<Arc<FileInfo>>,
}

#[derive(Clone)]
struct Committed {
    position: i64,
    text: String,
    frontier: i64,
}

pub(super) struct Run<'a> {
    scenario: &'a Scenario,
    model: Model,
    mutant: Mutant,
    budget: Arc<Budget>,
    assembler: Assembler,
    owned: Vec<Option<Owned>>,
    ready: Vec<Ready>,
    pending: Option<Pending>,
    /// Files that were ended and wait for their commit.
    ended: Vec<Arc<FileInfo>>,
    /// What was ended in this life, and for good.
    ends: Ends,
    committed_ends: Ends,
    committed: Vec<Committed>,
    log_start: Vec<i64>,
    named_lost: BTreeSet<(i32, i64)>,
    /// Outcomes of each upload of the model.
    outcomes: Vec<u32>,
    /// Versions that lost records, with the number of files of the open list that this hit.
    hit: BTreeMap<usize, u32>,
    /// Outcomes of these.
    outcomes_of_hit: BTreeMap<usize, u32>,
    spill: Option<(tempfile::TempDir, SpillFolder)>,
}

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

/// Runs the scenario to its end. The error says what differs from the model.
pub(super) fn check(scenario: &Scenario, mutant: Mutant) -> Checked {
    let partitions = scenario.log.len();
    let budget = Arc::new(Budget::default());
    let model = Model::of(scenario, &Ends::new());
    let mut run = Run {
        scenario,
        mutant,
        assembler: assembler(scenario, &budget),
        budget: Arc::clone(&budget),
        owned: (0..partitions).map(|_| None).collect(),
        ready: Vec::new(),
        pending: None,
        ended: Vec::new(),
        ends: Ends::new(),
        committed_ends: Ends::new(),
        committed: vec![
            Committed { position: scenario.first, text: String::new(), frontier: scenario.first };
            partitions
        ],
        log_start: vec![scenario.first; partitions],
        named_lost: BTreeSet::new(),
        outcomes: vec![0; model.uploads.len()],
        hit: BTreeMap::new(),
        outcomes_of_hit: BTreeMap::new(),
        spill: None,
        model,
    };
    run.assign()?;
    for step in &scenario.steps {
        run.step(*step)?;
    }
    run.finish()?;
    drop(run);
    ensure(budget.filling() + budget.whole() == 0, || "memory stays taken when everything is gone".into())
}

fn assembler(scenario: &Scenario, budget: &Arc<Budget>) -> Assembler {
    let unwanted: HashSet<String> =
        scenario.versions.iter().filter(|v| !v.wanted).map(|v| format!("sub/{}", v.filename)).collect();
    Assembler::new(Box::new(move |path| !unwanted.contains(path)), Arc::clone(budget))
}

impl Run<'_> {
    fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Read { partition, records } => self.read(partition, records),
            Step::Begin { pick, all } => self.begin(pick, all),
            Step::Expire { limit } => self.expire(limit),
            Step::Answer { done } => self.answer(done),
            Step::Crash { committed } => self.crash(committed, None),
            Step::LogStart { partition, share, told } => {
                let Committed { position, frontier, .. } = self.committed[partition];
                let start = position + (frontier - position) * i64::from(share) / 255;
                if start > self.log_start[partition] {
                    self.log_start[partition] = start;
                }
                self.crash(share % 2 == 0, Some(told))
            }
            Step::Revoke { mask, committed } => self.revoke(mask, committed),
            Step::Assign => self.assign(),
            Step::Spill { limit } => self.spill(limit),
        }
    }

    fn read(&mut self, partition: usize, records: usize) -> Checked {
        let log = &self.scenario.log[partition];
        let mut left = records;
        while let Some(owned) = &mut self.owned[partition] {
            let Some(record) = log.get(owned.next) else {
                self.assembler.skip_to(partition as i32, self.scenario.ends[partition]);
                break;
            };
            if left == 0 {
                break;
            }
            owned.next += 1;
            if record.offset < self.log_start[partition] {
                continue;
            }
            left -= 1;
            let again = record.offset < owned.frontier;
            match record.what {
                What::Junk => {
                    let first = self.assembler.skip_to(partition as i32, record.offset + 1);
                    ensure(first != again, || format!("junk at {partition}:{} counted wrongly", record.offset))?;
                }
                What::Chunk { version, cut, index } => {
                    self.chunk(partition as i32, record.offset, version, cut, index)?;
                }
            }
        }
        self.check_lost(partition)
    }

    fn chunk(&mut self, partition: i32, offset: i64, version: usize, cut: usize, index: u32) -> Checked {
        let of = &self.scenario.versions[version];
        let (at, data) = of.chunk(cut, index);
        let chunk = Chunk {
            filename: &of.filename,
            file_hash: &of.sha512,
            chunk_hash: &[0; 64],
            offset: at,
            index,
            total: of.total,
            subdir: "sub",
            filename_append: "",
            data,
            mtime: None,
        };
        let (added, written) = self.assembler.add(partition, offset, offset, &chunk);
        written.map_err(|e| e.to_string())?;
        for old in &self.scenario.versions[..version] {
            if self.scenario.supersedes && old.filename == of.filename {
                self.assembler.supersede(partition, &chunk, &old.sha512);
            }
        }
        if let Added::Whole(complete) = added {
            let Complete::Here(whole) = complete else { return Err("a whole file is not handed out".to_owned()) };
            let bytes = match (whole.size, whole.content) {
                (None, _) => None,
                (Some(_), Content::Memory(bytes, _)) => Some(bytes.to_vec()),
                (Some(_), Content::Disk(path, _)) => Some(std::fs::read(&path).map_err(|e| e.to_string())?),
            };
            ensure(whole.size == bytes.as_ref().map(|b| b.len() as u64), || "a size is wrong".into())?;
            ensure(whole.proofs.len() == of.total as usize, || "proofs are missing".into())?;
            self.ready.push(Ready { info: whole.info, bytes, _reservation: whole.reservation });
        }
        Ok(())
    }

    /// The files that expire are uploads that the model has incomplete up to here.
    fn expire(&mut self, limit: i64) -> Checked {
        if self.pending.is_some() {
            return Ok(());
        }
        // how long the log gives nothing may end a repetition at any moment
        for expired in self.assembler.expire(Some(limit), limit / 2, |_| limit % 3 * limit) {
            let place = &expired.info.spans[0];
            let number = *self.model.owner.get(&(place.partition, place.first)).ok_or("a file of nothing expired")?;
            let version = self.model.uploads[number].version;
            if !self.hit.contains_key(&version) {
                let (_, next) = self.assembler.positions().find(|(p, _)| *p == place.partition).ok_or("not owned")?;
                self.ends.insert((place.partition, place.first), next);
                self.renew_model();
                let upload = &self.model.uploads[self.model.owner[&(place.partition, place.first)]];
                ensure(!upload.whole && upload.spans[&place.partition] == (place.first, place.last), || {
                    format!("{:?} expired; the model has {upload:?}", expired.info)
                })?;
            }
            self.ended.push(expired.info);
        }
        self.begin(0, limit % 2 == 0)
    }

    fn renew_model(&mut self) {
        self.model.renew(self.scenario, &self.ends, &mut self.outcomes);
    }

    fn begin(&mut self, pick: u64, all: bool) -> Checked {
        if self.pending.is_some() {
            return Ok(());
        }
        let mut number = 0;
        let (picked, kept) = std::mem::take(&mut self.ready).into_iter().partition(|_| {
            number += 1;
            pick >> ((number - 1) % 64) & 1 == 1
        });
        self.ready = kept;
        let picked: Vec<Ready> = picked;
        let mut ended = std::mem::take(&mut self.ended);
        if self.mutant == Mutant::EndedNotCommitted {
            self.ended.append(&mut ended);
        }
        let infos = || picked.iter().map(|r| &r.info).chain(&ended);
        let finished: InstanceIds = infos().map(|info| info.id).collect();
        let touched: HashSet<i32> = infos().flat_map(|info| info.spans.iter().map(|s| s.partition)).collect();
        let all = all || self.assembler.is_spread();
        let mut outcomes = self.outcomes.clone();
        for ready in &picked {
            if let Some(upload) = self.upload_of(ready)? {
                outcomes[upload] += 1;
            }
        }
        for info in &ended {
            if let Some(upload) = self.ended_upload(info) {
                outcomes[upload] += 1;
            }
        }
        let mut positions = Vec::new();
        for partition in 0..self.owned.len() {
            let progress = self.assembler.progress(partition as i32, &finished);
            ensure(progress.is_some() == self.owned[partition].is_some(), || {
                "progress of a partition that is not owned".into()
            })?;
            let Some(progress) = progress.filter(|_| all || touched.contains(&(partition as i32))) else {
                continue;
            };
            let (position, text) = encode(&progress, None);
            ensure(decode(position, &text).as_ref() == Ok(&progress), || {
                format!("{progress:?} is not what is decoded")
            })?;
            // each entry takes at most three bytes here, the two numbers before at most six
            let most = 2 + (4 * (4 + 6 + 3 * progress.open.len())).div_ceil(3);
            ensure(text.len() <= most, || format!("{} characters for {progress:?}", text.len()))?;
            self.check_progress(partition, &progress, &outcomes)?;
            positions.push((partition, position, text));
        }
        self.pending = Some(Pending { ready: picked, positions, ended });
        Ok(())
    }

    fn answer(&mut self, done: bool) -> Checked {
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        if done {
            let finished = self.store(&pending)?;
            self.assembler.finish(&finished);
        } else {
            self.ready.extend(pending.ready);
            self.ended.extend(pending.ended);
        }
        Ok(())
    }

    /// The commit happens.
    fn store(&mut self, pending: &Pending) -> Result<InstanceIds, String> {
        for (partition, position, text) in &pending.positions {
            let frontier = decode(*position, text).map_err(|e| e.to_string())?.frontier;
            self.committed[*partition] = Committed { position: *position, text: text.clone(), frontier };
        }
        for ready in &pending.ready {
            match self.upload_of(ready)? {
                Some(number) => {
                    self.outcomes[number] += 1;
                    ensure(self.outcomes[number] == 1, || format!("upload {number} has a second outcome"))?;
                }
                None => {
                    let first = &ready.info.spans[0];
                    let version = self.model.uploads[self.model.owner[&(first.partition, first.first)]].version;
                    *self.outcomes_of_hit.entry(version).or_default() += 1;
                }
            }
        }
        for info in &pending.ended {
            let Some(number) = self.ended_upload(info) else { continue };
            self.outcomes[number] += 1;
            ensure(self.outcomes[number] == 1, || format!("upload {number} ended with an outcome"))?;
            let place = (info.spans[0].partition, info.spans[0].first);
            if let Some(end) = self.ends.get(&place) {
                self.committed_ends.insert(place, *end);
            }
        }
        Ok(pending.ready.iter().map(|r| r.info.id).chain(pending.ended.iter().map(|info| info.id)).collect())
    }

    /// The upload of the model that this ended file is; `None` for a version that lost records.
    fn ended_upload(&self, info: &FileInfo) -> Option<usize> {
        let place = (info.spans[0].partition, info.spans[0].first);
        let number = *self.model.owner.get(&place)?;
        (!self.hit.contains_key(&self.model.uploads[number].version)).then_some(number)
    }

    /// What was ended in these partitions and not committed begins anew.
    fn forget_ends(&mut self, gone: impl Fn(i32) -> bool) {
        self.ended.retain(|info| !gone(info.spans[0].partition));
        let committed = &self.committed_ends;
        self.ends.retain(|place, _| !gone(place.0) || committed.contains_key(place));
        self.renew_model();
    }

    fn crash(&mut self, committed: bool, log_start_told: Option<bool>) -> Checked {
        if let Some(pending) = self.pending.take().filter(|_| committed) {
            self.store(&pending)?;
        }
        self.ready.clear();
        self.forget_ends(|_| true);
        self.owned.iter_mut().for_each(|owned| *owned = None);
        self.assembler = assembler(self.scenario, &self.budget);
        ensure(self.budget.filling() + self.budget.whole() == 0, || "memory stays taken after a restart".into())?;
        self.named_lost.clear();
        self.assign_from(log_start_told.unwrap_or(true))?;
        let again: u64 = self.committed.iter().map(|c| c.frontier.abs_diff(c.position)).sum();
        let span = self.assembler.span();
        ensure(span == again || self.mutant != Mutant::None || !self.hit.is_empty(), || {
            format!("a restart reads {again} records again, and {span} are named")
        })
    }

    fn revoke(&mut self, mask: u8, committed: bool) -> Checked {
        self.answer(committed)?;
        let gone: Vec<i32> = (0..self.owned.len())
            .filter(|p| mask >> p & 1 == 1 && self.owned[*p].is_some())
            .map(|p| p as i32)
            .collect();
        let (ids, torn) = self.assembler.revoke(&gone);
        ensure(!torn, || format!("a file is torn by the revocation of {gone:?}"))?;
        for partition in &gone {
            self.owned[*partition as usize] = None;
        }
        self.named_lost.retain(|(p, _)| !gone.contains(p));
        self.ready.retain(|r| !ids.contains(&r.info.id));
        self.forget_ends(|partition| gone.contains(&partition));
        let left = self.ready.iter().all(|r| {
            self.assembler.awaits_outcome(r.info.id) && r.info.spans.iter().all(|s| !gone.contains(&s.partition))
        });
        ensure(left, || "a revocation names the wrong files".into())
    }

    fn assign(&mut self) -> Checked {
        self.assign_from(true)
    }

    fn assign_from(&mut self, told: bool) -> Checked {
        for partition in 0..self.owned.len() {
            if self.owned[partition].is_some() {
                continue;
            }
            let Committed { position, text, .. } = &self.committed[partition];
            let mut restored = decode(*position, text).map_err(|e| e.to_string())?;
            let log_start = self.log_start[partition];
            let lost = restored.open.range(..log_start).filter(|(_, kind)| **kind == OpenKind::Open);
            let lost: BTreeSet<i64> = lost.map(|(first, _)| *first).collect();
            for first in restored.open.range(..log_start).map(|(first, _)| *first) {
                if let Some(owner) = self.model.owner.get(&(partition as i32, first)) {
                    *self.hit.entry(self.model.uploads[*owner].version).or_default() += 1;
                }
            }
            let frontier = restored.frontier;
            match self.mutant {
                Mutant::None | Mutant::EndedNotCommitted => {}
                Mutant::OpenListIgnored => restored.open.clear(),
                Mutant::FrontierIgnored => restored = Progress::starting_at(*position),
                Mutant::ShadowsDropped => restored.open.retain(|_, kind| *kind == OpenKind::Open),
                Mutant::ShadowsReopened => restored.open.values_mut().for_each(|kind| *kind = OpenKind::Open),
            }
            let start = if told { log_start.max(*position) } else { *position };
            self.assembler.assign(partition as i32, restored, start);
            let next = self.scenario.log[partition].partition_point(|r| r.offset < start);
            self.owned[partition] = Some(Owned { next, frontier, lost });
            self.check_lost(partition)?;
        }
        Ok(())
    }

    fn spill(&mut self, limit: usize) -> Checked {
        if self.spill.is_none() {
            let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
            let spill = SpillFolder::prepare(folder.path().join("spill")).map_err(|e| e.to_string())?;
            self.spill = Some((folder, spill));
        }
        let Some((_, folder)) = &self.spill else {
            return Ok(());
        };
        self.assembler.spill_down_to(limit, folder).map_err(|e| e.to_string())?;
        ensure(self.budget.filling() <= limit, || "files that fill up take more memory than the limit".into())
    }

    /// Everything is read, gets its outcome and is committed; then a last restart finds nothing to do.
    fn finish(&mut self) -> Checked {
        self.answer(true)?;
        self.assign()?;
        for _ in 0..2 {
            for partition in 0..self.owned.len() {
                self.read(partition, usize::MAX)?;
            }
            self.begin(u64::MAX, true)?;
            self.answer(true)?;
            self.check_end()?;
            self.crash(true, None)?;
        }
        Ok(())
    }
}
