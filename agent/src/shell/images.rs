//! Images for containers: found or pulled by policy, with the pod's credentials, and held while a container stands on
//! them.

use std::{path::PathBuf, rc::Rc, sync::Arc};

use base64::Engine as _;
use coracle_agent_logic::{
    Event, Pod, PodUid,
    env::ObjectRef,
    event::{ImageFacts, ImageFault, ImageOrigin},
};
use coracle_image::{Credential, Image, ImageError, ImageStore, PullPolicy, Reference, Registry};
use coracle_runtime::{Fact, FactKind};
use serde_json::Value;

use super::{Shell, chain, clock, log::warning, objects, pool};

/// What the runtime found lacking on the host.
pub(crate) fn host_facts() -> Vec<Fact> {
    let mut facts = coracle_runtime::linux::facts();
    facts.retain(|fact| fact.kind != FactKind::Good);
    facts
}

impl Shell {
    /// Has the image of a container here.
    pub(crate) async fn ensure_image(self: Rc<Self>, uid: PodUid, name: String) {
        let Some(pod) = self.pod(&uid) else { return };
        let Some(container) = pod.container(&name) else { return };
        let (wanted, policy) = (container.image.clone(), policy(&container.image_pull_policy));
        let event = match self.get_image(&pod, &name, &wanted, policy).await {
            Ok(facts) => Event::ImageReady(uid, name, facts),
            Err(error) => {
                let fault = match &error {
                    ImageError::InvalidName { .. } => ImageFault::InvalidName,
                    ImageError::NeverPull { .. } => ImageFault::NeverPull,
                    ImageError::NotFound { .. }
                    | ImageError::NoPlatform { .. }
                    | ImageError::DigestMismatch { .. }
                    | ImageError::Unauthorized { .. }
                    | ImageError::Network { .. }
                    | ImageError::Malformed { .. }
                    | ImageError::Full { .. }
                    | ImageError::Io { .. }
                    | ImageError::InUse { .. } => ImageFault::Pull,
                };
                Event::ImageFailed(uid, name, fault, chain(&error))
            }
        };
        self.send(event).await;
    }

