//! The command `datamill`.
fn main() {}
