//! The account that a program uses, in errors about what it lacks: the command that gives a permission names it. Whatever
//! leaves the log goes through here, so no part of it has to know who logs in.

use std::sync::Arc;
use std::time::Duration;

use super::config::View;
use super::login::Protocol;
use crate::contract::{
    Commit, CommitOutcome, Committer, Delivery, Event, NewRecord, Publisher, Reader, Session, Subscription,
};
use crate::error::{Error, Result};

/// The name that is logged in with. Empty where there is no login by a name: what a broker calls a client with a
/// certificate is for the broker to say.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Option<Arc<str>>);

impl Account {
    pub(super) fn of(view: View<'_>) -> Self {
        Self(view.get("sasl.username").filter(|_| Protocol::of(view).login).map(Into::into))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Names it in an error about a permission.
    pub(super) fn names<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.named(error))
    }

    fn named(&self, error: Error) -> Error {
        match self.as_str() {
            Some(account) => error.of_account(account),
            None => error,
        }
    }

    pub(super) fn publisher(&self, publisher: impl Publisher + 'static) -> Box<dyn Publisher> {
        Box::new(Named { account: self.clone(), of: publisher })
    }

    pub(super) fn reader(&self, reader: impl Reader + 'static) -> Box<dyn Reader> {
        Box::new(Named { account: self.clone(), of: reader })
    }

    pub(super) fn session(&self, session: Session) -> Session {
        let account = self.clone();
        Session {
            subscription: Box::new(Named { account: account.clone(), of: session.subscription }),
            committer: Box::new(Named { account, of: session.committer }),
        }
    }
}

/// A part of the log whose errors name the account.
struct Named<T> {
    account: Account,
    of: T,
}

impl<T: Publisher> Publisher for Named<T> {
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()> {
        self.account.names(self.of.send(record, token))
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize> {
        let Self { account, of } = self;
        account.names(of.poll(timeout, &mut |Delivery { token, outcome }| {
            sink(Delivery { token, outcome: account.names(outcome) });
        }))
    }

    fn in_flight(&self) -> usize {
        self.of.in_flight()
    }
}

impl<T: Reader> Reader for Named<T> {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        self.account.names(self.of.poll(timeout, sink))
    }

    fn go_to(&mut self, starts: &[(i32, i64)]) -> Result<()> {
        self.account.names(self.of.go_to(starts))
    }
}

impl Subscription for Named<Box<dyn Subscription>> {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        self.account.names(self.of.poll(timeout, sink))
    }

    fn hold(&mut self) -> Result<()> {
        self.account.names(self.of.hold())
    }

    fn resume(&mut self) -> Result<()> {
        self.account.names(self.of.resume())
    }

    fn hold_partitions(&mut self, held: &[(Arc<str>, i32)]) -> Result<()> {
        self.account.names(self.of.hold_partitions(held))
    }

    fn close(self: Box<Self>, leave: bool) -> Result<()> {
        let Self { account, of } = *self;
        account.names(of.close(leave))
    }
}

impl Committer for Named<Box<dyn Committer>> {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        let named = |error| self.account.named(error);
        match self.of.commit(commit) {
            CommitOutcome::Again(error) => CommitOutcome::Again(named(error)),
            CommitOutcome::Unknown(error) => CommitOutcome::Unknown(named(error)),
            CommitOutcome::RecordsRefused(refused) => {
                CommitOutcome::RecordsRefused(refused.into_iter().map(|(index, error)| (index, named(error))).collect())
            }
            outcome @ (CommitOutcome::Done(_) | CommitOutcome::NotOwner(_)) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Account {
        let own: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Account::of(View::new(&own, &BTreeMap::new()))
    }

    #[test]
    fn an_account_has_a_name_where_there_is_a_login_by_a_name() {
        let user = ("sasl.username", "lab");
        for protocol in ["SASL_SSL", "sasl_plaintext"] {
            assert_eq!(of(&[("security.protocol", protocol), user]).as_str(), Some("lab"));
        }
        for no_login in [&[user][..], &[("security.protocol", "SSL"), user], &[("security.protocol", "SASL_SSL")]] {
            assert_eq!(of(no_login).as_str(), None);
        }
    }
}
