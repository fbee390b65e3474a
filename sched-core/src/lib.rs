//! Placement (stub: filled in next).
#![no_std]
