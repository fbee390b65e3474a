//! Figures beside their limits, a line each, and the exit code that follows from them.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result};

/// A bench's lines: `BENCH NAME VALUE UNIT limit LIMIT ok|over`.
#[derive(Debug)]
pub struct Budgets {
    bench: &'static str,
    /// A limit that must hold is over.
    over: bool,
}

impl Budgets {
    /// Measures, and says how that went: exit code 1 if a limit that must hold is over, or nothing could be measured.
    pub fn judge(bench: &'static str, measure: impl FnOnce(&mut Self) -> Result<()>) -> ExitCode {
        let mut budgets = Self { bench, over: false };
        let measured = measure(&mut budgets);
        match measured {
            Ok(()) if !budgets.over => return ExitCode::SUCCESS,
            Ok(()) => eprintln!("{bench}: a limit that must hold is over"),
            Err(error) => eprintln!("{bench}: {error:#}"),
        }
        ExitCode::FAILURE
    }

    /// A figure whose limit must hold.
    pub fn must(&mut self, name: &str, value: f64, unit: &str, limit: f64) {
        self.over |= self.say(name, value, unit, limit);
    }

    /// A figure whose limit is aimed at.
    pub fn aim(&self, name: &str, value: f64, unit: &str, limit: f64) {
        self.say(name, value, unit, limit);
    }

    fn say(&self, name: &str, value: f64, unit: &str, limit: f64) -> bool {
        let over = limit < value;
        let judged = if over { "over" } else { "ok" };
        println!("{} {name} {value:.2} {unit} limit {limit} {judged}", self.bench);
        over
    }

    /// A figure without a limit.
    pub fn tell(&self, name: &str, value: f64, unit: &str) {
        println!("{} {name} {value:.2} {unit}", self.bench);
    }

    /// A figure that could not be had.
    pub fn missing(&self, name: &str, why: &str) {
        println!("{} {name} not measured # {why}", self.bench);
    }
}

/// A number from the environment, or this one.
///
/// # Errors
/// What is there is no number.
pub fn number_of(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}
