//! Random logs and random schedules, as plain data that prints, replays and shrinks.

use std::fmt;

use super::search::Fails;

/// SplitMix64: a seed gives the same scenario on every machine.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// One version of a file.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) filename: String,
    pub(crate) sha512: [u8; 64],
    pub(crate) bytes: Vec<u8>,
    pub(crate) total: u32,
    /// Whether the filter lets it pass.
    pub(crate) wanted: bool,
    /// Ends of its chunks in bytes, for each way in which it is cut.
    pub(crate) cuts: Vec<Vec<usize>>,
}

impl Version {
    /// Offset and bytes of a chunk.
    pub(crate) fn chunk(&self, cut: usize, index: u32) -> (u64, &[u8]) {
        let ends = &self.cuts[cut];
        let i = index as usize - 1;
        let start = if i == 0 { 0 } else { ends[i - 1] };
        (start as u64, &self.bytes[start..ends[i]])
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filename, bytes, total, wanted, cuts, .. } = self;
        write!(f, "{filename} of {} bytes in {total} chunks ending at {cuts:?}, wanted {wanted}", bytes.len())
    }
}

/// What one record holds.
#[derive(Clone, Copy)]
pub(crate) enum What {
    Chunk { version: usize, cut: usize, index: u32 },
    Junk,
}

/// One record of a partition.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) what: What,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Junk => write!(f, "{}:junk", self.offset),
            What::Chunk { version, cut, index } => write!(f, "{}:v{version}c{cut}#{index}", self.offset),
        }
    }
}

/// One step of the schedule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Up to so many records of a partition, and its end where that is reached.
    Read { partition: usize, records: usize },
    /// A commit begins with the whole files that `pick` names, for the partitions that they touch or all.
    Begin { pick: u64, all: bool },
    /// The commit that began happened, or did not.
    Answer { done: bool },
    /// The program dies, after the commit that began happened or before, and starts again.
    Crash { committed: bool },
    /// Partitions go to somebody else, after the commit that began happened or before.
    Revoke { mask: u8, committed: bool },
    /// All partitions that are not owned are assigned.
    Assign,
    /// The program dies; when it starts again, the log starts at this share of the way from W to H.
    /// The backend says so at once, or the records are just not there.
    LogStart { partition: usize, share: u8, told: bool },
    /// A commit begins with the files whose chunks stopped coming so many records ago.
    Expire { limit: i64 },
    /// Files that fill up go to disk.
    Spill { limit: usize },
}

/// A log and a schedule.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) versions: Vec<Version>,
    pub(crate) log: Vec<Vec<Record>>,
    /// Where each partition ends.
    pub(crate) ends: Vec<i64>,
    pub(crate) first: i64,
    pub(crate) steps: Vec<Step>,
    /// The chunks of a file are in all partitions.
    pub(crate) spread: bool,
    /// Each chunk says that earlier versions of its path were given up.
    pub(crate) supersedes: bool,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, version) in self.versions.iter().enumerate() {
            writeln!(f, "  v{i} = {version:?}")?;
        }
        for (i, (records, end)) in self.log.iter().zip(&self.ends).enumerate() {
            writeln!(f, "  partition {i}, {} to {end}: {records:?}", self.first)?;
        }
        for step in &self.steps {
            writeln!(f, "  {step:?}")?;
        }
        Ok(())
    }
}

/// What may occur in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each file in one partition, with everything that can happen to it.
    Whole,
    /// The chunks of each file in all partitions, each once.
    Spread,
    /// The chunks of each file in all partitions, a repetition in the partition of its first.
    SpreadRepeated,
}

pub(crate) fn scenario(seed: u64, kind: Kind) -> Scenario {
    let mut rng = Rng::new(seed);
    let spread = kind != Kind::Whole;
    let partitions = if spread { 2 + rng.below(2) } else { 1 + rng.below(3) };
    let versions: Vec<_> = (0..1 + rng.below(7)).map(|i| version(&mut rng, i, spread)).collect();
    let mut events = Vec::new();
    for (v, version) in versions.iter().enumerate() {
        uploads(&mut rng, kind, v, version, &mut events);
    }
    events.sort_by_key(|(time, ..)| *time);
    let first = if rng.chance(30) { 1000 } else { 0 };
    let mut ends = vec![first; partitions];
    let mut log = vec![Vec::new(); partitions];
    for (_, version, cut, index) in events {
        let partition = if spread {
            (version * 7 + index as usize * 5 + seed as usize % 11) % partitions
        } else {
            versions[version].filename.as_bytes()[1] as usize % partitions
        };
        if rng.chance(5) {
            ends[partition] += 1 + rng.below(3) as i64;
        }
        if rng.chance(3) {
            log[partition].push(Record { offset: ends[partition], what: What::Junk });
            ends[partition] += 1;
        }
        log[partition].push(Record { offset: ends[partition], what: What::Chunk { version, cut, index } });
        ends[partition] += 1;
    }
    for end in &mut ends {
        *end += rng.below(2) as i64;
    }
    let spills = rng.chance(4);
    let steps = (0..4 + rng.below(40)).map(|_| step(&mut rng, kind, partitions, spills)).collect();
    let supersedes = rng.chance(50);
    Scenario { versions, log, ends, first, steps, spread, supersedes }
}

