//! The Kubernetes API as data: schema tables, resources, objects, selectors, quantities, patches, errors as Status.
//!
//! Pure: `no_std` with `alloc`, no I/O, no clock. One table (built from `schema/`) drives discovery, OpenAPI, field
//! validation, patches, protobuf bodies and Tables.
#![no_std]
extern crate alloc;

pub mod object;
pub mod resource;
pub mod status;

pub use object::{Meta, Object, OwnerReference};
pub use resource::{Resource, ResourceDef};
pub use status::Status;
