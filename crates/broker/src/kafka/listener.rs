//! What stands behind an address, asked where a connection fails: whether it encrypts, whether it asks for a login, and
//! what is wrong with its certificate. librdkafka says little of that, often names another cause, and tries for ever.
//!
//! ```text
//! TLS ──handshake──▶ certificate, checked as librdkafka checks it ──┐
//!  └─ no TLS: plain ────────────────────────────────────────────────┴─SaslHandshake──▶ login or none, mechanisms
//! ```

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509NameRef, X509Ref, X509StoreContextRef};
use parking_lot::Mutex;

use super::config::View;
use super::login::Protocol;
use crate::error::{Error, ErrorKind};

/// How long each step of a question may take.
const STEP: Duration = Duration::from_secs(5);

/// A question after the mechanisms of a login: size, api 17 (SaslHandshake) version 1, number 1, no name of the client,
/// mechanism `PLAIN`. A listener without a login refuses it.
const SASL_HANDSHAKE: &[u8] = b"\0\0\0\x11\0\x11\0\x01\0\0\0\x01\xff\xff\0\x05PLAIN";

/// The broker's codes for a mechanism that it does not have, and for a question after a login where there is none.
const UNSUPPORTED_MECHANISM: i16 = 33;
const NO_LOGIN_HERE: i16 = 34;

/// Largest answer that is read, bytes.
const ANSWER_BYTES: usize = 10_000;

/// What is wrong with a certificate: OpenSSL's numbers, and words. `None` before one was shown.
type Seen = Arc<Mutex<Option<Vec<(i32, String)>>>>;

/// What a listener is.
#[derive(Debug, Default)]
struct Listener {
    encrypted: bool,
    /// Why its certificate is not accepted: OpenSSL's numbers, and words.
    refusals: Vec<(i32, String)>,
    /// It wants a certificate of the client.
    wants_certificate: bool,
    /// The mechanisms of its login, none where it takes no login; `None` where it did not say.
    mechanisms: Option<Vec<String>>,
}

/// What does not fit between a broker and this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// The same for as long as the cause is.
    pub(super) kind: String,
    /// For people.
    pub(super) text: String,
}

impl From<String> for Cause {
    /// A cause whose words stay as they are.
    fn from(text: String) -> Self {
        Self { kind: text.clone(), text }
    }
}

/// The error for a connection that failed with these words of librdkafka, where asking the broker once more says what
/// is wrong.
pub(super) fn explain(reason: &str, servers: &str, view: View<'_>) -> Option<Error> {
    let (address, listener) = look(reason, servers, view)?;
    judge(address, &listener, view).map(|cause| Error::new(ErrorKind::Settings, cause.text))
}

/// As [`explain`], for a program that runs. It uses the authorities that it read at its start: `has_new` tells whether the
/// file of them is another one now.
pub(super) fn cause(reason: &str, servers: &str, view: View<'_>, has_new: bool) -> Option<Cause> {
    let (address, listener) = look(reason, servers, view)?;
    judge(address, &listener, view).or_else(|| {
        (has_new && listener.encrypted).then(|| {
            let text = format!(
                "the certificate of broker `{address}` is not accepted by the authorities that this program read at its start, \
                and fits those that are in `ssl.ca.location` now: start the program again"
            );
            text.into()
        })
    })
}

/// Asks the broker that librdkafka's words name, or the first one.
fn look<'a>(reason: &'a str, servers: &'a str, view: View<'_>) -> Option<(&'a str, Listener)> {
    let address = address(reason).or_else(|| servers.split(',').next())?.trim();
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let place = (host, port.parse().ok()?);
    let stream = connect(place).ok()?;
    Some((address, encrypted(place.0, stream, view).or_else(|| plain(place))?))
}

/// The address in librdkafka's "sasl_ssl://HOST:PORT/bootstrap: …".
pub(super) fn address(reason: &str) -> Option<&str> {
    let (name, _) = reason.split_once(": ")?;
    let name = name.split_once("://").map_or(name, |(_, name)| name);
    name.split_once('/').map(|(address, _)| address).filter(|address| address.contains(':'))
}

