//! The state of the connection, which all clients of one log share: an outage is said once however many clients notice
//! it, and said again where its cause changes or it stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode as Code;
use tracing::{info, warn};

use super::absent::Absent;
use super::failure::Reason;
use super::listener::Cause;
use super::throttle::Throttle;
use crate::error::{Error, ErrorKind};
use crate::examined::{CHECK_LOGIN, Outage};

/// How long logins may be refused before the log counts as one that this account has no part in, unless the settings say
/// otherwise: who mends a password on the broker has this time.
pub(super) const LOGIN_GRACE: Duration = Duration::from_secs(120);

/// A refused login that long after the one before begins a new row of them. Clients try again sooner.
const APART: Duration = Duration::from_secs(60);

/// As long as a login was refused within this time, some client is still refused.
const FRESH: Duration = Duration::from_secs(20);

/// How often trouble that stays is said again.
pub(super) const REMINDER: Duration = Duration::from_secs(180);

/// How long a broker that does not answer is waited for once the program is to stop.
const LAST_SILENCE: Duration = Duration::from_secs(5);

/// The state of the connection as all clients of one log see it.
pub(super) struct Watch {
    suspect: AtomicBool,
    stops: AtomicBool,
    given_up: AtomicBool,
    login_grace: Duration,
    state: Mutex<State>,
    pub(super) throttle: Throttle,
    pub(super) absent: Absent,
}

#[derive(Default)]
struct State {
    trouble: Option<(Code, String)>,
    cause: Option<Cause>,
    /// What was said of this outage, and when last.
    told: Vec<(String, Instant)>,
    /// Nobody answered, and why was not known.
    unsure: bool,
    /// The first and the last of a row of refused logins.
    refused: Option<(Instant, Instant)>,
    /// When this outage was told first.
    since: Option<Instant>,
    /// The last answer, or the request to stop where that came later.
    heard: Option<Instant>,
}

impl State {
    /// What asking the broker found out, where the trouble is still about that.
    fn explained(&self) -> Option<&Cause> {
        let (code, reason) = self.trouble.as_ref()?;
        self.cause.as_ref().filter(|_| is_about_encryption(*code, reason))
    }

    /// Whether some client is refused the login, as far as is known.
    fn is_refused(&self) -> bool {
        self.refused.is_some_and(|(_, last)| last.elapsed() < FRESH)
    }
}

impl Watch {
    pub(super) fn new(login_grace: Duration) -> Self {
        Self {
            suspect: AtomicBool::new(false),
            stops: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            login_grace,
            state: Mutex::default(),
            throttle: Throttle::default(),
            absent: Absent::default(),
        }
    }

    /// librdkafka says that something is wrong.
    pub(super) fn note(&self, code: Code, reason: &str) {
        let code = if broke_in_login(code, reason) { Code::BrokerTransportFailure } else { code };
        match code {
            // Idle connections are closed too: only asking tells an outage from that.
            Code::AllBrokersDown => self.suspect.store(true, Ordering::Relaxed),
            Code::BrokerTransportFailure | Code::Resolve | Code::SSL | Code::Authentication => {
                self.absent.note(code, reason, Instant::now());
                let mut state = self.state.lock();
                if code == Code::Authentication {
                    let now = Instant::now();
                    let row = state.refused.filter(|(_, last)| now.duration_since(*last) < APART);
                    state.refused = Some((row.map_or(now, |(first, _)| first), now));
                }
                state.trouble = Some((code, reason.to_owned()));
            }
            _ => {}
        }
    }

    /// Every server has refused or dropped the connection since the last call of [`Watch::answered`].
    pub(super) fn suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// A question had no answer.
    pub(super) fn suspects(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Whether the broker has to be asked how it is.
    pub(super) fn is_doubtful(&self) -> bool {
        self.suspect() || self.is_away() || self.stops()
    }

    /// The program is to stop: a broker that does not answer from here on is waited for no longer than
    /// [`LAST_SILENCE`].
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        if !self.stops.swap(true, Ordering::Relaxed) {
            state.heard = Some(Instant::now());
        }
    }

