//! Deployments with their ReplicaSets and pods in a small world.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use coracle_api::{Resource, Status, time, views::DeploymentView};
use serde_json::{Value, json};

use super::Deployments;
use crate::{
    cache::Cache,
    controllers::{
        CallAction,
        ask::Plan,
        replicaset::ReplicaSets,
        testing::{self, START, World},
        work::Work,
    },
};

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "annotations": {"note": "mine"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
        "status": {},
    })
}

fn world(seed: u64) -> World {
    let controllers =
        vec![Work::boxed(Deployments::default()), Work::boxed(ReplicaSets::default())];
    World::new(controllers, seed)
}

fn get(world: &World) -> Value {
    world.get(Resource::DEPLOYMENTS, "default", "web")
}

fn edit(world: &mut World, edit: impl FnOnce(&mut Value)) {
    world.edit(Resource::DEPLOYMENTS, "default", "web", "", edit);
}

fn set_image(world: &mut World, image: &str) {
    edit(world, |d| d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into());
}

/// `revision image replicas` of each ReplicaSet, by revision.
fn sets(world: &World) -> Vec<String> {
    let mut sets: Vec<_> = world
        .list(Resource::REPLICA_SETS)
        .into_iter()
        .map(|set| {
            let revision =
                set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone();
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"].clone();
            format!(
                "{} {} {}",
                revision.as_str().unwrap(),
                image.as_str().unwrap(),
                set["spec"]["replicas"]
            )
        })
        .collect();
    sets.sort();
    sets
}

