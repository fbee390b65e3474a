//! The only async code of the control plane: sockets, TLS, HTTP, the store's thread, the clock.
//!
//! One thread runs an executor of local tasks: the listeners, a task for each connection, the timer. [`drive`] holds the
//! control plane and carries out what it asks for; [`store_thread`] commits. Entropy and the clock are read here only.

pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod drive;
pub(crate) mod http;
pub(crate) mod listener;
pub(crate) mod store_thread;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;