    /// Whether the program is to stop.
    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// Whether nobody waits for an answer any more, since the program is to stop and none comes. Stays so.
    pub(super) fn is_given_up(&self) -> bool {
        if !self.stops() || self.given_up.load(Ordering::Relaxed) {
            return self.given_up.load(Ordering::Relaxed);
        }
        let is_silent = self.state.lock().heard.is_some_and(|heard| heard.elapsed() >= LAST_SILENCE);
        if is_silent {
            self.given_up.store(true, Ordering::Relaxed);
        }
        is_silent
    }

    /// How long a call may wait that would wait so long: once the program is to stop, no longer than until the broker is
    /// given up.
    pub(super) fn at_most(&self, limit: Duration) -> Duration {
        if !self.stops() {
            return limit;
        }
        let heard = self.state.lock().heard.map_or(Duration::ZERO, |heard| heard.elapsed());
        limit.min(LAST_SILENCE.saturating_sub(heard))
    }

    /// It was said that the broker is away, or refuses the login, and it is so still.
    pub(super) fn is_away(&self) -> bool {
        !self.state.lock().told.is_empty()
    }

    /// Since when the broker is away, and how that shows.
    pub(super) fn outage(&self, servers: &str) -> Option<Outage> {
        let is_given_up = self.is_given_up();
        let state = self.state.lock();
        let since = state.since.or(state.heard.filter(|_| is_given_up))?;
        let cause = match &state.trouble {
            Some((code, reason)) => match state.explained() {
                Some(cause) => cause.text.clone(),
                None => format!("it {} ({reason})", in_words(*code, reason)),
            },
            None => format!("it {NO_ANSWER}"),
        };
        let refuses_login = state.is_refused();
        Some(Outage { lasts: since.elapsed(), log: format!("broker `{servers}`"), cause, refuses_login })
    }

    /// What a connection failed at last, in librdkafka's words.
    pub(super) fn trouble(&self) -> Option<(Code, Reason)> {
        self.state.lock().trouble.as_ref().map(|(code, reason)| (*code, Reason(reason.clone())))
    }

    /// What the trouble is that librdkafka has words for, if asking the broker has told.
    pub(super) fn explain(&self, cause: Option<Cause>) {
        self.state.lock().cause = cause;
    }

    /// The error where logins were refused for so long, by any of the servers, that only a person can mend it.
    pub(super) fn check_login(&self, servers: &str) -> Result<(), Error> {
        let state = self.state.lock();
        let Some((first, last)) = state.refused else { return Ok(()) };
        let lasts = last.duration_since(first);
        if lasts < self.login_grace || last.elapsed() > APART {
            return Ok(());
        }
        let text = format!(
            "broker `{servers}` has refused the login for {} s: {CHECK_LOGIN}. Nothing is lost: start again once they are \
            right",
            lasts.as_secs()
        );
        let reason = state.trouble.as_ref().filter(|(code, _)| *code == Code::Authentication);
        Err(match reason {
            Some((_, reason)) => Error::with_source(ErrorKind::Denied, text, Reason(reason.clone())),
            None => Error::new(ErrorKind::Denied, text),
        })
    }

    /// A broker answered. Over an old connection it does so also where it takes no login.
    pub(super) fn answered(&self, servers: &str) {
        if self.suspect.swap(false, Ordering::Relaxed) {
            self.absent.clear();
        }
        let mut state = self.state.lock();
        if state.is_refused() {
            return self.tell(&mut state, servers);
        }
        let lasted = state.since.map_or(0, |since| since.elapsed().as_secs());
        (state.trouble, state.cause, state.since, state.unsure) = (None, None, None, false);
        state.heard = Some(Instant::now());
        if !std::mem::take(&mut state.told).is_empty() {
            info!("broker `{servers}` is back, after {lasted} s");
        }
    }

    /// No broker answers.
    pub(super) fn silent(&self, servers: &str) {
        self.tell(&mut self.state.lock(), servers);
    }

