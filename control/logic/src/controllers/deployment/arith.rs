//! How many: the arithmetic of rollouts, as upstream has it.

use coracle_api::{intstr::Rounding, views::DeploymentView};

use super::set::{DESIRED_REPLICAS, MAX_REPLICAS, Set, number};

/// `spec.replicas`.
pub(crate) fn replicas(d: &DeploymentView) -> i32 {
    d.spec.replicas.unwrap_or(1)
}

/// Strategy is RollingUpdate.
pub(crate) fn is_rolling(d: &DeploymentView) -> bool {
    d.spec.strategy.r#type != "Recreate"
}

/// (surge, unavailable) in pods. Both 0 would never move: then one may be unavailable.
fn fence_posts(d: &DeploymentView) -> (i32, i32) {
    let total = replicas(d);
    let rolling = d.spec.strategy.rolling_update.as_ref();
    // Validation lets no other text in than a percentage.
    let scaled = |value: Option<&coracle_api::intstr::IntOrString>, rounding| {
        value.and_then(|value| value.scaled(total, rounding).ok()).unwrap_or(0)
    };
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), Rounding::Up);
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), Rounding::Down);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Pods that may be there beyond the wanted ones.
pub(crate) fn max_surge(d: &DeploymentView) -> i32 {
    if is_rolling(d) { fence_posts(d).0 } else { 0 }
}

/// Pods of the wanted ones that may be missing.
pub(crate) fn max_unavailable(d: &DeploymentView) -> i32 {
    if !is_rolling(d) || replicas(d) == 0 {
        return 0;
    }
    fence_posts(d).1.min(replicas(d))
}

/// Size that the new ReplicaSet (`new` now) may have while all together have `total`.
pub(crate) fn new_set_replicas(d: &DeploymentView, new: i32, total: i32) -> i32 {
    if !is_rolling(d) {
        return replicas(d);
    }
    let room = replicas(d).saturating_add(max_surge(d)) - total;
    if room <= 0 { new } else { new + room.min(replicas(d) - new) }
}

/// What of `to_add` (negative: to take) falls to this ReplicaSet by its size, when `added` has already been given out.
pub(crate) fn proportion(set: &Set, d: &DeploymentView, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let share = fraction(set, d);
    let allowed = to_add - added;
    if to_add > 0 { share.min(allowed) } else { share.max(allowed) }
}

/// By how much this ReplicaSet would change if all changed alike.
fn fraction(set: &Set, d: &DeploymentView) -> i32 {
    if replicas(d) == 0 {
        return -set.replicas;
    }
    let max_now = i64::from(replicas(d).saturating_add(max_surge(d)));
    let max_before = match number(&set.annotations, MAX_REPLICAS) {
        Some(before) if before > 0 => before,
        _ => i64::from(d.status.replicas),
    };
    if max_before <= 0 {
        return 0;
    }
    let size = rounded(i64::from(set.replicas) * max_now, max_before);
    i32::try_from(size).unwrap_or(i32::MAX).saturating_sub(set.replicas)
}

/// `n / d` to the nearest whole number, halves up. Both positive.
fn rounded(n: i64, d: i64) -> i64 {
    n.saturating_mul(2).saturating_add(d) / d.saturating_mul(2).max(1)
}

/// What the Deployment's size was when this ReplicaSet was last sized.
pub(crate) fn desired_before(set: &Set) -> Option<i32> {
    number(&set.annotations, DESIRED_REPLICAS).and_then(|n| i32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use coracle_api::{
        intstr::IntOrString,
        views::{DeploymentView, RollingUpdateDeployment},
    };

    use super::{max_surge, max_unavailable, new_set_replicas, rounded};

    fn deployment(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> DeploymentView {
        let mut d = DeploymentView::default();
        d.spec.replicas = Some(replicas);
        d.spec.strategy.r#type = "RollingUpdate".into();
        d.spec.strategy.rolling_update = Some(RollingUpdateDeployment {
            max_surge: Some(surge),
            max_unavailable: Some(unavailable),
        });
        d
    }

    fn value(text: &str) -> IntOrString {
        text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int)
    }

    #[test]
    fn fence_posts() {
        let check = |replicas, surge, unavailable, want| {
            let d = deployment(replicas, value(surge), value(unavailable));
            assert_eq!(
                (max_surge(&d), max_unavailable(&d)),
                want,
                "{replicas} {surge} {unavailable}"
            );
        };
        check(1, "25%", "25%", (1, 0));
        check(3, "25%", "25%", (1, 0));
        check(4, "25%", "25%", (1, 1));
        check(10, "25%", "25%", (3, 2));
        check(10, "0", "0", (0, 1));
        check(10, "0%", "0%", (0, 1));
        check(2, "0", "5", (0, 2));
        check(0, "25%", "25%", (0, 0));
        let mut recreate = deployment(5, value("25%"), value("25%"));
        recreate.spec.strategy.r#type = "Recreate".into();
        assert_eq!((max_surge(&recreate), max_unavailable(&recreate)), (0, 0));
    }

    #[test]
    fn new_replica_sets_grow_into_the_surge() {
        let check = |replicas, surge, new, total, want| {
            let d = deployment(replicas, value(surge), value("0"));
            assert_eq!(new_set_replicas(&d, new, total), want, "{replicas} {surge} {new} {total}");
        };
        // Upstream's TestDeploymentController_reconcileNewReplicaSet: 10 wanted.
        check(10, "0", 0, 10, 0);
        check(10, "2", 0, 10, 2);
        check(10, "2", 0, 5, 7);
        check(10, "2", 2, 12, 2);
        check(10, "2", 0, 0, 10);
    }

    #[test]
    fn halves_round_up() {
        assert_eq!([rounded(5, 2), rounded(4, 2), rounded(7, 3), rounded(8, 3)], [3, 2, 2, 3]);
    }
}
