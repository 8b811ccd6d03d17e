//! Where the status servers of this process listen: a process that is forked from it has copies of their sockets, and
//! closes them.

use std::net::SocketAddr;

use parking_lot::Mutex;

static LISTENING: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());

/// The addresses of all servers of this process.
pub fn listening() -> Vec<SocketAddr> {
    LISTENING.lock().clone()
}

/// Says that a server listens, as long as it is there.
pub(super) struct Listening(SocketAddr);

impl Listening {
    pub(super) fn at(address: SocketAddr) -> Self {
        LISTENING.lock().push(address);
        Self(address)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listening = LISTENING.lock();
        if let Some(place) = listening.iter().position(|address| *address == self.0) {
            listening.swap_remove(place);
        }
    }
}
