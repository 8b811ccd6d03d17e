//! A run: start everything, follow the plan, let the workers finish, count.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datamill::broker::Log;
use datamill::report::clock::now_ms;
use datamill::settings::Config;
use datamill_testkit::kafka::Kafka;

use crate::check::{Uploads, Verdict, check};
use crate::log;
use crate::members::{Member, Place, last_line};
use crate::mirror;
use crate::options::{Job, Membership, Options, Protocol};
use crate::plan::{Action, plan};
use crate::report::Report;
use crate::upload::{self, Sent};

const TICK: Duration = Duration::from_millis(10);
/// How often the count is looked at while the workers finish.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the workers may go without progress while they finish, beside two sessions.
const STALLED: Duration = Duration::from_secs(90);
/// How long they go on after everything is there: a second outcome would come in this time.
const LINGER: Duration = Duration::from_secs(3);

/// Runs, prints what was done and found, and answers it.
pub fn run(options: &Options) -> Result<Verdict> {
    let options = options.clone().fitting();
    let started = Instant::now();
    let temporary = tempfile::Builder::new().prefix("datamill-chaos-").tempdir()?;
    let folder = match &options.keep {
        Some(folder) => {
            fs::create_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            std::path::absolute(folder)?
        }
        None => temporary.path().to_owned(),
    };
    let kafka = (!options.embedded).then(|| match options.three_brokers {
        true => Kafka::start_three_with(&broker_properties(&options)),
        false => Kafka::start_own_with(&broker_properties(&options)),
    });
    let place = prepare(folder, kafka.as_ref(), &options)?;
    let config = Config::load(place.config.to_str())?;
    let log = datamill::broker::open(config.properties())?;
    log::create(log.as_ref(), options.partitions)?;
    if options.control {
        log::pin(log.as_ref(), options.partitions)?;
    }
    eprintln!("seed {}, {} s on {}", options.seed, options.seconds, log.name());
    let mut run =
        Run { options: &options, place: &place, log: log.as_ref(), members: Vec::new(), report: Report::default() };
    let sent = run.disturb(kafka.as_ref())?;
    let verdict = run.finish(&sent)?;
    let mut report = run.report;
    report.read_logs(&place.folder.join("logs"))?;
    report.whole = started.elapsed();
    println!("{report}\n{verdict}");
    if !verdict.is_good() {
        println!("to run it again: datamill-chaos run with --seed {} and the same options", options.seed);
    }
    Ok(verdict)
}

/// The sessions of the consumer protocol are the broker's business.
fn broker_properties(options: &Options) -> String {
    let (session, heartbeat) = (options.session_ms, heartbeat_ms(options));
    match options.protocol {
        Protocol::Classic => String::new(),
        Protocol::Consumer => {
            format!("group.consumer.session.timeout.ms={session}\ngroup.consumer.heartbeat.interval.ms={heartbeat}")
        }
    }
}

fn heartbeat_ms(options: &Options) -> u64 {
    (options.session_ms / 10).clamp(100, 3000)
}

fn prepare(folder: std::path::PathBuf, kafka: Option<&Kafka>, options: &Options) -> Result<Place> {
    fs::create_dir(folder.join("logs"))?;
    let config = folder.join("chaos.config");
    let text = match kafka {
        Some(kafka) => {
            let group = match options.protocol {
                Protocol::Classic => {
                    let (session, heartbeat) = (options.session_ms, heartbeat_ms(options));
                    format!("session.timeout.ms = {session}\nheartbeat.interval.ms = {heartbeat}\n")
                }
                Protocol::Consumer => "group.protocol = consumer\n".to_owned(),
            };
            format!("[broker]\nbootstrap.servers = {}\n[consumer]\n{group}", kafka.address())
        }
        None => format!("[broker]\nbootstrap.servers = sqlite:{}\n", folder.join("chaos.db").display()),
    };
    fs::write(&config, text)?;
    let chaos = std::env::current_exe()?;
    let datamill = chaos.with_file_name("datamill");
    let job = options.job;
    ensure!(
        datamill.exists(),
        "there is no program `{}`: build it with `cargo build --release -p datamill-cli`",
        datamill.display()
    );
    let worker_options = match options.membership {
        Membership::Static => Vec::new(),
        Membership::Dynamic => vec!["--membership", "dynamic"],
    };
    Ok(Place { folder, config, datamill, chaos, job, worker_options })
}