/// What is wrong between a listener and the settings.
fn judge(address: &str, listener: &Listener, view: View<'_>) -> Option<Cause> {
    let asked = Protocol::of(view);
    let login = listener.mechanisms.as_ref().map_or(asked.login, |mechanisms| !mechanisms.is_empty());
    let found = Protocol { encrypted: listener.encrypted, login };
    let mechanisms = listener.mechanisms.as_deref().unwrap_or_default().join(", ");
    if found != asked {
        let with = if mechanisms.is_empty() { String::new() } else { format!(", and a login with {mechanisms}") };
        let text = format!(
            "broker `{address}` asks for `security.protocol = {}`{with}; the connection was tried with {}",
            found.name(),
            asked.name(),
        );
        return Some(text.into());
    }
    if listener.encrypted && !listener.refusals.is_empty() {
        let (numbers, words): (Vec<i32>, Vec<&str>) =
            listener.refusals.iter().map(|(number, words)| (*number, words.as_str())).unzip();
        let text = format!("the certificate of broker `{address}` is not accepted: {}", words.join("; "));
        return Some(Cause { kind: format!("certificate of {address}: {numbers:?}"), text });
    }
    if listener.wants_certificate {
        let own = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
        let text = match own.into_iter().find(|key| view.get(key).is_some()) {
            Some(key) => format!(
                "broker `{address}` does not accept the certificate in `{key}`: is it valid, and signed by an authority that \
                the broker knows?"
            ),
            None => format!(
                "broker `{address}` wants a certificate of this program: set `ssl.certificate.location` and `ssl.key.location`, \
                or `ssl.keystore.location`"
            ),
        };
        return Some(text.into());
    }
    let mechanism = view.get("sasl.mechanism").filter(|_| asked.login && !mechanisms.is_empty())?;
    let has_it = mechanisms.split(", ").any(|known| known == mechanism);
    (!has_it).then(|| {
        format!("broker `{address}` has no login with {mechanism}, but with {mechanisms}: set `sasl.mechanism`").into()
    })
}

fn connect(place: (&str, u16)) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP) {
            Ok(stream) => {
                stream.set_read_timeout(Some(STEP))?;
                stream.set_write_timeout(Some(STEP))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The listener, if it answers a beginning of TLS.
fn encrypted(host: &str, stream: TcpStream, view: View<'_>) -> Option<Listener> {
    let seen = Seen::default();
    let context = context(host, view, &seen).ok()?;
    let mut ssl = Ssl::new(&context).ok()?;
    match host.parse::<IpAddr>() {
        Ok(ip) => ssl.param_mut().set_ip(ip).ok()?,
        Err(_) => {
            ssl.set_hostname(host).ok()?;
            ssl.param_mut().set_host(host).ok()?;
        }
    }
    let (mechanisms, wants_certificate) = match ssl.connect(stream) {
        // From TLS 1.3 on, a client whose certificate is missing hears of it behind the handshake, if at all.
        Ok(mut stream) => match ask(&mut stream) {
            Ok(mechanisms) => (mechanisms, false),
            Err(error) => (None, !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)),
        },
        Err(error) => (None, error.to_string().contains("certificate")),
    };
    // Where no certificate was shown, that was no TLS.
    let refusals = seen.lock().take()?;
    Some(Listener { encrypted: true, refusals, wants_certificate, mechanisms })
}

/// The listener, if it answers Kafka's questions without TLS.
fn plain(place: (&str, u16)) -> Option<Listener> {
    let mechanisms = ask(&mut connect(place).ok()?).ok()??;
    Some(Listener { mechanisms: Some(mechanisms), ..Listener::default() })
}

/// Asks after the mechanisms of a login; `None` where the answer is not one of Kafka.
fn ask(stream: &mut (impl Read + Write)) -> io::Result<Option<Vec<String>>> {
    stream.write_all(SASL_HANDSHAKE)?;
    stream.flush()?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let Some(size) = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size <= ANSWER_BYTES) else {
        return Ok(None);
    };
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    Ok(mechanisms(&answer))
}

/// The mechanisms in an answer: number of the question, code, array of texts.
fn mechanisms(answer: &[u8]) -> Option<Vec<String>> {
    let (number, rest) = answer.split_first_chunk::<4>()?;
    let (code, rest) = rest.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    if i32::from_be_bytes(*number) != 1 {
        return None;
    }
    match i16::from_be_bytes(*code) {
        0 | UNSUPPORTED_MECHANISM => {}
        NO_LOGIN_HERE => return Some(Vec::new()),
        _ => return None,
    }
    let mut found = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (name, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        found.push(String::from_utf8_lossy(name).escape_debug().to_string());
        rest = after;
    }
    Some(found)
}

