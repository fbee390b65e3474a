//! A checker that cannot fail checks nothing: each is shown what it must refuse.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use coracle_agent_logic::fake::Runtime;
use coracle_sim::{
    checker::{Checker, WATCHED},
    history::History,
    rng::Rng,
    trace::Trace,
    wire::{News, Order, Scene},
};
use coracle_store::{Op, Revision, Txn};
use serde_json::{Value, json};

fn put(key: &str, value: &Value, revision: u64) -> Txn {
    let op = Op::Put(key.into(), value.to_string().into_bytes().into());
    Txn { guards: vec![], op, revision: Revision(revision) }
}

fn delete(key: &str, revision: u64) -> Txn {
    Txn { guards: vec![], op: Op::Delete(key.into()), revision: Revision(revision) }
}

fn pod(node: &str) -> Value {
    json!({"metadata": {"name": "web", "uid": "u1"}, "spec": {"nodeName": node}})
}

#[track_caller]
fn breaks(promise: &str, result: Result<(), String>) {
    let why = result.expect_err(promise);
    assert!(why.starts_with(promise), "{why}");
}

#[test]
fn revisions_that_do_not_rise() {
    let mut history = History::default();
    history.apply(&put("/registry/core/pods/default/web", &pod(""), 5)).unwrap();
    breaks("S2", history.apply(&put("/registry/core/pods/default/web", &pod(""), 5)));
    breaks("S2", history.apply(&put("/registry/core/pods/default/web", &pod(""), 4)));
}

#[test]
fn a_pod_that_moves() {
    for second in ["b", ""] {
        let mut history = History::default();
        let key = "/registry/core/pods/default/web";
        history.apply(&put(key, &pod(""), 1)).unwrap();
        history.apply(&put(key, &pod("a"), 2)).unwrap();
        history.apply(&put(key, &pod("a"), 3)).unwrap();
        breaks("P2", history.apply(&put(key, &pod(second), 4)));
    }
}

#[test]
fn a_disk_that_forgot_or_made_up() {
    let mut history = History::default();
    let entry = |key: &str, revision| coracle_store::Entry {
        key: key.into(),
        revision: Revision(revision),
        value: [].into(),
    };
    history.apply(&put("/registry/a", &json!({}), 1)).unwrap();
    history.apply(&put("/registry/b", &json!({}), 2)).unwrap();
    history.same_as(&[entry("/registry/a", 1), entry("/registry/b", 2)]).unwrap();
    breaks("S1", history.same_as(&[entry("/registry/a", 1)]));
    breaks("S1", history.same_as(&[entry("/registry/a", 1), entry("/registry/b", 1)]));
    let more = [entry("/registry/a", 1), entry("/registry/b", 2), entry("/registry/c", 2)];
    breaks("S1", history.same_as(&more));
}

#[test]
fn a_second_attempt_beside_the_first() {
    let uid = coracle_agent_logic::PodUid::parse("u1").unwrap();
    let mut runtime = Runtime::default();
    assert_eq!(runtime.start(&uid, "c", 0, 0), Ok(None), "no sandbox");
    runtime.make(&uid);
    assert!(runtime.start(&uid, "c", 0, 0).unwrap().is_some());
    assert!(runtime.start(&uid, "c", 0, 9).unwrap().is_some(), "carried out twice");
    breaks("R5", runtime.start(&uid, "c", 1, 0).map(|_| ()));
    assert!(runtime.end(&uid, "c", 0, 0, 1));
    assert!(runtime.start(&uid, "c", 1, 2).is_ok());
}

/// ConfigMaps a (blue at 1, green at 3, gone at 5) and b (blue at 2 and 4).
fn history() -> History {
    let mut history = History::default();
    let key = |name: &str| format!("/registry/core/configmaps/default/{name}");
    history.apply(&put(&key("a"), &map("a", "blue"), 1)).unwrap();
    history.apply(&put(&key("b"), &map("b", "blue"), 2)).unwrap();
    history.apply(&put(&key("a"), &map("a", "green"), 3)).unwrap();
    let mut changed = map("b", "blue");
    changed["data"] = json!({"x": "y"});
    history.apply(&put(&key("b"), &changed, 4)).unwrap();
    history.apply(&delete(&key("a"), 5)).unwrap();
    history
}

fn map(name: &str, tier: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"tier": tier}},
    })
}

fn at(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object
}

/// Lists at 2, watches from there, and is told these lines.
fn told(label: &str, lines: &[(&str, Value)]) -> Result<(), String> {
    let watched = WATCHED
        .into_iter()
        .find(|watched| watched.prefix.contains("configmaps") && watched.label.1 == label);
    let mut checker = Checker::new(watched.unwrap());
    let (history, mut rng, mut next_tag) = (history(), Rng::new(1), 0);
    let mut trace = Trace::default();
    let mut scene = Scene {
        now_ms: 0,
        wall_ms: 0,
        rng: &mut rng,
        history: &history,
        trace: &mut trace,
        orders: Vec::new(),
        next_tag: &mut next_tag,
    };
    checker.start(&mut scene);
    let items = [at(map("a", "blue"), 1), at(map("b", "blue"), 2)];
    let list = json!({"metadata": {"resourceVersion": "2"}, "items": items});
    let tag = |scene: &Scene<'_>| match scene.orders.last() {
        Some(Order::Call(tag, _)) => *tag,
        other => panic!("{other:?}"),
    };
    let answer = News::Answer(tag(&scene), 200, list.to_string().into_bytes());
    checker.news(&answer, &mut scene)?;
    let tag = tag(&scene);
    checker.news(&News::Opened(tag), &mut scene)?;
    for (kind, object) in lines {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        checker.news(&News::Bytes(tag, line.into_bytes()), &mut scene)?;
    }
    if lines.len() == 3 {
        assert!(checker.caught_up(&history));
    }
    Ok(())
}

#[test]
fn a_watch_that_lies() {
    let a3 = || at(map("a", "green"), 3);
    let b4 = || {
        let mut b = at(map("b", "blue"), 4);
        b["data"] = json!({"x": "y"});
        b
    };
    let a5 = || at(map("a", "green"), 5);
    let mark = |revision| at(json!({"metadata": {}}), revision);
    told("", &[("MODIFIED", a3()), ("MODIFIED", b4()), ("DELETED", a5())]).unwrap();
    told("blue", &[("DELETED", a3()), ("MODIFIED", b4()), ("BOOKMARK", mark(7))]).unwrap();
    told("blue", &[("DELETED", a3()), ("BOOKMARK", mark(3))]).unwrap();
    // Out of order, twice, left out, by a bookmark too.
    breaks("W1", told("", &[("MODIFIED", a3()), ("MODIFIED", a3())]));
    breaks("W1", told("", &[("MODIFIED", a3()), ("MODIFIED", b4()), ("MODIFIED", a3())]));
    breaks("W2", told("", &[("MODIFIED", b4())]));
    breaks("W2", told("", &[("MODIFIED", a3()), ("BOOKMARK", mark(4))]));
    breaks("W2", told("", &[("BOOKMARK", mark(9))]));
    // Another version, and one that never was.
    breaks("W2", told("", &[("MODIFIED", at(map("a", "red"), 3))]));
    breaks(
        "W2",
        told("", &[("MODIFIED", a3()), ("MODIFIED", b4()), ("ADDED", at(map("c", ""), 6))]),
    );
    // Leaving the selection is a delete; so is going.
    breaks("W5", told("blue", &[("MODIFIED", a3())]));
    breaks("W5", told("", &[("MODIFIED", a3()), ("MODIFIED", b4()), ("MODIFIED", a5())]));
}
