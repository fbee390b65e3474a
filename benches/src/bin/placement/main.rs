//! Decisions alone, on one core: `placement --nodes 5000 --shape basic`.
//!
//! A decision is what the scheduler asks of the core for one pod: a place, and the pod assumed there; of a pod that
//! preempts also who leaves, and the node kept. The clock is read before and after each. `--table` prints all shapes and
//! the cost against the number of nodes, and draws the latter into `target/placement.svg`.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod plot;

use std::{env, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use coracle_benches::placement::{Figures, SHAPES, Shape, measure};

/// Numbers of nodes in the table.
const NODES: [usize; 5] = [5, 50, 500, 5000, 16_000];
/// Decisions measured, at least.
const DECISIONS: usize = 50_000;
/// Plain scans beside them: they are slow.
const SCANS: u32 = 200;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("placement: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut nodes, mut decisions, mut scans) = (5000, DECISIONS, SCANS);
    let (mut shape, mut table) = ("basic".to_owned(), false);
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--table" {
            table = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        let number = || value.parse().with_context(|| format!("{word} {value} is no number"));
        match word.as_str() {
            "--nodes" => nodes = number()?,
            "--decisions" => decisions = number()?,
            "--scans" => scans = u32::try_from(number()?)?,
            "--shape" => shape = value,
            _ => bail!(
                "`{word}` is not known; use --nodes N, --shape S, --decisions N, --scans N or --table"
            ),
        }
    }
    if table {
        return print_table(decisions);
    }
    let found = SHAPES.iter().find(|(name, _, _)| *name == shape);
    let names: Vec<&str> = SHAPES.iter().map(|(name, _, _)| *name).collect();
    let (_, shape, limit) =
        found.with_context(|| format!("--shape {shape} is none of {}", names.join(", ")))?;
    print(&measure(*shape, nodes, decisions, scans)?, limit.filter(|_| nodes == 5000));
    Ok(())
}

fn print(figures: &Figures, limit: Option<f64>) {
    let beside = limit.map_or_else(String::new, |limit| {
        let verdict = if limit <= figures.per_second() { "ok" } else { "under" };
        format!(" limit {limit:.0} {verdict}")
    });
    println!("placement placements_per_second {:.0}{beside}", figures.per_second());
    println!("placement ns_per_decision_p50 {}", figures.p50);
    println!("placement ns_per_decision_p99 {}", figures.p99);
    println!("placement placed {} of {}", figures.placed, figures.decisions);
    if figures.scans != 0 {
        let (rate, scan) = (figures.per_second(), figures.scans_per_second());
        println!("placement scan_per_second {scan:.0}");
        println!("placement ratio_to_scan {:.1}", rate / scan);
    }
}

fn print_table(decisions: usize) -> Result<()> {
    println!("| shape, 5,000 nodes | placements/s | limit | p50 ns | p99 ns | scan/s | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for (name, shape, limit) in SHAPES {
        let of = measure(shape, 5000, decisions, SCANS)?;
        let limit = limit.map_or_else(|| "-".to_owned(), |limit| format!("{limit:.0}"));
        println!(
            "| {name} | {:.0} | {limit} | {} | {} | {:.0} | {:.0} |",
            of.per_second(),
            of.p50,
            of.p99,
            of.scans_per_second(),
            of.per_second() / of.scans_per_second()
        );
    }
    println!();
    println!("| basic, nodes | mean ns | p50 ns | p99 ns | scan, mean ns |");
    println!("|---|---|---|---|---|");
    let mut points = Vec::new();
    for nodes in NODES {
        let of = measure(Shape::Basic, nodes, decisions, SCANS)?;
        let (mean, scan) = (1e9 / of.per_second(), 1e9 / of.scans_per_second());
        println!("| {nodes} | {mean:.0} | {} | {} | {scan:.0} |", of.p50, of.p99);
        points.push((nodes, mean, scan));
    }
    let path = "target/placement.svg";
    std::fs::write(path, plot::svg(&points)).with_context(|| format!("cannot write {path}"))?;
    println!("\nplotted in {path}");
    Ok(())
}
