//! Logs: one line each on stderr, `LEVEL message`. The time is the journal's to add.

use std::{
    fmt,
    io::Write,
    sync::atomic::{AtomicU8, Ordering},
};

/// How much is said.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    /// Something failed that someone has to act on.
    Error,
    /// Something was refused or went wrong that may matter.
    Warn,
    /// What a person wants to see of a healthy server.
    Info,
    /// Each request.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(2);

/// From now on.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(number(level), Ordering::Relaxed);
}

fn number(level: Level) -> u8 {
    match level {
        Level::Error => 0,
        Level::Warn => 1,
        Level::Info => 2,
        Level::Debug => 3,
    }
}

/// Writes a line if the level is on. Line breaks in it are shown as spaces: one event is one line.
pub(crate) fn line(level: Level, message: fmt::Arguments<'_>) {
    if number(level) > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let name = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
        Level::Debug => "DEBUG",
    };
    let text = format!("{name} {message}").replace(['\n', '\r'], " ");
    // A log that cannot be written has no one to be told to.
    let _unheard = writeln!(std::io::stderr().lock(), "{text}");
}

/// An error and all its causes, each once, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Logs at level error.
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($arg)*)) };
}
/// Logs at level warn.
macro_rules! warning {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($arg)*)) };
}
/// Logs at level info.
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($arg)*)) };
}
/// Logs at level debug.
macro_rules! debug {
    ($($arg:tt)*) => { $crate::log::line($crate::log::Level::Debug, format_args!($($arg)*)) };
}
pub(crate) use {debug, error, info, warning};
