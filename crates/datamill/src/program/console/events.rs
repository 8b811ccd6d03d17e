//! What Windows tells a program with a console, in the place of signals.
//!
//! Ctrl-C and Ctrl-Break stop in order, and the second time leave at once. Where the console is closed, the person logs off or the
//! system shuts down, Windows ends the process as soon as its handler answers, or some seconds later: so the handler never
//! answers, and the end of `main` ends it together with the process.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::core::BOOL;

use super::{AtOnce, leave_at_once};
use crate::engine::{Control, StopKind};

/// The program that the events steer.
static STEERED: Mutex<Option<(Arc<Control>, AtOnce)>> = Mutex::new(None);

/// Lets the events steer a program from here on, in the place of the one before.
pub(super) fn heed(control: Arc<Control>, at_once: AtOnce) -> io::Result<()> {
    let is_first = STEERED.lock().replace((control, at_once)).is_none();
    if !is_first {
        return Ok(());
    }
    #[expect(unsafe_code, reason = "a call of the system")]
    // SAFETY: the handler is a function of this program, there as long as the process; it takes any event, on any thread.
    let taken = unsafe { SetConsoleCtrlHandler(Some(on_event), 1) };
    if taken == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Called on a thread of its own for each event. Answers whether Windows need do nothing more.
extern "system" fn on_event(event: u32) -> BOOL {
    let Some((control, at_once)) = STEERED.lock().clone() else { return 0 };
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT if control.stopping().is_some() => leave_at_once(at_once),
        CTRL_C_EVENT | CTRL_BREAK_EVENT => {
            control.stop(StopKind::Leave);
            1
        }
        CTRL_LOGOFF_EVENT if is_of_a_service() => 1,
        CTRL_CLOSE_EVENT | CTRL_LOGOFF_EVENT | CTRL_SHUTDOWN_EVENT => {
            control.stop_in_a_hurry();
            loop {
                std::thread::park();
            }
        }
        _ => 0,
    }
}

/// Whether this process is in the session of the services. They hear of everybody who logs off, and stay.
fn is_of_a_service() -> bool {
    let mut session = u32::MAX;
    #[expect(unsafe_code, reason = "a call of the system")]
    // SAFETY: the number of the session is written to a variable that is there during the call.
    let told = unsafe { ProcessIdToSessionId(std::process::id(), &mut session) };
    told != 0 && session == 0
}