fn version(rng: &mut Rng, i: usize, spread: bool) -> Version {
    let total = 1 + if rng.chance(20) { 0 } else { rng.below(9) };
    let size = if rng.chance(10) { 0 } else { rng.below(total * 8 + 1) };
    let mut cut = || {
        let mut ends: Vec<_> = (1..total).map(|_| rng.below(size + 1)).collect();
        ends.push(size);
        ends.sort_unstable();
        ends
    };
    let mut cuts = vec![cut(), cut()];
    if spread || !rng.chance(15) {
        cuts.pop();
    }
    // some versions share their path with the one before, and only those differ in nothing else
    let path = if rng.chance(25) { i / 2 } else { i };
    let wanted = !path.is_multiple_of(5) || path == 0;
    let mut sha512 = [7; 64];
    sha512[0] = i as u8;
    Version {
        filename: format!("f{path}.dat"),
        sha512,
        bytes: (0..size).map(|j| (i * 37 + j * 11 + 1) as u8).collect(),
        total: total as u32,
        wanted,
        cuts,
    }
}

/// The uploads of one version, as (time, version, cut, index).
fn uploads(rng: &mut Rng, kind: Kind, v: usize, version: &Version, events: &mut Vec<(usize, usize, usize, u32)>) {
    let n = if kind == Kind::Spread || rng.chance(50) { 1 } else { 1 + rng.below(4) };
    let mut start = rng.below(60);
    for _ in 0..n {
        let cut = rng.below(version.cuts.len());
        let mut indices: Vec<u32> = (1..=version.total).collect();
        if rng.chance(30) {
            rng.shuffle(&mut indices);
        } else if rng.chance(20) && indices.len() > 1 {
            let at = rng.below(indices.len() - 1);
            indices.swap(at, at + 1);
        }
        if rng.chance(25) {
            indices.truncate(rng.below(indices.len() + 1));
        }
        let mut time = start;
        let pace = 1 + rng.below(12);
        for index in indices {
            time += rng.below(pace + 1);
            events.push((time, v, cut, index));
            if kind != Kind::Spread && rng.chance(4) {
                events.push((time + rng.below(20), v, cut, index));
            }
        }
        // before, during or after the one before
        start = if rng.chance(50) { start + rng.below(10) } else { time + rng.below(30) };
    }
}

fn step(rng: &mut Rng, kind: Kind, partitions: usize, spills: bool) -> Step {
    match rng.below(100) {
        0..45 => Step::Read { partition: rng.below(partitions), records: 1 + rng.below(24) },
        45..62 => Step::Begin { pick: if rng.chance(50) { u64::MAX } else { rng.next() }, all: rng.chance(40) },
        62..74 => Step::Answer { done: rng.chance(85) },
        74..84 => Step::Crash { committed: rng.chance(50) },
        84..88 if kind == Kind::Whole => {
            Step::LogStart { partition: rng.below(partitions), share: rng.next() as u8, told: rng.chance(50) }
        }
        84..92 => Step::Revoke {
            mask: if kind == Kind::Whole { rng.next() as u8 } else { u8::MAX },
            committed: rng.chance(50),
        },
        92..95 if kind == Kind::Whole => Step::Expire { limit: rng.below(30) as i64 },
        92..97 if !spills => Step::Assign,
        92..96 => Step::Assign,
        _ if spills => Step::Spill { limit: rng.below(40) },
        _ => Step::Read { partition: rng.below(partitions), records: 200 },
    }
}

/// The smallest scenario found that still fails, by leaving out records and steps.
pub(crate) fn shrink(mut scenario: Scenario, fails: Fails<'_, Scenario>) -> Scenario {
    loop {
        let before = scenario.steps.len() + scenario.log.iter().map(Vec::len).sum::<usize>();
        let steps = |s: &mut Scenario, from: usize, to: usize| drop(s.steps.drain(from..to));
        scenario = leave_out(scenario, |s| s.steps.len(), steps, fails);
        for p in 0..scenario.log.len() {
            let records = |s: &mut Scenario, from: usize, to: usize| drop(s.log[p].drain(from..to));
            scenario = leave_out(scenario, |s| s.log[p].len(), records, fails);
        }
        if scenario.steps.len() + scenario.log.iter().map(Vec::len).sum::<usize>() == before {
            return scenario;
        }
    }
}

fn leave_out(
    mut scenario: Scenario,
    len: impl Fn(&Scenario) -> usize,
    drain: impl Fn(&mut Scenario, usize, usize),
    fails: impl Fn(&Scenario) -> bool,
) -> Scenario {
    let mut size = len(&scenario).div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < len(&scenario) {
            let mut smaller = scenario.clone();
            drain(&mut smaller, from, (from + size).min(len(&scenario)));
            if fails(&smaller) {
                scenario = smaller;
            } else {
                from += size;
            }
        }
        size /= 2;
    }
    scenario
}
