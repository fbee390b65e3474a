//! The table reads as it should, and start-up adds what is missing and nothing else.

use alloc::string::ToString;

use serde_json::{Value, json};

use super::*;
use crate::fixture::World;

fn world() -> World {
    World::of(objects().map(|(_, object)| object))
}

#[test]
fn every_line_is_a_rule() {
    let inside = NAMESPACED.iter().map(|one| (one.name, one.rules));
    for (name, rules) in ROLES.iter().map(|one| (one.name, one.rules)).chain(inside) {
        for line in rules.lines() {
            let rule = read_rule(line);
            let paths = !rule.non_resource_urls.is_empty();
            assert!(!rule.verbs.is_empty(), "{name}: {line}");
            assert_eq!(paths, rule.resources.is_empty(), "{name}: {line}");
            assert_eq!(paths, rule.api_groups.is_empty(), "{name}: {line}");
        }
    }
    for binding in BINDINGS {
        assert!(ROLES.iter().any(|role| role.name == binding.role), "{}", binding.name);
        assert!(binding.subjects.iter().all(|text| subject(text).is_some()), "{}", binding.name);
    }
}

#[test]
fn a_whole_cluster_needs_nothing() {
    assert_eq!(ensure(&world().cache), Vec::new());
    assert_eq!(
        ensure(&World::default().cache).len(),
        ROLES.len() + BINDINGS.len() + 2 * NAMESPACED.len()
    );
}

#[test]
fn what_is_taken_away_comes_back_and_what_is_added_stays() {
    let mut world = world();
    let put = |world: &mut World, resource, name: &str, change: &dyn Fn(&mut Value)| {
        let mut value = world.cache.get(resource, "", name).expect(name).value();
        change(&mut value);
        world.put(value);
    };
    let own = json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]});
    put(&mut world, Resource::CLUSTER_ROLES, "system:basic-user", &|role| {
        role["rules"] = json!([own]);
    });
    put(&mut world, Resource::CLUSTER_ROLES, "system:monitoring", &|role| {
        role["rules"] = json!([]);
        role["metadata"]["annotations"][AUTOUPDATE] = "false".into();
    });
    put(&mut world, Resource::CLUSTER_ROLE_BINDINGS, "system:basic-user", &|binding| {
        binding["subjects"] = Value::Null;
    });
    world.take(Resource::CLUSTER_ROLES, "", "view");

    let todo = ensure(&world.cache);
    let names: Vec<String> = todo
        .iter()
        .map(|one| match one {
            Ensure::Create(_, value) => format!("+{}", value["metadata"]["name"]),
            Ensure::Update(resource, value) => {
                format!("~{} {}", resource.def().kind, value["metadata"]["name"])
            }
        })
        .collect();
    assert_eq!(
        names,
        [
            "~ClusterRole \"system:basic-user\"",
            "+\"view\"",
            "~ClusterRoleBinding \"system:basic-user\""
        ]
    );
    let Some(Ensure::Update(_, role)) = todo.first() else { panic!("an update") };
    assert_eq!(role["rules"].as_array().map(Vec::len), Some(3));
    assert_eq!(role["rules"][0], own);
}

#[test]
fn they_are_small() {
    let bytes: usize = objects().map(|(_, object)| object.to_string().len()).sum();
    assert!(bytes < 48 * 1024, "{bytes} bytes");
}
