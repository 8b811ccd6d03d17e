//! How an account logs in: what this build can do, and what a login cannot do without. librdkafka says of it only what
//! it was built with, or waits for ever.

use super::config::View;
use crate::error::{Error, ErrorKind, Result};

/// The mechanisms that need nothing but a name and a password.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What `security.protocol` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) encrypted: bool,
    pub(super) login: bool,
}

impl Protocol {
    pub(super) fn of(view: View<'_>) -> Self {
        let name = view.get("security.protocol").unwrap_or_default().to_lowercase();
        Self { encrypted: name.ends_with("ssl"), login: name.starts_with("sasl") }
    }

    pub(super) fn name(self) -> &'static str {
        match (self.login, self.encrypted) {
            (false, false) => "PLAINTEXT",
            (false, true) => "SSL",
            (true, false) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        }
    }
}

/// Refuses a login that cannot work, and returns what is odd about one that is not used.
pub(super) fn check(view: View<'_>) -> Result<Option<String>> {
    let protocol = Protocol::of(view);
    if !protocol.login {
        let unused = ["sasl.password", "sasl.username"].into_iter().find(|key| view.get(key).is_some());
        return Ok(unused.map(|key| {
            let (name, other) = (protocol.name(), Protocol { login: true, ..protocol }.name());
            format!("`{key}` has no effect: there is no login with `security.protocol = {name}`, but with {other}")
        }));
    }
    match view.get("sasl.mechanism") {
        Some(mechanism) if MECHANISMS.contains(&mechanism) => {
            match ["sasl.username", "sasl.password"].into_iter().find(|key| view.get(key).is_none()) {
                Some(key) => Err(refused(format!("`{key}` is not set, and the login with {mechanism} needs it"))),
                None => Ok(None),
            }
        }
        // A token that nobody has signed, for trying out.
        Some("OAUTHBEARER") if view.get("enable.sasl.oauthbearer.unsecure.jwt") == Some("true") => Ok(None),
        Some("OAUTHBEARER") => {
            let why = "the login with OAUTHBEARER needs tokens from an identity provider (OIDC), which is not built in";
            Err(refused(format!("{why}: {}", others())))
        }
        Some("GSSAPI") => Err(refused(format!("the login with GSSAPI (Kerberos) is not built in: {}", others()))),
        None => Err(refused(format!(
            "`security.protocol = {}` needs `sasl.mechanism`: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, as the broker has it",
            protocol.name()
        ))),
        Some(_) => {
            let text =
                "`sasl.mechanism` must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, in capitals, as the broker has it";
            Err(refused(text.to_owned()))
        }
    }
}

fn others() -> &'static str {
    "possible are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; ask who runs the broker for such an account, or use a \
    certificate (`security.protocol = SSL`)"
}

fn refused(text: String) -> Error {
    Error::new(ErrorKind::Settings, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn checked(pairs: &[(&str, &str)]) -> Result<Option<String>> {
        let own: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        check(View::new(&own, &BTreeMap::new()))
    }

    const USER: [(&str, &str); 2] = [("sasl.username", "me"), ("sasl.password", "hunter2")];

    #[test]
    fn a_login_that_this_build_cannot_do_is_refused_with_those_that_it_can() {
        for (mechanism, parts) in [
            (None, ["needs `sasl.mechanism`", "SASL_SSL", "SCRAM-SHA-512"]),
            (Some("GSSAPI"), ["(Kerberos) is not built in", "possible are PLAIN", "SCRAM-SHA-512"]),
            (Some("OAUTHBEARER"), ["identity provider (OIDC)", "not built in", "possible are PLAIN"]),
            (Some("scram-sha-512"), ["must be PLAIN", "SCRAM-SHA-512", "in capitals"]),
            (Some("hunter2"), ["must be PLAIN", "SCRAM-SHA-512", "in capitals"]),
        ] {
            let mut pairs = vec![("security.protocol", "SASL_SSL"), USER[0], USER[1]];
            pairs.extend(mechanism.map(|mechanism| ("sasl.mechanism", mechanism)));
            let error = checked(&pairs).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("hunter"), "{mechanism:?}: {text}");
        }
        for mechanism in MECHANISMS {
            let login = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", mechanism)];
            assert_eq!(checked(&[login[0], login[1], USER[0], USER[1]]).unwrap(), None);
            for (given, missing) in [(USER[0], "`sasl.password` is not set"), (USER[1], "`sasl.username` is not set")] {
                let text = checked(&[login[0], login[1], given]).unwrap_err().to_string();
                assert!(text.contains(missing) && text.contains(mechanism), "{text}");
            }
        }
    }

    #[test]
    fn a_login_that_is_not_used_is_told() {
        let text = checked(&USER).unwrap().unwrap();
        assert!(text.contains("`sasl.password` has no effect") && text.contains("with SASL_PLAINTEXT"), "{text}");
        let text = checked(&[("security.protocol", "SSL"), USER[0]]).unwrap().unwrap();
        assert!(text.contains("`sasl.username` has no effect") && text.contains("with SASL_SSL"), "{text}");
        assert_eq!(checked(&[]).unwrap(), None);
    }
}