/// A context with the authorities that librdkafka knows, which takes every certificate and notes what is wrong with it.
fn context(host: &str, view: View<'_>, seen: &Seen) -> Result<SslContext, ErrorStack> {
    let mut builder = SslContext::builder(SslMethod::tls_client())?;
    let authorities = match (view.get("ssl.ca.location").filter(|path| *path != "probe"), view.get("ssl.ca.pem")) {
        (Some(path), _) if Path::new(path).is_dir() => {
            builder.load_verify_locations(None, Some(Path::new(path)))?;
            format!("in folder `{path}`")
        }
        (Some(path), _) => {
            builder.set_ca_file(path)?;
            format!("in `{path}`")
        }
        (None, Some(pem)) => {
            for authority in X509::stack_from_pem(pem.as_bytes())? {
                builder.cert_store_mut().add_cert(authority)?;
            }
            "in `ssl.ca.pem`".to_owned()
        }
        (None, None) => {
            let found = openssl_probe::probe();
            // Paths that are no text are not for OpenSSL.
            if let Some(file) = found.cert_file.filter(|file| file.to_str().is_some()) {
                builder.set_ca_file(file)?;
            }
            for folder in found.cert_dir.iter().filter(|folder| folder.to_str().is_some()) {
                builder.load_verify_locations(None, Some(folder))?;
            }
            "of this machine".to_owned()
        }
    };
    let is_set = |key: &str, off: &str| !view.get(key).is_some_and(|value| value.eq_ignore_ascii_case(off));
    let verifies = is_set("enable.ssl.certificate.verification", "false");
    let names = is_set("ssl.endpoint.identification.algorithm", "none");
    let (host, seen) = (host.to_owned(), seen.clone());
    builder.set_verify_callback(SslVerifyMode::PEER, move |is_fine, at| {
        let mut seen = seen.lock();
        let refusals = seen.get_or_insert_default();
        if !is_fine
            && verifies
            && let Some(refusal) = refusal(at, &host, &authorities, names)
            && refusals.iter().all(|(_, known)| *known != refusal)
        {
            refusals.push((at.error().as_raw(), refusal));
        }
        true
    });
    Ok(builder.build())
}

/// What OpenSSL does not accept in a certificate, in words; `None` for names that are not to be checked.
fn refusal(at: &X509StoreContextRef, host: &str, authorities: &str, names: bool) -> Option<String> {
    let error = at.error();
    let Some(certificate) = at.current_cert() else {
        return Some(error.error_string().to_owned());
    };
    let clock = || Asn1Time::days_from_now(0).map_or_else(|_| "another time".to_owned(), |now| now.to_string());
    let who = if at.error_depth() == 0 { "it".to_owned() } else { format!("`{}`", text(certificate.subject_name())) };
    // The numbers of `X509_V_ERR_…`, which OpenSSL never changes.
    Some(match error.as_raw() {
        9 => format!(
            "{who} is valid from {} on, and the clock of this machine says {}: set the clock",
            certificate.not_before(),
            clock()
        ),
        10 => format!(
            "{who} expired on {}, and the clock of this machine says {}: the broker needs a new one, or the clock is wrong",
            certificate.not_after(),
            clock()
        ),
        62 | 64 if !names => return None,
        62 | 64 => format!(
            "{who} is for {}, not for `{host}`: name the broker as its certificate does, in `bootstrap.servers` and in the \
            broker's own `advertised.listeners`",
            hosts(certificate)
        ),
        2 | 18..=21 => format!(
            "{who} is signed by `{}`, which is not among the authorities {authorities}: set `ssl.ca.location` to the file \
            of the broker's authority",
            text(certificate.issuer_name())
        ),
        _ => format!("{who}: {}", error.error_string()),
    })
}

