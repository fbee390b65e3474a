//! The node agent's decisions: which container to pull, start, signal and kill, and what to say of it.
//!
//! A value: [`Agent::step`] takes one event with the time it happened and gives actions. It reads no clock, no file, no
//! socket and no random source. Beside the machine stand pure functions that the shell calls on its own tasks:
//! environment ([`env`]), cgroup numbers ([`resources`]), volume contents ([`volumes`]), node status ([`node`]).
#![no_std]
extern crate alloc;

pub mod backoff;
pub mod canary;
pub mod conditions;
pub mod env;
pub mod event;
pub mod fake;
pub mod fields;
pub mod files;
pub mod limits;
pub mod machine;
pub mod node;
mod pod;
pub mod resources;
mod settle;
pub mod spec;
pub mod status;
pub mod time;
pub mod unsupported;
pub mod volumes;

pub use event::{Action, Event};
pub use machine::Agent;
pub use spec::{Pod, PodUid};
pub use time::{Millis, Now};
