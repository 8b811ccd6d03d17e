//! A reader of results as anybody has one: it tells when the last result could be read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use rdkafka::Message;

use crate::child::now_us;
use crate::floor::reader;

/// Counts the results of a topic while they come.
pub(crate) struct Visible {
    count: Arc<AtomicU64>,
    last_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Visible {
    /// Reads from now on.
    pub(crate) fn watch(kafka: &str, topic: &str) -> Result<Self> {
        let consumer = reader(kafka, topic)?;
        let (count, last_us, stop) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let thread = {
            let (count, last_us, stop) = (count.clone(), last_us.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut keys = HashSet::new();
                while !stop.load(Relaxed) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                        keys.insert(message.key().unwrap_or_default().to_owned());
                        count.fetch_add(1, Relaxed);
                        last_us.store(now_us(), Relaxed);
                    }
                }
                keys.len() as u64
            })
        };
        Ok(Self { count, last_us, stop, thread: Some(thread) })
    }

    /// Results until now.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// When the newest result was read, microseconds since the epoch.
    pub(crate) fn last_us(&self) -> u64 {
        self.last_us.load(Relaxed)
    }

    /// Ends the reading; number of different keys.
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}
