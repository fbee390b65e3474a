//! Whole systems of real processes: a control plane, agents, kubectl; for the tests under `tests/` and the cost bench.
//!
//! The binaries are those of the build that the test belongs to (or of `CORACLE_BIN_DIR`). Everything lives in one
//! scratch directory, which is in the command line of every process of it, so that [`Cluster`] takes down what it made,
//! also when a test fails half-way.

pub mod api;
pub mod budgets;
pub mod cluster;
pub mod disk;
pub mod host;
pub mod https;
pub mod masks;
pub mod placement;
pub mod syncs;
