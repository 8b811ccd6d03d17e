//! Files that fill up make room: to the disk, or dropped where that is to hold no more.

use std::io;

use super::{Assembler, Complete, WholeFile};
use crate::assemble::instance::State;
use crate::assemble::{Budget, SpillFolder};

impl Assembler {
    /// Moves the largest files that fill up to the folder until at most `limit` bytes are in memory.
    pub(crate) fn spill_down_to(&mut self, limit: usize, folder: &SpillFolder) -> io::Result<usize> {
        let filling = self.instances.iter_mut().filter(|(_, i)| i.state == State::Filling);
        let mut sizes = Vec::new();
        for (id, instance) in filling {
            instance.drop_what_is_lost();
            let buffer = instance.buffer.as_ref().filter(|buffer| !buffer.is_streaming() && buffer.in_memory() > 0);
            sizes.extend(buffer.map(|buffer| (buffer.in_memory(), *id)));
        }
        sizes.sort_unstable();
        let mut spilled = 0;
        while self.content.budget.filling() > limit
            && let Some((_, id)) = sizes.pop()
        {
            if let Some(buffer) = self.instances.get_mut(&id).and_then(|instance| instance.buffer.as_mut()) {
                buffer.spill(folder)?;
                spilled += 1;
            }
        }
        Ok(spilled)
    }

    /// Drops the content of the largest files that fill up, unless `on_disk` bytes of disk are enough for what
    /// does not fit into `in_memory` bytes. Answers how many. Their chunks are taken in as before; once all are
    /// there, the file is handed out without it.
    pub(crate) fn drop_down_to(&mut self, in_memory: usize, on_disk: usize) -> usize {
        let filling = self.instances.iter().filter(|(_, i)| i.state == State::Filling);
        let buffers = filling.filter_map(|(id, i)| Some((*id, i.buffer.as_ref()?)));
        let mut sizes: Vec<_> = buffers.map(|(id, b)| (b.in_memory() + b.on_disk(), b.on_disk(), id)).collect();
        let mut taken: usize = sizes.iter().map(|(_, on_disk, _)| on_disk).sum();
        let too_much = |taken: usize, budget: &Budget| taken + budget.filling().saturating_sub(in_memory);
        if too_much(taken, &self.content.budget) <= on_disk {
            return 0;
        }
        sizes.sort_unstable();
        let mut dropped = 0;
        while too_much(taken, &self.content.budget) > on_disk / 4 * 3
            && let Some((1.., spilled, id)) = sizes.pop()
        {
            // what is in memory only may stay where it has room
            if spilled == 0 && self.content.budget.filling() <= in_memory {
                continue;
            }
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.buffer = None;
                instance.dropped = true;
                taken -= spilled;
                dropped += 1;
            }
        }
        dropped
    }

    /// Writes what could not be written to spill files before. Answers the files that are whole and were not handed out
    /// for that reason.
    pub(crate) fn settle(&mut self) -> io::Result<Vec<WholeFile>> {
        let buffers = self.instances.values_mut().filter_map(|i| i.buffer.as_mut());
        for buffer in buffers.filter(|b| b.is_unsettled()) {
            buffer.settle()?;
        }
        let waiting = self.instances.iter_mut().filter(|(_, i)| i.state == State::Whole && i.buffer.is_some());
        let mut whole: Vec<_> = waiting
            .filter_map(|(id, instance)| match instance.complete(*id) {
                Complete::Here(file) => Some(file),
                Complete::Dropped(_) | Complete::Unwritten(_) => None,
            })
            .collect();
        whole.sort_unstable_by_key(|file| file.info.id);
        Ok(whole)
    }
}
