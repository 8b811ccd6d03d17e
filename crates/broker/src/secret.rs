//! Which settings are secret: the one list for the configuration file, for what is shown of it, and for the words of
//! librdkafka.

/// Parts of a key that make its value secret.
const SECRET_PARTS: [&str; 11] =
    ["password", "passwd", "passphrase", "secret", "key", "token", "jaas", "oauth", "credential", "private", "pem"];

/// Keys whose values may be shown though a part of them, or `sasl.`, says otherwise.
const OPEN: [&str; 5] = ["sasl.mechanism", "sasl.mechanisms", "sasl.username", "key.serializer", "key.deserializer"];

/// Beginnings of the keys of a login. What is wrong there may be a password in the wrong line.
const LOGIN: [&str; 4] = ["sasl.", "ssl.", "https.", "security."];

/// Whether the value of this key must not be shown: passwords, keys, tokens, and all of `sasl.*` but the mechanism and
/// the name of the user. Paths to files (`….location`) are shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    if OPEN.contains(&key.as_str()) {
        return false;
    }
    key.starts_with("sasl.") || (!is_path(&key) && SECRET_PARTS.iter().any(|part| key.contains(part)))
}

/// Whether the value of this key must not be shown where it is refused: it is secret, or it belongs to a login, where
/// a password may stand in the wrong line.
pub fn may_hold_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    is_secret(&key) || (!is_path(&key) && LOGIN.iter().any(|start| key.starts_with(start)))
}

fn is_path(key: &str) -> bool {
    key.ends_with(".location")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_are_recognised() {
        for key in [
            "sasl.password",
            "SASL.Password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.certificate.pem",
            "sasl.jaas.config",
            "sasl.oauthbearer.config",
            "secret_key_id",
            "access_key_id",
            "api.token",
            "sasl.kerberos.keytab",
            "ssl.keystore.password",
        ] {
            assert!(is_secret(key) && may_hold_secret(key), "{key}");
        }
        for key in ["sasl.mechanism", "sasl.mechanisms", "sasl.username", "security.protocol", "SSL.cipher.suites"] {
            assert!(!is_secret(key) && may_hold_secret(key), "{key}");
        }
        for key in ["bootstrap.servers", "group.id", "ssl.key.location", "key.serializer", "socket.keepalive.enable"] {
            assert!(!is_secret(key) && !may_hold_secret(key), "{key}");
        }
    }
}