/// `status reason` of a condition.
fn condition(world: &World, r#type: &str) -> String {
    let d = get(world);
    let conditions = d["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == r#type);
    found.map_or_else(String::new, |c| {
        format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
    })
}

fn messages(world: &World, reason: &str) -> Vec<String> {
    let mut events: Vec<_> = world
        .list(Resource::EVENTS)
        .into_iter()
        .filter(|event| event["reason"] == reason)
        .map(|event| {
            (event["metadata"]["name"].to_string(), event["message"].as_str().unwrap().to_string())
        })
        .collect();
    events.sort();
    events.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn a_new_deployment_comes_up() {
    for seed in 0..10 {
        let mut world = world(seed);
        world.create(Resource::DEPLOYMENTS, deployment("web", 2, "a:1"));
        world.settle(true, 60_000);
        let d = get(&world);
        let mut status = d["status"].clone();
        status.as_object_mut().unwrap().remove("conditions");
        let want = json!({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
            "availableReplicas": 2, "terminatingReplicas": 0});
        assert_eq!(status, want, "seed {seed}");
        assert_eq!(condition(&world, "Available"), "True MinimumReplicasAvailable");
        assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
        assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
        assert_eq!(d["metadata"]["generation"], 1, "the revision is no change of what is wanted");
        let set = &world.list(Resource::REPLICA_SETS)[0];
        let name = set["metadata"]["name"].as_str().unwrap();
        let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
        assert_eq!(name, format!("web-{hash}"));
        assert_eq!(
            set["spec"]["selector"]["matchLabels"],
            json!({"app": "web", "pod-template-hash": hash})
        );
        assert_eq!(set["spec"]["template"]["metadata"]["labels"], set["metadata"]["labels"]);
        let want = json!({"deployment.kubernetes.io/desired-replicas": "2",
            "deployment.kubernetes.io/max-replicas": "3", "deployment.kubernetes.io/revision": "1", "note": "mine"});
        assert_eq!(set["metadata"]["annotations"], want);
        let owner = &set["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["controller"]), (&json!("Deployment"), &json!(true)));
        let want = format!("Scaled up replica set {name} from 0 to 2");
        assert_eq!(messages(&world, "ScalingReplicaSet"), [want]);
    }
}

/// Pods of all ReplicaSets: (there and not going, ready among them).
fn pods(cache: &Cache) -> (usize, usize) {
    let pods = cache.list(Resource::PODS, None).filter(|pod| pod.meta.deletion_timestamp.is_none());
    let ready: Vec<bool> = pods
        .map(|pod| pod.value().pointer("/status/conditions/0/status") == Some(&json!("True")))
        .collect();
    (ready.len(), ready.iter().filter(|ready| **ready).count())
}

#[test]
fn a_rollout_keeps_its_bounds_at_every_change() {
    let bounds =
        [(4, "25%", "25%", 5, 3), (10, "3", "2", 13, 8), (3, "0", "1", 3, 2), (3, "1", "0", 4, 3)];
    for (replicas, surge, unavailable, most, least) in bounds {
        for seed in 0..4 {
            let mut world = world(seed);
            let mut value = deployment("web", replicas, "a:1");
            let number = |text: &str| text.parse::<i32>().map_or(json!(text), |n| json!(n));
            value["spec"]["strategy"]["rollingUpdate"] =
                json!({"maxSurge": number(surge), "maxUnavailable": number(unavailable)});
            world.create(Resource::DEPLOYMENTS, value);
            world.settle(true, 60_000);
            world.check(move |cache| {
                let (there, ready) = pods(cache);
                assert!(there <= most, "{there} pods, seed {seed}");
                assert!(ready >= least, "{ready} ready pods, seed {seed}");
            });
            set_image(&mut world, "b:1");
            world.settle(true, 60_000);
            assert_eq!(sets(&world), ["1 a:1 0".into(), format!("2 b:1 {replicas}")]);
            // Back in the middle of the next rollout.
            set_image(&mut world, "c:1");
            for _ in 0..seed * 20 {
                world.settle_a_little();
            }
            set_image(&mut world, "b:1");
            world.settle(true, 60_000);
            assert_eq!(pods(&world.cache).1, usize::try_from(replicas).unwrap());
            assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
        }
    }
}

#[test]
fn undo_gives_the_old_replica_set_a_new_revision() {
    let mut world = world(7);
    world.create(Resource::DEPLOYMENTS, deployment("web", 2, "a:1"));
    world.settle(true, 60_000);
    set_image(&mut world, "b:1");
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["1 a:1 0", "2 b:1 2"]);
    edit(&mut world, |d| {
        d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = "0".into()
    });
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["2 b:1 0", "3 a:1 2"]);
    let d = get(&world);
    assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert!(d["metadata"]["annotations"]["deprecated.deployment.rollback.to"].is_null());
    let labels = &d["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels, &json!({"app": "web"}), "the hash stays out of the Deployment");
    let histories: Vec<_> = world
        .list(Resource::REPLICA_SETS)
        .iter()
        .map(|set| {
            set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"].clone()
        })
        .collect();
    assert!(histories.contains(&json!("1")), "{histories:?}");
    assert_eq!(
        messages(&world, "DeploymentRollback"),
        ["Rolled back deployment \"web\" to revision 1"]
    );
    for (to, reason) in
        [("3", "DeploymentRollbackTemplateUnchanged"), ("77", "DeploymentRollbackRevisionNotFound")]
    {
        edit(&mut world, |d| {
            d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = to.into()
        });
        world.settle(true, 60_000);
        assert_eq!(messages(&world, reason).len(), 1, "{reason}");
        assert!(
            get(&world)["metadata"]["annotations"]["deprecated.deployment.rollback.to"].is_null()
        );
    }
    assert_eq!(sets(&world), ["2 b:1 0", "3 a:1 2"]);
}

#[test]
fn history_is_cleaned_up_to_its_limit() {
    let mut world = world(8);
    let mut value = deployment("web", 1, "a:1");
    value["spec"]["revisionHistoryLimit"] = 2.into();
    world.create(Resource::DEPLOYMENTS, value);
    for image in ["b:1", "c:1", "d:1", "e:1"] {
        world.settle(true, 60_000);
        set_image(&mut world, image);
    }
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["3 c:1 0", "4 d:1 0", "5 e:1 1"]);
}

#[test]
fn recreate_starts_new_pods_when_the_old_are_gone() {
    for seed in 0..10 {
        let mut world = world(seed);
        let mut value = deployment("web", 3, "a:1");
        value["spec"]["strategy"] = json!({"type": "Recreate"});
        world.create(Resource::DEPLOYMENTS, value);
        world.settle(true, 60_000);
        world.check(|cache| {
            let mut images: Vec<_> = cache
                .list(Resource::PODS, None)
                .map(|pod| pod.value()["spec"]["containers"][0]["image"].to_string())
                .collect();
            images.dedup();
            images.sort();
            images.dedup();
            assert!(images.len() <= 1, "{images:?}");
        });
        set_image(&mut world, "b:1");
        world.settle(true, 60_000);
        assert_eq!(sets(&world), ["1 a:1 0", "2 b:1 3"]);
        assert_eq!(pods(&world.cache), (3, 3));
    }
}

#[test]
fn a_stuck_rollout_misses_its_deadline_and_keeps_the_old_pods() {
    let mut world = world(9);
    world.create(Resource::DEPLOYMENTS, deployment("web", 4, "a:1"));
    world.settle(true, 60_000);
    set_image(&mut world, "broken:1");
    world.settle(true, 500_000);
    assert_eq!(condition(&world, "Progressing"), "True ReplicaSetUpdated");
    assert_eq!(sets(&world), ["1 a:1 3", "2 broken:1 2"]);
    world.settle(true, 200_000);
    assert_eq!(condition(&world, "Progressing"), "False ProgressDeadlineExceeded");
    assert_eq!(condition(&world, "Available"), "True MinimumReplicasAvailable");
    set_image(&mut world, "c:1");
    world.settle(true, 60_000);
    assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(sets(&world), ["1 a:1 0", "2 broken:1 0", "3 c:1 4"]);
}

#[test]
fn paused_deployments_scale_but_do_not_roll() {
    let mut world = world(10);
    world.create(Resource::DEPLOYMENTS, deployment("web", 2, "a:1"));
    world.settle(true, 60_000);
    edit(&mut world, |d| d["spec"]["paused"] = true.into());
    world.settle(true, 60_000);
    assert_eq!(condition(&world, "Progressing"), "Unknown DeploymentPaused");
    set_image(&mut world, "b:1");
    edit(&mut world, |d| d["spec"]["replicas"] = 5.into());
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["1 a:1 5"]);
    edit(&mut world, |d| d["spec"]["paused"] = false.into());
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["1 a:1 0", "2 b:1 5"]);
    assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn scaling_in_a_rollout_is_shared_by_size() {
    let mut world = world(11);
    world.create(Resource::DEPLOYMENTS, deployment("web", 10, "a:1"));
    world.settle(true, 60_000);
    set_image(&mut world, "broken:1");
    world.settle(true, 60_000);
    // 13 in all, 2 old ones fewer: the new ones never get ready.
    assert_eq!(sets(&world), ["1 a:1 8", "2 broken:1 5"]);
    edit(&mut world, |d| d["spec"]["replicas"] = 15.into());
    world.settle(true, 60_000);
    // 19 in all: 8 * 19 / 13 = 11.7, 5 * 19 / 13 = 7.3; then the old ones are spared down to 12 available.
    assert_eq!(sets(&world), ["1 a:1 12", "2 broken:1 7"]);
    edit(&mut world, |d| d["spec"]["replicas"] = 0.into());
    world.settle(true, 60_000);
    assert_eq!(sets(&world), ["1 a:1 0", "2 broken:1 0"]);
}

