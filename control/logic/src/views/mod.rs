//! The API as clients see it beside its objects: discovery, OpenAPI documents, Tables.
//!
//! All of it is made from the tables of `coracle-api`; nothing is kept. [`answer`] takes the paths `/`, `/api…`, `/apis…`
//! (without a resource) and `/openapi…`; [`table`] makes the rows of Tables for lists, gets and watches.

pub(crate) mod age;
mod discovery;
mod etag;
mod openapi;
pub(crate) mod table;

use coracle_api::Status;

use crate::{call::HttpRequest, plane::Response};

/// Answers a GET of a path that is about the API itself; `None`: it is about something else.
/// `address` (`host:port`) is where clients reach this server.
pub(crate) fn answer(
    http: &HttpRequest,
    path: &str,
    address: &str,
) -> Option<Result<Response, Status>> {
    let path = if path == "/" { path } else { path.trim_end_matches('/') };
    discovery::answer(http, path, address).or_else(|| openapi::answer(http, path))
}
