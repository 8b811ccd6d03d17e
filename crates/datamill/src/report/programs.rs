//! The programs of this process that log: one, or in an interpreter one after another and several at once.
//!
//! The process has one subscriber, which stays; what a program wants of it comes and goes. Lines do not say which
//! program they belong to, so each program that runs gets all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::RwLock;
use tracing::level_filters::LevelFilter;

use super::lines::{Line, Output};

/// Where the lines of one program go.
pub(super) struct Program {
    /// Printed once, however many programs want it.
    pub(super) printed: Box<dyn Output>,
    pub(super) others: Vec<Box<dyn Output>>,
    /// Changes while [`Programs`] is locked alone.
    has_ended: AtomicBool,
}

impl Program {
    fn level(&self) -> LevelFilter {
        self.others.iter().map(|output| output.level()).fold(self.printed.level(), Ord::max)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }
}

/// Says that its program has ended when it is dropped. Then it gets no more lines where other programs run. The outputs of
/// the last one stay until another program begins: what ends the process may have something to say.
pub(super) struct Running {
    program: Arc<Program>,
    programs: &'static Programs,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut programs = self.programs.0.write();
        self.program.has_ended.store(true, Relaxed);
        let others_run = programs.iter().any(|program| !program.has_ended());
        let gone: Vec<_> = programs.extract_if(.., |program| others_run && program.has_ended()).collect();
        drop(programs);
        // what ends may have something to log
        drop(gone);
    }
}

/// All of them.
pub(super) struct Programs(RwLock<Vec<Arc<Program>>>);

impl Programs {
    pub(super) const fn none() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    /// Another program logs from here on.
    pub(super) fn add(&'static self, printed: Box<dyn Output>, others: Vec<Box<dyn Output>>) -> Running {
        let program = Arc::new(Program { printed, others, has_ended: AtomicBool::new(false) });
        let mut programs = self.0.write();
        let gone: Vec<_> = programs.extract_if(.., |program| program.has_ended()).collect();
        programs.push(Arc::clone(&program));
        drop(programs);
        drop(gone);
        Running { program, programs: self }
    }
}

impl Output for &'static Programs {
    fn level(&self) -> LevelFilter {
        self.0.read().iter().map(|program| program.level()).fold(LevelFilter::OFF, Ord::max)
    }

    fn write(&self, line: &Line<'_>) {
        let programs = self.0.read();
        if let Some(program) = programs.iter().find(|program| line.is_for(program.printed.level())) {
            program.printed.write(line);
        }
        for output in programs.iter().flat_map(|program| &program.others) {
            if line.is_for(output.level()) {
                output.write(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tracing::Level;

    use super::*;

    #[derive(Clone)]
    struct Kept(LevelFilter, Arc<Mutex<Vec<String>>>);

    impl Kept {
        fn boxed(level: LevelFilter) -> (Box<dyn Output>, Self) {
            let kept = Self(level, Arc::default());
            (Box::new(kept.clone()), kept)
        }

        fn lines(&self) -> Vec<String> {
            self.1.lock().clone()
        }
    }

    impl Output for Kept {
        fn level(&self) -> LevelFilter {
            self.0
        }

        fn write(&self, line: &Line<'_>) {
            self.1.lock().push(line.text.to_owned());
        }
    }

    fn write(programs: &'static Programs, level: Level, text: &str) {
        programs.write(&Line { time_ms: 0, level, target: "t", text });
    }

    #[test]
    fn a_second_program_has_outputs_of_its_own_and_the_first_ones_get_no_more() {
        let programs: &'static Programs = Box::leak(Box::new(Programs::none()));
        let (file, first) = Kept::boxed(LevelFilter::WARN);
        let running = programs.add(Kept::boxed(LevelFilter::OFF).0, vec![file]);
        write(programs, Level::WARN, "one");
        drop(running);
        write(programs, Level::WARN, "last words");
        let (file, second) = Kept::boxed(LevelFilter::DEBUG);
        let _running = programs.add(Kept::boxed(LevelFilter::OFF).0, vec![file]);
        write(programs, Level::DEBUG, "two");
        assert_eq!(first.lines(), ["one", "last words"]);
        assert_eq!(second.lines(), ["two"]);
        assert_eq!(programs.level(), LevelFilter::DEBUG);
    }

    #[test]
    fn of_two_programs_at_once_each_has_the_lines_in_its_file_and_one_prints_them() {
        let programs: &'static Programs = Box::leak(Box::new(Programs::none()));
        let kept = [LevelFilter::INFO, LevelFilter::DEBUG].map(|level| (Kept::boxed(level), Kept::boxed(level)));
        let [((printed_a, a), (file_a, in_a)), ((printed_b, b), (file_b, in_b))] = kept;
        let _running = [programs.add(printed_a, vec![file_a]), programs.add(printed_b, vec![file_b])];
        write(programs, Level::INFO, "both");
        write(programs, Level::DEBUG, "one");
        assert_eq!((a.lines(), b.lines()), (vec!["both".to_owned()], vec!["one".to_owned()]));
        assert_eq!((in_a.lines().len(), in_b.lines().len()), (1, 2));
    }

    #[test]
    fn of_two_programs_at_once_the_one_that_has_ended_gets_no_lines_of_the_other() {
        let programs: &'static Programs = Box::leak(Box::new(Programs::none()));
        let kept = [(); 2].map(|()| (Kept::boxed(LevelFilter::INFO), Kept::boxed(LevelFilter::INFO)));
        let [((printed_a, a), (file_a, in_a)), ((printed_b, b), (file_b, in_b))] = kept;
        let [first, second] = [programs.add(printed_a, vec![file_a]), programs.add(printed_b, vec![file_b])];
        write(programs, Level::INFO, "both");
        drop(first);
        write(programs, Level::INFO, "second");
        assert_eq!((a.lines(), in_a.lines()), (vec!["both".to_owned()], vec!["both".to_owned()]));
        assert_eq!(
            (b.lines(), in_b.lines()),
            (vec!["second".to_owned()], vec!["both".to_owned(), "second".to_owned()])
        );
        drop(second);
        write(programs, Level::INFO, "last words");
        assert_eq!((b.lines().len(), in_b.lines().len(), in_a.lines().len()), (2, 3, 1));
    }
}
