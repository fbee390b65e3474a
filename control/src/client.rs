//! The built-in client: a kubeconfig and requests over it. Blocking; no part of the server's loop.

pub(crate) mod api;
pub(crate) mod kubeconfig;
