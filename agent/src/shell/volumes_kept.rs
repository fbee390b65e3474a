//! The volumes of running pods: made when asked for, made again when an object, a label or a token changed.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use coracle_agent_logic::{
    Event, Pod, PodUid,
    env::{ObjectRef, Objects},
    fields::Place,
    node::{allocatable_cpu_milli, allocatable_disk_bytes, allocatable_memory_bytes},
    volumes::{Tokens, references, token_wishes},
};
use coracle_rt::{sleep, within};
use smol::{Task, lock::Mutex};

use super::{Shell, chance::jitter, clock, limits, log::warning, objects, volumes};

/// A pod that starts with no server in sight waits this long for one before it takes what is on disk.
const OFFLINE_AFTER: Duration = Duration::from_secs(3);

/// Per pod: only one at a time works on its volumes, and the next renewal.
#[derive(Default)]
pub(crate) struct Kept {
    busy: RefCell<BTreeMap<PodUid, Rc<Mutex<()>>>>,
    renewals: RefCell<BTreeMap<PodUid, Task<()>>>,
}

impl Kept {
    pub(crate) fn release(&self, uid: &PodUid) {
        self.busy.borrow_mut().remove(uid);
        self.renewals.borrow_mut().remove(uid);
    }

    fn turn(&self, uid: &PodUid) -> Rc<Mutex<()>> {
        Rc::clone(self.busy.borrow_mut().entry(uid.clone()).or_default())
    }
}

impl Shell {
    /// Makes a pod's volumes for the pod machine.
    pub(crate) async fn prepare_volumes(self: Rc<Self>, uid: PodUid) {
        let Some(pod) = self.pod(&uid) else { return };
        let event = match self.make_volumes(&pod).await {
            Ok(()) => Event::VolumesReady(uid),
            Err(why) => Event::VolumesFailed(uid, why),
        };
        self.send(event).await;
    }

    /// Brings a running pod's volumes up to date, later again if that fails.
    pub(crate) fn refresh_volumes(self: &Rc<Self>, uid: &PodUid) {
        let (shell, uid) = (Rc::clone(self), uid.clone());
        self.member.local.spawn(async move {
            while let Some(pod) = shell.pod(&uid) {
                // Not made yet, or already gone: whoever makes them takes what is new.
                if !shell.state.volumes(&uid).exists() {
                    return;
                }
                match shell.make_volumes(&pod).await {
                    Ok(()) => return,
                    Err(why) => warning!("volumes of pod {}: {why}; trying again", pod.full_name()),
                }
                sleep(jitter(Duration::from_secs(60))).await;
            }
        });
    }

    async fn make_volumes(self: &Rc<Self>, pod: &Arc<Pod>) -> Result<(), String> {
        let turn = self.volumes.turn(&pod.uid);
        let _turn = turn.lock().await;
        let (objects, tokens, renew_s) = match self.gather(pod).await? {
            Some(gathered) => gathered,
            None => self.gather_offline(pod),
        };
        let dir = self.state.volumes(&pod.uid);
        let place = self.place(&pod.uid);
        let making = Arc::clone(pod);
        let state = self.state.clone();
        self.blocking(move || {
            volumes::prepare(&dir, &making, &objects, &tokens, &place)?;
            remember(&state, &making.uid, &objects);
            Ok::<(), String>(())
        })
        .await?;
        if let Some(renew_s) = renew_s {
            let (shell, uid) = (Rc::downgrade(self), pod.uid.clone());
            let wait = u64::try_from(renew_s - clock::wall_s()).unwrap_or(0).max(1);
            let task = self.member.local.held(async move {
                sleep(Duration::from_secs(wait)).await;
                if let Some(shell) = shell.upgrade() {
                    shell.refresh_volumes(&uid);
                }
            });
            self.volumes.renewals.borrow_mut().insert(pod.uid.clone(), task);
        }
        Ok(())
    }

    /// What the volumes need, from the API server. `None`: there is none in sight, and the pod ran here before.
    async fn gather(
        self: &Rc<Self>,
        pod: &Arc<Pod>,
    ) -> Result<Option<(Objects, Tokens, Option<i64>)>, String> {
        let wanted = references(pod);
        if wanted.is_empty() && token_wishes(pod).is_empty() {
            return Ok(Some((Objects::new(), Tokens::new(), None)));
        }
        let asking = async {
            let online = loop {
                match self.online.get() {
                    Some(online) => break online,
                    None => sleep(Duration::from_millis(100)).await,
                }
            };
            online.api.connected().await;
            let objects =
                online.follower.hold(&pod.uid, &pod.meta.namespace, wanted.clone()).await?;
            let (tokens, renew_s) = self.mint.tokens(&online.api, pod).await?;
            Ok((objects, tokens, renew_s))
        };
        let ran_before = self.state.read_pod(&pod.uid, "objects.json").is_some();
        if !ran_before {
            // Not for ever: a pod that is to be ended waits for this.
            let asked = within(limits::OBJECTS_WAIT, asking).await;
            return asked.unwrap_or_else(|| Err(waited_for(&wanted))).map(Some);
        }
        within(OFFLINE_AFTER, asking).await.transpose()
    }