    /// Says what is wrong: once, again when it is something else, and from time to time. Of several servers, each may do
    /// something else.
    fn tell(&self, state: &mut State, servers: &str) {
        if self.stops() {
            // the end says it
            return;
        }
        let trouble = state.trouble.as_ref();
        if trouble.is_none() && state.told.is_empty() && !std::mem::replace(&mut state.unsure, true) {
            return;
        }
        let what = trouble.map_or(NO_ANSWER, |(code, reason)| in_words(*code, reason));
        let (kind, text) = match state.explained() {
            Some(cause) => (cause.kind.clone(), cause.text.clone()),
            None => (what.to_owned(), format!("it {what}")),
        };
        match state.told.iter_mut().find(|(told, _)| *told == kind) {
            Some((_, at)) if at.elapsed() < REMINDER => return,
            Some((_, at)) => *at = Instant::now(),
            None => state.told.push((kind, Instant::now())),
        }
        let lasts = state.since.get_or_insert_with(Instant::now).elapsed().as_secs();
        let since = if lasts == 0 { String::new() } else { format!(", for {lasts} s now") };
        let reason = state.trouble.as_ref().map_or("no answer", |(_, reason)| reason);
        if what == NO_LOGIN {
            warn!(
                error = %reason,
                "broker `{servers}` {NO_LOGIN}{since}: {CHECK_LOGIN}. Nothing is lost, and the work goes on once the login is \
                accepted; if it is refused for {} s, the program ends",
                self.login_grace.as_secs()
            );
        } else {
            warn!(
                error = %reason,
                "broker `{servers}` is away{since}: {text}. Nothing is lost, and the work goes on once it is back"
            );
        }
    }
}

const NO_ANSWER: &str = "does not answer";
const NO_LOGIN: &str = "refuses the login";

/// Whether a connection broke while the client logged in, as it may where the broker is slow or throttles the account. For
/// librdkafka the login has failed then; nobody has refused it.
fn broke_in_login(code: Code, reason: &str) -> bool {
    code == Code::Authentication
        && ["Local: Broker transport failure", "Local: Timed out"].iter().any(|s| reason.contains(s))
}

/// Whether asking the broker tells more than librdkafka's words.
pub(super) fn is_about_encryption(code: Code, reason: &str) -> bool {
    code == Code::SSL || reason.contains("SSL_HANDSHAKE")
}

