//! One line on stderr per step of set-up: what, and how long it took.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use anyhow::Result;

/// Runs a step and says how long it took. On a terminal the line is there from the start.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    if std::io::stderr().is_terminal() {
        eprint!("setup: {what} …\r");
        // A progress line that cannot be flushed is not worth failing for.
        let _ = std::io::stderr().flush();
    }
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "failed" };
    eprintln!("setup: {what}: {outcome} in {:.1} s", begun.elapsed().as_secs_f64());
    result
}