/// The hosts that a certificate is for.
fn hosts(certificate: &X509Ref) -> String {
    let names = certificate.subject_alt_names();
    let names = names.iter().flatten().filter_map(|name| {
        let ip = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        let name = name.dnsname().map(str::to_owned).or_else(|| ip(name.ipaddress()?).map(|ip| ip.to_string()))?;
        Some(format!("`{}`", name.escape_debug()))
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() { format!("`{}`", text(certificate.subject_name())) } else { names.join(" and ") }
}

/// A name of a certificate, such as `CN=kafka`.
fn text(name: &X509NameRef) -> String {
    let parts = name.entries().map(|entry| {
        let value = entry.data().to_string().map_or_else(|_| "?".to_owned(), |value| value.escape_debug().to_string());
        format!("{}={value}", entry.object().nid().short_name().unwrap_or("?"))
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_address_is_read_from_librdkafkas_words() {
        for (reason, expected) in [
            (
                "sasl_ssl://kafka.example.org:9093/bootstrap: SSL handshake failed: error:0A000086",
                Some("kafka.example.org:9093"),
            ),
            ("127.0.0.1:9092/1: Disconnected: requesting ApiVersion", Some("127.0.0.1:9092")),
            ("ssl://[::1]:9093/bootstrap: Disconnected", Some("[::1]:9093")),
            ("GroupCoordinator: Disconnected", None),
            ("1/1 brokers are down", None),
        ] {
            assert_eq!(address(reason), expected, "{reason}");
        }
    }

    #[test]
    fn mechanisms_are_read_from_an_answer_and_nothing_else_is_taken_for_one() {
        let answer = |number: i32, code: i16, names: &[&str]| {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.extend(code.to_be_bytes());
            bytes.extend((names.len() as i32).to_be_bytes());
            for name in names {
                bytes.extend((name.len() as u16).to_be_bytes());
                bytes.extend(name.as_bytes());
            }
            bytes
        };
        let two = answer(1, 33, &["SCRAM-SHA-512", "OAUTHBEARER"]);
        assert_eq!(mechanisms(&two).unwrap(), ["SCRAM-SHA-512", "OAUTHBEARER"]);
        assert_eq!(mechanisms(&answer(1, 34, &[])), Some(Vec::new()));
        assert_eq!(mechanisms(&answer(1, 0, &["PLAIN"])).unwrap(), ["PLAIN"]);
        assert_eq!(mechanisms(&answer(2, 0, &["PLAIN"])), None);
        assert_eq!(mechanisms(&answer(1, 35, &[])), None);
        assert_eq!(mechanisms(b"HTTP/1.1 400 Bad Request"), None);
        for cut in 0..two.len() {
            assert_eq!(mechanisms(&two[..cut]), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_both_sides() {
        let says = |listener: Listener, pairs: &[(&str, &str)]| {
            let own: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            judge("a:1", &listener, View::new(&own, &BTreeMap::new())).map(|cause| cause.text)
        };
        let with = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let encrypted = || Listener { encrypted: true, mechanisms: with(&["SCRAM-SHA-512"]), ..Listener::default() };
        let text = says(encrypted(), &[]).unwrap();
        assert!(text.contains("`security.protocol = SASL_SSL`") && text.contains("with PLAINTEXT"), "{text}");
        assert!(text.contains("SCRAM-SHA-512"), "{text}");
        let open = || Listener { mechanisms: with(&[]), ..Listener::default() };
        let text = says(open(), &[("security.protocol", "sasl_ssl")]).unwrap();
        assert!(text.contains("`security.protocol = PLAINTEXT`") && text.contains("with SASL_SSL"), "{text}");
        assert_eq!(says(open(), &[]), None);
        let login = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")];
        let text = says(encrypted(), &login).unwrap();
        assert!(text.contains("no login with PLAIN, but with SCRAM-SHA-512"), "{text}");
        assert_eq!(says(encrypted(), &[login[0], ("sasl.mechanism", "SCRAM-SHA-512")]), None);
        let wants = Listener { encrypted: true, wants_certificate: true, ..Listener::default() };
        let text = says(wants, &[("security.protocol", "ssl")]).unwrap();
        assert!(text.contains("`ssl.key.location`"), "{text}");
    }

    #[test]
    fn an_address_at_which_nobody_answers_says_nothing() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let none = BTreeMap::new();
        assert!(explain("1/1 brokers are down", &address, View::new(&none, &none)).is_none());
    }
}
