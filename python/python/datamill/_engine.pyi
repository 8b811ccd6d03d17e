"""The engine, written in Rust. Private: use the names of `datamill`."""

__version__: str