struct Run<'a> {
    options: &'a Options,
    place: &'a Place,
    log: &'a dyn Log,
    members: Vec<Member>,
    report: Report,
}

impl Run<'_> {
    /// Uploads and disturbs until the time is over and the uploaders are done.
    fn disturb(&mut self, kafka: Option<&Kafka>) -> Result<Sent> {
        let (options, place) = (self.options, self.place);
        let stop = AtomicBool::new(false);
        let kills: Vec<AtomicBool> = (0..options.uploaders).map(|_| AtomicBool::new(false)).collect();
        let outage = AtomicBool::new(false);
        let mut numbers = (1..=3).cycle();
        thread::scope(|scope| {
            let uploaders: Vec<_> = kills
                .iter()
                .enumerate()
                .map(|(index, kill)| {
                    scope.spawn({
                        let stop = &stop;
                        move || upload::run(place, options, index, stop, kill)
                    })
                })
                .collect();
            let followed = self.follow_plan(&kills, &mut |back| {
                let Some(kafka) = kafka.filter(|_| !outage.swap(true, Ordering::Relaxed)) else { return false };
                let outage = &outage;
                let number = numbers.next().filter(|_| options.three_brokers);
                scope.spawn(move || {
                    match number {
                        Some(number) => kafka.kill9_one(number),
                        None => kafka.kill9(),
                    }
                    thread::sleep(back);
                    match number {
                        Some(number) => kafka.restart_one(number),
                        None => kafka.restart(),
                    }
                    outage.store(false, Ordering::Relaxed);
                });
                true
            });
            stop.store(true, Ordering::Relaxed);
            followed?;
            while outage.load(Ordering::Relaxed) || uploaders.iter().any(|uploader| !uploader.is_finished()) {
                self.tick()?;
            }
            let mut all = Vec::new();
            for uploader in uploaders {
                match uploader.join() {
                    Ok(sent) => all.push(sent?),
                    Err(_) => bail!("an uploader's thread panicked"),
                }
            }
            Ok(Sent::sum(all))
        })
    }

    fn follow_plan(&mut self, uploads: &[AtomicBool], break_broker: &mut dyn FnMut(Duration) -> bool) -> Result<()> {
        let started = Instant::now();
        let mut steps = plan(self.options).into_iter().peekable();
        let end = Duration::from_secs(self.options.seconds);
        let mut sabotage = self.options.control.then_some(end / 2);
        for index in 0..self.options.workers {
            let name = format!("worker-{index}");
            self.members.push(Member::new(&name, &name, None));
        }
        let mut due = Vec::new();
        while started.elapsed() < end {
            self.tick()?;
            due.extend(std::iter::from_fn(|| steps.next_if(|step| step.at <= started.elapsed())));
            // What nobody is up for is done later.
            due.retain(|step| match &step.action {
                Action::KillBroker { back } => {
                    let done = break_broker(*back);
                    self.report.broker_kills += u64::from(done);
                    !done
                }
                Action::KillUploader { uploader } => {
                    uploads[*uploader].store(true, Ordering::Relaxed);
                    false
                }
                action => !self.act(action),
            });
            if sabotage.is_some_and(|at| started.elapsed() >= at) {
                sabotage = None;
                self.forget_progress()?;
            }
        }
        self.report.skipped = due.len() + steps.count();
        self.report.disturbed = started.elapsed();
        Ok(())
    }

    /// Does something to a member. `false` when none is up for it.
    fn act(&mut self, action: &Action) -> bool {
        let (place, report) = (self.place, &mut self.report);
        if let &Action::Join { time } = action {
            let name = format!("visitor-{}", report.joins);
            self.members.push(Member::new(&name, &name, Some(time)));
            report.joins += 1;
            return true;
        }
        let workers = self.options.workers;
        let &(Action::KillWorker { worker, .. }
        | Action::KillBelow { worker, .. }
        | Action::Lose { worker, .. }
        | Action::Pause { worker, .. }
        | Action::Leave { worker, .. }
        | Action::Term { worker, .. }
        | Action::Twin { worker, .. }) = action
        else {
            return false;
        };
        let free = (0..workers).map(|i| (worker + i) % workers).find(|i| self.members[*i].is_free());
        let Some(member) = free.and_then(|i| self.members.get_mut(i)) else { return false };
        match *action {
            Action::KillWorker { back, .. } => member.kill(Some(back), place, report),
            Action::KillBelow { which, .. } => {
                let is_killed = member.kill_below(which);
                report.kills_below += u64::from(is_killed);
                return is_killed;
            }
            Action::Lose { back, .. } => {
                report.lost_hosts += 1;
                member.kill(Some(back), place, report);
            }
            Action::Pause { time, .. } => {
                report.pauses += 1;
                report.pauses_beyond_session += u64::from(time.as_millis() > u128::from(self.options.session_ms));
                member.pause(time);
            }
            Action::Leave { back, .. } => {
                report.leaves += 1;
                member.end(true, back);
            }
            Action::Term { back, .. } => {
                report.terms += 1;
                member.end(false, back);
            }
            Action::Twin { time, .. } => {
                let twin = Member::new(&format!("twin-{}", report.twins), member.instance(), Some(time));
                // The twin is told to leave after its time, and is given some more to do so.
                member.contested_until = Some(Instant::now() + time + Duration::from_secs(3));
                report.twins += 1;
                self.members.push(twin);
            }
            Action::KillBroker { .. } | Action::Join { .. } | Action::KillUploader { .. } => return false,
        }
        true
    }

    fn tick(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.tick(self.place, &mut self.report)?;
        }
        self.members.retain(|member| !member.is_over());
        thread::sleep(TICK);
        Ok(())
    }

    /// Ends all members and waits until they are gone.
    fn retire_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.retire();
        }
        while !self.members.is_empty() {
            self.tick()?;
        }
        Ok(())
    }

    /// The control: what is committed loses its progress text while nobody works.
    fn forget_progress(&mut self) -> Result<()> {
        let names: Vec<String> = (0..self.options.workers).map(|index| format!("worker-{index}")).collect();
        self.retire_all()?;
        log::forget_progress(self.log, self.options.partitions)?;
        self.members.extend(names.iter().map(|name| Member::new(name, name, None)));
        Ok(())
    }

    /// Lets the workers finish, and counts.
    fn finish(&mut self, sent: &Sent) -> Result<Verdict> {
        let until_ms = now_ms();
        for member in &mut self.members {
            member.resume();
            member.contested_until = None;
            if member.leaves_at.is_some() {
                member.retire();
            }
        }
        let (uploads, records) = log::uploads(self.log)?;
        self.report.records = records;
        self.report.bytes = sent.bytes;
        self.report.uploader_kills = sent.kills;
        for text in &sent.refused {
            *self.report.exits.entry(text.clone()).or_default() += 1;
        }
        self.report.faults.extend(sent.faults(&uploads));
        self.wait_for(&uploads)?;
        self.tick_for(LINGER)?;
        self.retire_all()?;
        self.last_start()?;
        let results = log::results(self.log)?;
        let mut verdict = self.count(&uploads)?;
        verdict.faults.append(&mut self.report.faults);
        self.report.measure(&results, until_ms);
        Ok(verdict)
    }

    fn count(&self, uploads: &Uploads) -> Result<Verdict> {
        let failures = log::failures(self.log)?;
        Ok(match self.options.job {
            Job::Reproduce | Job::Command | Job::Worker => check(uploads, &log::results(self.log)?, &failures),
            Job::Download => mirror::check(uploads, &log::newest(self.log)?, &failures, self.place)?,
        })
    }

    fn tick_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick()?;
        }
        Ok(())
    }

    fn wait_for(&mut self, uploads: &Uploads) -> Result<()> {
        let (mut least, mut moved) = (usize::MAX, Instant::now());
        let patience = STALLED + 2 * Duration::from_millis(self.options.session_ms);
        while moved.elapsed() < patience {
            let lost = self.count(uploads)?.lost;
            if lost == 0 {
                return Ok(());
            }
            if lost < least {
                (least, moved) = (lost, Instant::now());
            }
            self.tick_for(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// One more worker finds nothing to do.
    fn last_start(&mut self) -> Result<()> {
        let member = Member::new("last", "last", None);
        let mut command = member.command(self.place, &["--exit-at-end"]);
        let status = command.stderr(self.place.log("last")?).status()?;
        if !matches!(status.code(), Some(0 | 1)) {
            let line = last_line(&self.place.log_path("last"));
            self.report.faults.push(format!("the last worker ended with {status}: {line}"));
        }
        Ok(())
    }
}
