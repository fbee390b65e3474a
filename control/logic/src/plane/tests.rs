//! The control plane as its clients see it, and its promises S1-S3 and W1-W6.

mod access;
mod limits;
mod promises;
mod verbs;
mod watches;