    async fn get_image(
        self: &Rc<Self>,
        pod: &Arc<Pod>,
        name: &str,
        wanted: &str,
        policy: PullPolicy,
    ) -> Result<ImageFacts, ImageError> {
        let reference = Reference::parse(wanted)?;
        let images = Arc::clone(&self.images);
        let asked = reference.clone();
        let here = self.blocking(move || images.find(&asked)).await?;
        let local = match (&here, policy) {
            (Some(stored), _) if stored.pinned => Some(ImageOrigin::Pinned),
            (Some(_), PullPolicy::IfNotPresent | PullPolicy::Never) => Some(ImageOrigin::Present),
            (None, PullPolicy::Never) => Some(ImageOrigin::Present),
            (_, PullPolicy::Always) | (None, PullPolicy::IfNotPresent) => None,
        };
        let (image, origin) = match local {
            Some(origin) => (self.resolve(wanted, PullPolicy::Never, Vec::new()).await?, origin),
            None => {
                self.send(Event::ImagePulling(pod.uid.clone(), name.into())).await;
                let credentials = self.credentials(pod).await;
                let _pull = self.pulls.acquire().await;
                let began = clock::now().mono;
                match self.resolve(wanted, policy, credentials).await {
                    Ok(image) => {
                        let took_ms = clock::now().mono.since(began);
                        let images = Arc::clone(&self.images);
                        let stored = self.blocking(move || images.find(&reference)).await?;
                        let bytes = stored.map_or(0, |stored| stored.bytes);
                        (image, ImageOrigin::Pulled { took_ms, bytes })
                    }
                    // A node that is cut off from everything goes on with what it has.
                    Err(ImageError::Network { why, .. })
                        if here.is_some() && !self.is_connected() =>
                    {
                        warning!(
                            "no registry and no API server in sight; image {wanted} is used as it is here: {why}"
                        );
                        let image = self.resolve(wanted, PullPolicy::Never, Vec::new()).await?;
                        (image, ImageOrigin::Present)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let (images, holding) = (Arc::clone(&self.images), image.clone());
        let holder = holder(&pod.uid, name);
        self.blocking(move || images.hold(&holding, &holder)).await?;
        let full = Reference::parse(wanted)?;
        let id = format!("{}/{}@{}", full.registry, full.repository, image.digest);
        self.held_images.borrow_mut().insert((pod.uid.clone(), name.into()), image);
        Ok(ImageFacts { id, origin })
    }

    async fn resolve(
        &self,
        wanted: &str,
        policy: PullPolicy,
        credentials: Vec<Credential>,
    ) -> Result<Image, ImageError> {
        let (images, mirrors) = (Arc::clone(&self.images), self.options.mirrors.clone());
        let wanted = wanted.to_owned();
        // Not among the few blocking calls: a slow registry must not hold up a kill.
        pool::SLOW
            .run(move || {
                // Made for each pull: the system's certificate authorities are more than all else that the agent holds.
                let roots = if policy == PullPolicy::Never { Vec::new() } else { system_roots() };
                let registry = Registry::new(mirrors, &roots);
                images.resolve(&wanted, policy, &registry, &credentials)
            })
            .await
    }

    /// The image that a container was started from; after a restart of the agent it is looked up again.
    pub(crate) async fn image_of(&self, pod: &Pod, name: &str) -> Option<Image> {
        let held = self.held_images.borrow().get(&(pod.uid.clone(), name.into())).cloned();
        match held {
            Some(image) => Some(image),
            None => {
                let wanted = pod.container(name)?.image.clone();
                self.resolve(&wanted, PullPolicy::Never, Vec::new()).await.ok()
            }
        }
    }

    /// The pod stands on no image any more.
    pub(crate) fn release_images(&self, uid: &PodUid) {
        self.held_images.borrow_mut().retain(|(holder, _), _| holder != uid);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.online.get().is_some_and(|online| online.api.is_connected())
    }

    /// Users and passwords from the pod's pull secrets. One that is missing or cannot be read is left out, as kubelet
    /// does; the registry's refusal then says what is wrong.
    async fn credentials(&self, pod: &Pod) -> Vec<Credential> {
        let wanted =
            pod.spec.image_pull_secrets.iter().map(|named| ObjectRef::Secret(named.name.clone()));
        let (wanted, Some(online)) =
            (wanted.collect::<std::collections::BTreeSet<_>>(), self.online.get())
        else {
            return Vec::new();
        };
        if wanted.is_empty() {
            return Vec::new();
        }
        let found =
            objects::read(&online.api, &pod.meta.namespace, wanted).await.unwrap_or_default();
        found
            .values()
            .flatten()
            .flat_map(|data| {
                let config = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
                config.map(|bytes| read_credentials(bytes)).unwrap_or_default()
            })
            .collect()
    }
}

/// The certificate authorities that the system trusts, for registries.
fn system_roots() -> Vec<u8> {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let found =
        own.into_iter().chain(places.map(PathBuf::from)).find_map(|path| std::fs::read(path).ok());
    found.unwrap_or_default()
}

/// Takes back what is held for other pods than these, and removes what nothing stands on.
pub(crate) fn retain(
    images: &ImageStore,
    pods: &std::collections::BTreeSet<PodUid>,
) -> Result<(), ImageError> {
    images.release_all(|holder| !pod_of(holder).is_some_and(|uid| pods.contains(&uid)))?;
    images.collect()
}

/// The pod that a [`holder`] is of.
pub(crate) fn pod_of(holder: &str) -> Option<PodUid> {
    PodUid::parse(holder.split_once('.')?.0)
}

/// Under which name an image is held for a container.
pub(crate) fn holder(uid: &PodUid, name: &str) -> String {
    format!("{uid}.{name}")
}

fn policy(text: &str) -> PullPolicy {
    match text {
        "Always" => PullPolicy::Always,
        "Never" => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

/// Docker's configuration: `{"auths": {"HOST": {"auth": "base64 of user:password"}}}`, or without `auths` around it.
fn read_credentials(bytes: &[u8]) -> Vec<Credential> {
    let config: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let auths = config.get("auths").unwrap_or(&config).as_object();
    auths
        .into_iter()
        .flatten()
        .filter_map(|(host, entry)| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
            let (user, password) = match (text("username"), text("password")) {
                (Some(user), Some(password)) => (user, password),
                _ => {
                    let auth =
                        base64::engine::general_purpose::STANDARD.decode(text("auth")?).ok()?;
                    let auth = String::from_utf8(auth).ok()?;
                    let (user, password) = auth.split_once(':')?;
                    (user.to_owned(), password.to_owned())
                }
            };
            let host = host.trim_start_matches("https://").trim_start_matches("http://");
            let registry = match host.split('/').next().unwrap_or(host) {
                "index.docker.io" | "registry-1.docker.io" => "docker.io",
                other => other,
            };
            Some(Credential { registry: registry.into(), user, password })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_read() {
        let check = |config: &str, want: &[(&str, &str, &str)]| {
            let got = read_credentials(config.as_bytes());
            let got: Vec<(&str, &str, &str)> = got
                .iter()
                .map(|c| (c.registry.as_str(), c.user.as_str(), c.password.as_str()))
                .collect();
            assert_eq!(got, want);
        };
        check(
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnc="}}}"#,
            &[("docker.io", "u", "p:w")],
        );
        check(r#"{"r.lan:5000": {"username": "a", "password": "b"}}"#, &[("r.lan:5000", "a", "b")]);
        check(r#"{"auths": {"x": {"auth": "!"}}}"#, &[]);
        check("no json", &[]);
    }
}