    /// What they had last time. Tokens are never kept: their files stay empty until there is a server again.
    fn gather_offline(self: &Rc<Self>, pod: &Arc<Pod>) -> (Objects, Tokens, Option<i64>) {
        warning!(
            "no API server in sight: pod {} gets its volumes as they last were",
            pod.full_name()
        );
        let bytes = self.state.read_pod(&pod.uid, "objects.json").unwrap_or_default();
        let tokens = token_wishes(pod).into_iter().map(|wish| (wish, String::new())).collect();
        // When the connection is back, the pod machine is told nothing: this looks again by itself.
        let (shell, uid) = (Rc::downgrade(self), pod.uid.clone());
        self.member.local.spawn(async move {
            loop {
                sleep(Duration::from_millis(500)).await;
                let Some(shell) = shell.upgrade() else { return };
                if let Some(online) = shell.online.get() {
                    online.api.connected().await;
                    shell.refresh_volumes(&uid);
                    return;
                }
            }
        });
        (objects::from_disk(&bytes), tokens, None)
    }

    /// Objects for a container's environment.
    pub(crate) async fn gather_env(
        self: &Rc<Self>,
        pod: &Pod,
        mut wanted: std::collections::BTreeSet<ObjectRef>,
    ) -> Result<Objects, String> {
        let mut objects = Objects::new();
        if wanted.is_empty() {
            return Ok(objects);
        }
        let namespace = &pod.meta.namespace;
        if let Some(online) = self.online.get() {
            wanted.retain(|reference| match online.follower.known(namespace, reference) {
                Some(data) => {
                    objects.insert(reference.clone(), data);
                    false
                }
                None => true,
            });
            match within(OFFLINE_AFTER, objects::read(&online.api, namespace, wanted.clone())).await
            {
                Some(Ok(read)) => {
                    objects.extend(read);
                    remember(&self.state, &pod.uid, &objects);
                    return Ok(objects);
                }
                Some(Err(error)) if error.code().is_some() => return Err(error.to_string()),
                Some(Err(_)) | None => {}
            }
        }
        let bytes = self.state.read_pod(&pod.uid, "objects.json").unwrap_or_default();
        let kept = objects::from_disk(&bytes);
        for reference in wanted {
            let data = kept
                .get(&reference)
                .ok_or("the API server cannot be asked for the objects of its environment")?;
            objects.insert(reference, data.clone());
        }
        Ok(objects)
    }

    /// What fields can say about where the pod is.
    pub(crate) fn place(&self, uid: &PodUid) -> Place {
        let machine = self.member.machine.borrow();
        Place {
            pod_ips: self.member.agent.borrow().ips(uid).to_vec(),
            host_ips: machine.ips.clone(),
            allocatable_cpu_milli: allocatable_cpu_milli(&machine),
            allocatable_memory_bytes: allocatable_memory_bytes(&machine),
            allocatable_disk_bytes: allocatable_disk_bytes(&machine),
        }
    }
}

fn waited_for(wanted: &std::collections::BTreeSet<ObjectRef>) -> String {
    let names: Vec<String> = wanted.iter().map(|wanted| format!("{wanted:?}")).collect();
    format!(
        "the API server gave no answer about {} in {} s",
        names.join(", "),
        limits::OBJECTS_WAIT.as_secs()
    )
}

/// Keeps objects for a start with no server in sight, beside those that are kept already.
pub(crate) fn remember(state: &super::state::StateDir, uid: &PodUid, objects: &Objects) {
    let before = state.read_pod(uid, "objects.json").unwrap_or_default();
    let mut all = objects::from_disk(&before);
    all.extend(objects.iter().map(|(reference, data)| (reference.clone(), data.clone())));
    let bytes = objects::to_disk(&all);
    if bytes != before
        && let Err(error) = state.write_pod(uid, "objects.json", &bytes)
    {
        warning!("cannot keep the objects of pod {uid}: {error}");
    }
}
