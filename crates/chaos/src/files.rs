//! The files that are sent: they follow from the seed, the uploader and the number of the batch.

use std::path::Path;

use crate::random::Random;

/// The worker's function fails on files whose name ends so.
pub const FAILS: &str = ".bad";

/// One file of a batch.
#[derive(Debug, Clone)]
pub struct Plan {
    pub path: String,
    len: usize,
    content: u64,
}

impl Plan {
    pub fn write(&self, root: &Path) -> std::io::Result<()> {
        let path = root.join(&self.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, self.bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        Random::new(self.content, 3).bytes(self.len)
    }
}

/// Makes the batches of one uploader.
#[derive(Debug)]
pub struct Batches {
    random: Random,
    uploader: usize,
    number: usize,
    earlier: Vec<Plan>,
}

impl Batches {
    pub fn new(seed: u64, uploader: usize) -> Self {
        Self { random: Random::new(seed, 100 + uploader as u64), uploader, number: 0, earlier: Vec::new() }
    }

    /// The files of the next batch: from one byte to some megabytes, mostly small; a few are sent again
    /// as they were, or under the same name with another content.
    pub fn next(&mut self) -> Vec<Plan> {
        let random = &mut self.random;
        let mut batch: Vec<Plan> = Vec::new();
        for i in 0..random.between(2, 30) {
            let len = match random.between(0, 1000) {
                0..5 => random.between(1 << 20, 3 << 20),
                5..60 => random.between(100 << 10, 500 << 10),
                60..300 => random.between(8 << 10, 100 << 10),
                _ => random.between(1, 8 << 10),
            } as usize;
            let content = random.next();
            let end = if random.is_one_in(20) { FAILS } else { ".dat" };
            let path = format!("uploader {}/batch {:04}/{i}{end}", self.uploader, self.number);
            let mut plan = Plan { path, len, content };
            if !self.earlier.is_empty() && random.is_one_in(15) {
                let earlier = &self.earlier[random.between(0, self.earlier.len() as u64) as usize];
                plan = if random.is_one_in(2) { earlier.clone() } else { Plan { path: earlier.path.clone(), ..plan } };
                if batch.iter().any(|other| other.path == plan.path) {
                    continue;
                }
            }
            batch.push(plan);
        }
        self.number += 1;
        self.earlier.extend(batch.iter().cloned());
        batch
    }
}
