//! `coracle-agent down`: takes back what the agent has made on this host and leaves standing when it ends, because pods need
//! it: the bridge, its table in the packet filter, its rules in other programs' chains.

use std::path::Path;

use crate::shell::{chain, network::Network, state::StateDir};

/// Does it, if no agent runs and no pods are left.
pub(crate) fn run(data_dir: &Path) -> Result<(), String> {
    let state = StateDir::open(data_dir).map_err(|error| chain(&error))?;
    let _lock = state.lock().map_err(|error| chain(&error))?;
    let left = state.pod_dirs().len();
    if left > 0 {
        return Err(format!(
            "{left} pods are left in {}; delete them and let the agent end them first",
            state.root().display()
        ));
    }
    Network::open(&state, None).remove().map_err(|error| chain(&error))
}
