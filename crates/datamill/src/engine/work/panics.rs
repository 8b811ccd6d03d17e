//! Panics of user code are reported with their file or worker, not by the hook of the program.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IN_USER_CODE: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs user code. A panic of it is an error with its text and place.
pub(super) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    IN_USER_CODE.set(true);
    let answer = catch_unwind(AssertUnwindSafe(code));
    IN_USER_CODE.set(false);
    answer.map_err(|_| PANIC.take().unwrap_or_else(|| "the function panicked".to_owned()))
}

/// Sets the hook that keeps the texts of these panics.
pub(super) fn keep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IN_USER_CODE.get() {
                let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
                let text = panic.payload_as_str().unwrap_or("no message");
                PANIC.set(Some(format!("the function panicked{place}: {text}")));
            } else {
                usual(panic);
            }
        }));
    });
}