#[test]
fn a_taken_name_counts_as_collision() {
    let mut world = world(12);
    world.create(Resource::DEPLOYMENTS, deployment("web", 1, "a:1"));
    world.settle(true, 60_000);
    let set = world.list(Resource::REPLICA_SETS)[0].clone();
    let name = set["metadata"]["name"].as_str().unwrap().to_string();
    let mut other = self::world(12);
    other.create(
        Resource::REPLICA_SETS,
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}}, "status": {}}),
    );
    other.create(Resource::DEPLOYMENTS, deployment("web", 1, "a:1"));
    other.settle(true, 60_000);
    assert_eq!(get(&other)["status"]["collisionCount"], 1);
    assert_eq!(get(&other)["status"]["availableReplicas"], 1);
    assert_eq!(other.count(Resource::REPLICA_SETS), 2);
}

#[test]
fn a_replica_set_that_cannot_be_made_is_told() {
    let mut world = world(13);
    let allowed = alloc::rc::Rc::new(core::cell::Cell::new(false));
    let lever = allowed.clone();
    world.refuse(move |call| {
        let refused = call.resource == Resource::REPLICA_SETS && !lever.get();
        refused.then(|| Status::new(403, "Forbidden", "exceeded quota"))
    });
    world.create(Resource::DEPLOYMENTS, deployment("web", 1, "a:1"));
    world.settle(true, 1_000);
    assert_eq!(condition(&world, "Progressing"), "False ReplicaSetCreateError");
    assert_eq!(messages(&world, "ReplicaSetCreateError").len(), 1);
    allowed.set(true);
    world.settle(true, 60_000);
    assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn orphans_are_adopted_again() {
    let mut world = world(14);
    world.create(Resource::DEPLOYMENTS, deployment("web", 2, "a:1"));
    world.settle(true, 60_000);
    world.remove(Resource::DEPLOYMENTS, "default", "web");
    let name =
        world.list(Resource::REPLICA_SETS)[0]["metadata"]["name"].as_str().unwrap().to_string();
    world.edit(Resource::REPLICA_SETS, "default", &name, "", |set| {
        set["metadata"]["ownerReferences"] = Value::Null;
    });
    world.settle(true, 60_000);
    let pods_before = world.list(Resource::PODS);
    world.create(Resource::DEPLOYMENTS, deployment("web", 2, "a:1"));
    world.settle(true, 60_000);
    assert_eq!(world.count(Resource::REPLICA_SETS), 1);
    assert_eq!(world.list(Resource::PODS), pods_before);
    assert_eq!(condition(&world, "Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn events_and_idle() {
    let mut world = world(15);
    world.create(Resource::DEPLOYMENTS, deployment("web", 3, "a:1"));
    world.settle(true, 60_000);
    let before = world.log.len();
    world.settle(true, 24 * 3_600_000);
    assert_eq!(world.log.len(), before, "an idle cluster writes nothing");
}

/// A ReplicaSet as a decision finds it: image, wanted, available, and for which size of Deployment it was made.
struct Found(&'static str, i32, i32, (i32, i32));

/// Decides once for a Deployment of image `new` and gives the size that each ReplicaSet is to have (stored, if none is
/// asked for).
fn decided(replicas: i32, surge: i32, unavailable: i32, found: &[Found]) -> Vec<i64> {
    let mut value = deployment("web", replicas, "new");
    value["metadata"]["uid"] = "d".into();
    value["spec"]["strategy"]["rollingUpdate"] =
        json!({"maxSurge": surge, "maxUnavailable": unavailable});
    let object = testing::object(Resource::DEPLOYMENTS, value, 1);
    let sets: Vec<_> = found
        .iter()
        .zip(1..)
        .map(|(Found(image, wanted, available, (desired, max)), age)| {
            let created = time::rfc3339(START.0 - 1_000_000 + age * 1000);
            let set = json!({
                "metadata": {"name": format!("web-{age}"), "namespace": "default", "uid": format!("{age}"), "generation": 1,
                    "creationTimestamp": created, "annotations": {
                    "deployment.kubernetes.io/revision": format!("{age}"),
                    "deployment.kubernetes.io/desired-replicas": format!("{desired}"),
                    "deployment.kubernetes.io/max-replicas": format!("{max}")}},
                "spec": {"replicas": wanted, "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": image}]}}},
                "status": {"replicas": wanted, "availableReplicas": available, "readyReplicas": available,
                    "observedGeneration": 1},
            });
            super::Set::of(&testing::object(Resource::REPLICA_SETS, set, age)).unwrap()
        })
        .collect();
    let mut sizes: Vec<i64> = sets.iter().map(|set| set.replicas.into()).collect();
    let mut plan = Plan::default();
    let d: DeploymentView = object.view().unwrap();
    super::rollout::decide(super::Draft {
        now: START,
        object: &object,
        annotations: d.metadata.annotations.clone(),
        d,
        sets,
        new: None,
        pods: Vec::new(),
        is_taken: &|_| false,
        memory: &mut super::Memory::default(),
        plan: &mut plan,
    });
    for ask in plan.calls.iter().filter(|ask| ask.resource == Resource::REPLICA_SETS) {
        let CallAction::Update(value) = &ask.action else { panic!("{ask:?}") };
        let index: usize = ask.name.trim_start_matches("web-").parse().unwrap();
        sizes[index - 1] = value["spec"]["replicas"].as_i64().unwrap();
    }
    sizes
}

