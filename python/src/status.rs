//! The status servers of this process.

use pyo3::prelude::*;

/// The ports that they listen on.
#[pyfunction]
pub fn status_ports() -> Vec<u16> {
    datamill::status::listening().iter().map(std::net::SocketAddr::port).collect()
}
