//! The agent's own log: lines on stderr, for journald or a terminal.

use std::io::Write as _;

/// One line. A log that cannot be written is not a reason to stop.
pub(crate) fn line(level: &str, text: std::fmt::Arguments<'_>) {
    // What thousands of starts after power cuts have to say is for nobody.
    #[cfg(feature = "crash")]
    if coracle_disk::crash::is_begun() {
        return;
    }
    let now_ms = super::clock::wall_ms();
    let _ = writeln!(std::io::stderr(), "{} {level} {text}", coracle_api::time::rfc3339(now_ms));
}

macro_rules! info {
    ($($arg:tt)*) => { $crate::shell::log::line("info", format_args!($($arg)*)) };
}
macro_rules! warning {
    ($($arg:tt)*) => { $crate::shell::log::line("warn", format_args!($($arg)*)) };
}
pub(crate) use {info, warning};
