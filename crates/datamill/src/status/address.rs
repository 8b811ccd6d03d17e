//! Where the status is served.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The value of `--status_listen`: a port on 127.0.0.1, or an address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusAddress(pub SocketAddr);

/// What is said of another value.
#[derive(Debug, thiserror::Error)]
#[error(
    "write a port, as `9400`, for this machine alone, or an IP address of this machine with a port, as `0.0.0.0:9400` \
    for all its addresses"
)]
pub struct NotAnAddress;

impl FromStr for StatusAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let port = text.strip_prefix("localhost:").unwrap_or(text);
        let here = || Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>().ok()?)));
        text.parse().ok().or_else(here).map(Self).ok_or(NotAnAddress)
    }
}

impl fmt::Display for StatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_for_this_machine_and_an_address_is_taken_as_it_is() {
        for (text, address) in [
            ("9400", "127.0.0.1:9400"),
            ("localhost:9400", "127.0.0.1:9400"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<StatusAddress>().unwrap().to_string(), address, "{text}");
        }
    }

    #[test]
    fn what_may_mean_another_interface_than_is_thought_is_refused() {
        for text in ["", ":9400", "*:9400", "example.org:9400", "10.0.0.1", "70000", "http://localhost:9400"] {
            assert!(text.parse::<StatusAddress>().is_err(), "{text}");
        }
    }
}
