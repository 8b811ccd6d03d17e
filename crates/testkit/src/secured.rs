//! A real Apache Kafka with accounts and permissions, one of a test's own.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::acls;
pub use crate::acls::Acl;
use crate::kafka::script;

/// A broker on which accounts may do nothing until they are given a permission. It is killed when this is dropped.
#[derive(Debug)]
pub struct SecuredKafka {
    port: u16,
    folder: TempDir,
}

impl SecuredKafka {
    /// Starts one on free ports in a temporary folder, with `dev/kafka`.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// As [`SecuredKafka::start`], with further lines for the broker's properties.
    pub fn start_with(properties: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("datamill-secured-").tempdir().expect("a temporary folder can be made");
        let mut kafka = Self { port: 0, folder };
        let address = kafka.run_with("start", &["secured"], properties);
        let port = address.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        kafka.port = port.unwrap_or_else(|| panic!("dev/kafka prints an address, not `{address}`"));
        kafka
    }

    /// The listener that asks for no login and refuses nothing.
    pub fn open_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The listener for accounts.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }

    /// The listener for accounts that encrypts; [`SecuredKafka::ca`] has signed its certificate.
    pub fn encrypted_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 3)
    }

    /// As [`SecuredKafka::encrypted_address`], with a certificate that has expired.
    pub fn expired_address(&self) -> String {
        format!("127.0.0.1:{}", self.port + 4)
    }

    /// As [`SecuredKafka::encrypted_address`], with the certificate of `other.example.org`.
    pub fn address_of_another_host(&self) -> String {
        format!("127.0.0.1:{}", self.port + 5)
    }

    /// The listener that encrypts and takes clients with the certificate in [`SecuredKafka::client_keystore`].
    pub fn address_for_certificates(&self) -> String {
        format!("127.0.0.1:{}", self.port + 6)
    }

    /// The certificate and key of a client, a PKCS #12 file with the password `secret`.
    pub fn client_keystore(&self) -> String {
        self.folder.path().join("client.p12").display().to_string()
    }

    /// A keystore with a certificate that the broker does not know, in the same form.
    pub fn unknown_keystore(&self) -> String {
        self.folder.path().join("other.p12").display().to_string()
    }

    /// The certificate of the authority, a PEM file.
    pub fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// The properties with which account `user1`, `user2`, … logs in.
    pub fn login(&self, user: &str) -> Vec<(&'static str, String)> {
        vec![
            ("bootstrap.servers", self.address()),
            ("security.protocol", "SASL_PLAINTEXT".to_owned()),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.username", user.to_owned()),
            ("sasl.password", password(user)),
        ]
    }

    /// As [`SecuredKafka::login`], with a password that [`SecuredKafka::set_password`] has set. The broker asks for it again
    /// every five seconds, as it does on this whole listener.
    pub fn rotating_login(&self, user: &str, password: &str) -> Vec<(&'static str, String)> {
        let own = [("sasl.mechanism", "SCRAM-SHA-512".to_owned()), ("sasl.password", password.to_owned())];
        let others = self.login(user).into_iter().filter(|(key, _)| own.iter().all(|(name, _)| name != key));
        others.chain(own.iter().cloned()).collect()
    }

    /// Sets the password of an account that logs in with SCRAM, or another one.
    pub fn set_password(&self, user: &str, password: &str) {
        self.run("password", &[user, password]);
    }

    /// Gives the listener of [`SecuredKafka::encrypted_address`] another certificate, a moment later: `expired`, `other` for
    /// one of another host, or `good`.
    pub fn set_certificate(&self, which: &str) {
        self.run("certificate", &[which]);
    }

    /// Kills the broker and starts it again, so that every connection is made anew.
    pub fn break_connections(&self) {
        self.run("kill9", &[]);
        self.run("restart", &[]);
    }

    /// Gives permissions, in the words of `kafka-acls.sh`.
    pub fn allow(&self, user: &str, words: &[&str]) {
        self.allow_all(user, &Acl::parse(words.iter().copied()));
    }

    /// Gives permissions.
    pub fn allow_all(&self, user: &str, acls: &[Acl]) {
        acls::allow(&self.open_address(), &format!("User:{user}"), acls);
    }

    /// Takes permissions away, in the words of `kafka-acls.sh`.
    pub fn take_away(&self, user: &str, words: &[&str]) {
        self.take_all_away(user, &Acl::parse(words.iter().copied()));
    }

    /// Takes permissions away.
    pub fn take_all_away(&self, user: &str, acls: &[Acl]) {
        acls::take_away(&self.open_address(), &format!("User:{user}"), acls);
    }

    fn run(&self, command: &str, args: &[&str]) -> String {
        self.run_with(command, args, "")
    }

    fn run_with(&self, command: &str, args: &[&str], properties: &str) -> String {
        let Output { status, stdout, stderr } = Command::new(script())
            .arg(command)
            .arg(self.folder.path())
            .args(args)
            .env("DATAMILL_KAFKA_PROPERTIES", properties)
            .output()
            .expect("dev/kafka can be run");
        assert!(status.success(), "dev/kafka {command} {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }
}

/// The password of an account.
pub fn password(user: &str) -> String {
    format!("{user}-secret")
}

impl Drop for SecuredKafka {
    fn drop(&mut self) {
        let _ = Command::new(script()).arg("kill9").arg(self.folder.path()).output();
    }
}
