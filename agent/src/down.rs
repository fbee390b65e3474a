//! `coracle-agent down`: takes back what the agent has made on this host and leaves standing when it ends, because pods need
//! it: the bridge, its table in the packet filter, its rules in other programs' chains.

use std::path::Path;

use coracle_runtime::{Config, Runtime as _, linux::LinuxRuntime};

use crate::shell::{carry::runtime_uid, chain, network::Network, state::StateDir, volumes};

/// What becomes of pods that are left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pods {
    /// They are in the way.
    Keep,
    /// They are killed, without a grace period.
    End,
}

/// Does it, if no agent runs.
pub(crate) fn run(data_dir: &Path, pods: Pods) -> Result<(), String> {
    let state = StateDir::open(data_dir).map_err(|error| chain(&error))?;
    let _lock = state.lock().map_err(|error| chain(&error))?;
    if pods == Pods::End {
        end_pods(&state)?;
    }
    let left = state.pod_dirs().len();
    if left > 0 {
        return Err(format!(
            "{left} pods are left in {}; delete them and let the agent end them first, or say --pods",
            state.root().display()
        ));
    }
    Network::open(&state, None).remove().map_err(|error| chain(&error))
}

/// Kills what runs, unmounts volumes, and removes cgroups, addresses and directories of all pods.
fn end_pods(state: &StateDir) -> Result<(), String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let runtime = LinuxRuntime::new(Config::new(state.root().to_owned(), program))
        .map_err(|error| chain(&error))?;
    runtime.recover().map_err(|error| chain(&error))?;
    let network = Network::open(state, None);
    for uid in state.pod_dirs() {
        runtime.remove_pod(&runtime_uid(&uid)?).map_err(|error| chain(&error))?;
        network.detach(&uid).map_err(|error| chain(&error))?;
        let dir = state.pod(&uid);
        volumes::remove(&dir)
            .map_err(|error| format!("cannot remove {}: {error}", dir.display()))?;
    }
    Ok(())
}