/// What a broker does, as far as librdkafka's words tell.
pub(super) fn in_words(code: Code, reason: &str) -> &'static str {
    let says = |words: &str| reason.to_ascii_lowercase().contains(words);
    match code {
        Code::Authentication => NO_LOGIN,
        Code::Resolve => "has a name that is not known",
        Code::SSL if says("expired") => "shows a certificate that has expired",
        Code::SSL if says("verif") => "shows a certificate that is not trusted",
        Code::SSL => "does not encrypt as it should",
        _ if says("connection refused") => "refuses the connection",
        _ if says("disconnected") || says("closed") || says("reset") => "closes the connection",
        _ => NO_ANSWER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(watch: &Watch) -> Vec<String> {
        watch.state.lock().told.iter().map(|(what, _)| what.clone()).collect()
    }

    #[test]
    fn an_outage_is_told_once_and_ends_once() {
        let watch = Watch::new(LOGIN_GRACE);
        watch.note(Code::AllBrokersDown, "1/1 brokers are down");
        watch.note(Code::BrokerTransportFailure, "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        assert!(watch.suspect());
        watch.silent("here");
        let first = watch.state.lock().told.clone();
        watch.silent("here");
        assert_eq!(first, watch.state.lock().told);
        assert_eq!(told(&watch), ["refuses the connection"]);
        watch.answered("here");
        assert!(!watch.suspect() && !watch.is_doubtful() && watch.trouble().is_none());
    }

    #[test]
    fn a_broker_is_given_up_once_it_is_silent_after_a_stop_and_for_good() {
        let (watch, ago) = (Watch::new(LOGIN_GRACE), |time| Instant::now().checked_sub(time));
        watch.silent("here");
        watch.silent("here");
        watch.state.lock().heard = ago(LAST_SILENCE);
        assert!(watch.is_away() && !watch.is_given_up(), "no stop was asked for");
        assert_eq!(watch.at_most(LOGIN_GRACE), LOGIN_GRACE);
        watch.stop();
        assert!(!watch.is_given_up() && watch.at_most(LOGIN_GRACE) <= LAST_SILENCE);
        watch.state.lock().heard = ago(LAST_SILENCE);
        watch.stop();
        watch.answered("here");
        assert!(!watch.is_given_up(), "it answers");
        assert!(watch.outage("here").is_none());
        watch.state.lock().heard = ago(LAST_SILENCE);
        assert_eq!(watch.at_most(LOGIN_GRACE), Duration::ZERO);
        let outage = watch.outage("here").expect("it is silent");
        assert_eq!((&*outage.to_string(), outage.why()), ("broker `here` is away", "it does not answer"));
        watch.answered("here");
        assert!(watch.is_given_up());
    }

    #[test]
    fn a_cause_that_changes_is_told_and_one_that_stays_is_told_again() {
        let watch = Watch::new(LOGIN_GRACE);
        let causes = [
            (
                Code::BrokerTransportFailure,
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                "refuses the connection",
            ),
            (
                Code::SSL,
                "SSL handshake failed: certificate verify failed: certificate has expired",
                "shows a certificate that has expired",
            ),
            (Code::BrokerTransportFailure, "Disconnected while requesting ApiVersion", "closes the connection"),
            (Code::Authentication, "SASL authentication error", NO_LOGIN),
            (Code::Resolve, "Failed to resolve 'b:1'", "has a name that is not known"),
            (Code::BrokerTransportFailure, "Connection setup timed out in state CONNECT", NO_ANSWER),
        ];
        for (code, reason, what) in causes {
            watch.note(code, reason);
            watch.silent("here");
            assert_eq!(told(&watch).last().unwrap(), what);
        }
        assert_eq!(told(&watch).len(), causes.len());
        let before = Instant::now().checked_sub(REMINDER).unwrap();
        watch.state.lock().told = vec![(NO_ANSWER.to_owned(), before)];
        watch.silent("here");
        assert!(watch.state.lock().told[0].1 > before);
    }

    #[test]
    fn what_asking_the_broker_finds_out_is_told_in_the_place_of_librdkafkas_words() {
        let watch = Watch::new(LOGIN_GRACE);
        let cause = |kind: &str, text: &str| Some(Cause { kind: kind.to_owned(), text: text.to_owned() });
        let refused = || watch.note(Code::SSL, "SSL handshake failed: certificate verify failed");
        refused();
        for at in ["at noon", "at one"] {
            watch.explain(cause("expired", at));
            watch.silent("here");
            refused();
        }
        assert_eq!(told(&watch), ["expired"], "the clock alone is no other cause");
        watch.explain(cause("another host", "it is for another host"));
        watch.silent("here");
        watch.note(Code::BrokerTransportFailure, "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        watch.silent("here");
        assert_eq!(told(&watch), ["expired", "another host", "refuses the connection"]);
    }

    #[test]
    fn a_connection_that_breaks_during_a_login_is_no_refused_login() {
        let watch = Watch::new(Duration::ZERO);
        let broke = "SASL PLAIN mechanism handshake failed: Local: Broker transport failure (after 0ms in state DOWN)";
        watch.note(Code::Authentication, broke);
        watch.silent("here");
        assert_eq!(told(&watch), [NO_ANSWER]);
        watch.check_login("here").unwrap();
    }

    #[test]
    fn logins_that_are_refused_for_long_are_an_error_whatever_an_old_connection_answers() {
        let watch = Watch::new(Duration::from_secs(5));
        watch.note(Code::Authentication, "authentication failed");
        watch.note(Code::AllBrokersDown, "1/1 brokers are down");
        watch.answered("here");
        assert_eq!(told(&watch), [NO_LOGIN]);
        let outage = watch.outage("here").unwrap();
        assert_eq!((outage.refuses_login, &*outage.to_string()), (true, "broker `here` refuses the login"));
        assert!(outage.why().contains("`sasl.password`"), "{}", outage.why());
        watch.check_login("here").unwrap();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        // the row goes on
        watch.state.lock().refused = Some((ago(6), ago(2)));
        watch.note(Code::Authentication, "authentication failed");
        let error = watch.check_login("here").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("`sasl.password`"), "{error}");
        // one long ago is of no row
        watch.state.lock().refused = Some((ago(90), ago(70)));
        watch.check_login("here").unwrap();
        watch.note(Code::Authentication, "authentication failed");
        watch.check_login("here").unwrap();
        // and the login is good again
        watch.state.lock().refused = Some((ago(26), ago(24)));
        watch.answered("here");
        assert!(told(&watch).is_empty());
    }
}
