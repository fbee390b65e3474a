//! The Kubernetes API as data: schema tables, resources, objects, selectors, quantities, patches, errors as Status.
//!
//! Pure: `no_std` with `alloc`, no I/O, no clock. One table (built from `schema/`) drives discovery, OpenAPI, field
//! validation, patches, protobuf bodies and Tables.
#![no_std]
extern crate alloc;

pub mod decode;
mod field_errors;
pub mod fields;
pub mod intstr;
pub mod limits;
pub mod managed;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod served;
pub mod status;
pub mod time;
pub mod validation;
pub mod views;

pub use object::{Meta, Object, OwnerReference};
pub use resource::{Resource, ResourceDef};
pub use status::{FieldErrors, Status};