#[test]
fn scaling_vectors() {
    // Wanted now, surge, sets (old ones first; wanted each), made for (size, size and surge); what they shall be.
    // The cases follow upstream's TestScale.
    let check = |replicas, surge, sets: &[(&'static str, i32)], made_for, want: &[i64]| {
        let found: Vec<_> = sets.iter().map(|(image, n)| Found(image, *n, 0, made_for)).collect();
        // One may be missing where there is no surge, as both 0 means.
        let unavailable = i32::from(surge == 0);
        assert_eq!(decided(replicas, surge, unavailable, &found), want, "{replicas} {sets:?}");
    };
    check(12, 0, &[("new", 10)], (10, 10), &[12]);
    check(5, 0, &[("new", 10)], (10, 10), &[5]);
    check(10, 0, &[("old", 3), ("new", 2)], (5, 5), &[6, 4]);
    check(3, 0, &[("old", 3), ("new", 2)], (5, 5), &[2, 1]);
    check(4, 0, &[("old", 1), ("new", 8)], (9, 9), &[0, 4]);
    check(10, 0, &[("older", 2), ("old", 3), ("new", 2)], (7, 7), &[3, 4, 3]);
    check(8, 0, &[("older", 3), ("old", 8), ("new", 2)], (13, 13), &[2, 5, 1]);
    check(20, 2, &[("old", 6), ("new", 6)], (10, 12), &[11, 11]);
    check(50, 6, &[("old", 8), ("new", 5)], (10, 13), &[34, 22]);
    check(0, 0, &[("old", 3), ("new", 2)], (5, 5), &[0, 0]);
}

#[test]
fn rolling_vectors() {
    // Ten wanted; old and new ones (wanted, available). The cases follow upstream's
    // TestDeploymentController_reconcileOldReplicaSets and of reconcileNewReplicaSet.
    let check = |surge, unavailable, old: (i32, i32), new: (i32, i32), want: &[i64]| {
        let made_for = (10, 10 + surge);
        let found = [Found("old", old.0, old.1, made_for), Found("new", new.0, new.1, made_for)];
        assert_eq!(
            decided(10, surge, unavailable, &found),
            want,
            "{surge} {unavailable} {old:?} {new:?}"
        );
    };
    check(0, 2, (10, 10), (0, 0), &[8, 0]);
    check(0, 2, (10, 8), (0, 0), &[8, 0]);
    check(0, 2, (10, 9), (0, 0), &[8, 0]);
    check(0, 2, (8, 8), (2, 0), &[8, 2]);
    check(0, 2, (8, 8), (0, 0), &[8, 2]);
    check(2, 0, (10, 10), (0, 0), &[10, 2]);
    check(2, 0, (10, 10), (2, 0), &[10, 2]);
    check(2, 0, (10, 10), (2, 2), &[8, 2]);
    check(2, 0, (5, 5), (0, 0), &[5, 7]);
    check(2, 0, (0, 0), (12, 12), &[0, 10]);
}
