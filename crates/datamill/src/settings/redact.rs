//! How the value of a setting is shown to people.

use std::fmt;

use datamill_broker::is_secret;

/// Longest value that is shown whole, in characters.
const SHOWN_CHARACTERS: usize = 200;

/// A setting's value for people: `(secret)` where the key says so, without the password of an address
/// `scheme://user:password@host`, on one line and cut after 200 characters.
#[derive(Clone, Copy)]
pub struct Redacted<'a> {
    /// The key that the value belongs to.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_secret(self.key) {
            return f.write_str("(secret)");
        }
        let shown = without_password(self.value);
        for c in shown.chars().take(SHOWN_CHARACTERS) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        match shown.chars().count() {
            count if count > SHOWN_CHARACTERS => write!(f, "… ({count} characters)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {self}", self.key)
    }
}

/// The text with what stands between `://` and the `@` of each address replaced where it holds a `:`.
fn without_password(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let authority = &after[..after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len())];
        rest = after;
        // A password may itself hold the characters that end the host: what matters is the last `@`.
        let end = authority.rfind('@').or_else(|| after.rfind('@'));
        if let Some(end) = end {
            let (user, host) = after.split_at(end);
            shown.push_str(user.split_once(':').map_or(user, |(name, _)| name));
            if user.contains(':') {
                shown.push_str(":(secret)");
            }
            rest = host;
        }
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str, value: &str) -> String {
        Redacted { key, value }.to_string()
    }

    #[test]
    fn the_value_of_a_secret_key_is_never_shown() {
        for key in ["sasl.password", "ssl.key.pem", "secret_key_id"] {
            assert_eq!(shown(key, "hunter2"), "(secret)");
        }
        assert_eq!(shown("ssl.key.location", "x"), "x");
    }

    #[test]
    fn passwords_inside_addresses_are_left_out() {
        assert_eq!(shown("endpoint_url", "https://me:pw@host/x"), "https://me:(secret)@host/x");
        assert_eq!(shown("endpoint_url", "https://me:p/w@host/x"), "https://me:(secret)@host/x");
        assert_eq!(shown("endpoint_url", "https://host:80/x"), "https://host:80/x");
        assert_eq!(shown("endpoint_url", "http://a:1@x,http://b:2@y"), "http://a:(secret)@x,http://b:(secret)@y");
    }

    #[test]
    fn values_stay_on_one_line_and_short() {
        assert_eq!(shown("client.rack", "a\nb"), "a\\nb");
        assert!(shown("client.rack", &"x".repeat(5000)).ends_with("… (5000 characters)"));
    }
}
