//! Panics of user code and of libraries are told by what called them, not by the hook of the program.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs code that may panic. A panic of it on this thread is an error with its text and place.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    keep_texts();
    IS_CAUGHT.set(true);
    let answer = catch_unwind(AssertUnwindSafe(code));
    IS_CAUGHT.set(false);
    answer.map_err(|_| PANIC.take().unwrap_or_else(|| "the function panicked".to_owned()))
}

/// Sets the hook that keeps the texts of these panics.
fn keep_texts() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IS_CAUGHT.get() {
                let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
                let text = panic.payload_as_str().unwrap_or("no message");
                PANIC.set(Some(format!("the function panicked{place}: {text}")));
            } else {
                usual(panic);
            }
        }));
    });
}
