//! The queue by hand, then against a list that is searched from end to end.

use alloc::{format, string::String, vec::Vec};

use super::*;

fn backlog(pods: &[(&str, i32)]) -> Backlog {
    let mut backlog = Backlog::default();
    pods.iter().for_each(|(uid, priority)| backlog.add(uid, "ns", uid, *priority));
    backlog
}

/// Takes all that are active, in order.
fn drain(backlog: &mut Backlog, now: u64) -> String {
    let mut order = Vec::new();
    while let Some(uid) = backlog.next(Millis(now)) {
        backlog.take(&uid);
        order.push(uid);
    }
    order.join(" ")
}

#[test]
fn by_priority_then_in_order_of_arrival() {
    // Uids are random: they say nothing of the order.
    let mut backlog = backlog(&[("z", 0), ("y", 0), ("a", 0), ("m", 7), ("b", 7)]);
    // Known ones keep their place.
    backlog.add("z", "ns", "z", 0);
    assert_eq!(drain(&mut backlog, 0), "m b z y a");
    assert_eq!(backlog.next_due(), None);
}

#[test]
fn who_found_no_node_waits_for_room_and_for_its_back_off() {
    let mut backlog = backlog(&[("a", 0)]);
    assert_eq!(backlog.next_due(), Some(Millis(0)));
    assert_eq!(backlog.next(Millis(0)).as_deref(), Some("a"));
    backlog.park(Millis(0), "a");
    assert_eq!(backlog.next_due(), Some(Millis(LOOK_AGAIN_MS)));
    assert_eq!(backlog.next(Millis(LOOK_AGAIN_MS - 1)), None);
    backlog.room_changed();
    assert_eq!(backlog.next_due(), Some(Millis(BACK_OFF_MS_MIN)));
    assert_eq!(backlog.next(Millis(BACK_OFF_MS_MIN - 1)), None);
    assert_eq!(backlog.next(Millis(BACK_OFF_MS_MIN)).as_deref(), Some("a"));
    // The second time it waits twice as long, and nothing having changed, for the last resort.
    backlog.park(Millis(0), "a");
    backlog.room_changed();
    assert_eq!(backlog.next_due(), Some(Millis(2 * BACK_OFF_MS_MIN)));
    backlog.remove("a");
    assert_eq!((backlog.next_due(), backlog.name_of("a")), (None, None));
}

#[test]
fn a_refused_binding_is_tried_again_after_its_back_off_alone() {
    let mut backlog = backlog(&[("a", 0)]);
    backlog.take("a");
    assert_eq!(backlog.next_due(), None);
    backlog.park(Millis(5), "a");
    assert_eq!(backlog.next_due(), Some(Millis(5 + BACK_OFF_MS_MIN)));
}

/// The same by searching: what each operation must come to.
#[derive(Default)]
struct Plain {
    /// uid, priority, arrival, attempts, state.
    pods: Vec<(String, i32, u64, u32, State)>,
    arrivals: u64,
}

impl Plain {
    fn at(&mut self, uid: &str) -> Option<&mut (String, i32, u64, u32, State)> {
        self.pods.iter_mut().find(|pod| pod.0 == uid)
    }

    fn next(&mut self, now: Millis) -> Option<String> {
        for pod in &mut self.pods {
            let is_due = match pod.4 {
                State::BackOff { until } => until <= now,
                State::Unschedulable { at_last, .. } => at_last <= now,
                State::Active | State::Binding => false,
            };
            if is_due {
                pod.4 = State::Active;
            }
        }
        let active = self.pods.iter().filter(|pod| pod.4 == State::Active);
        active.min_by_key(|pod| (Reverse(pod.1), pod.2)).map(|pod| pod.0.clone())
    }

    fn next_due(&self) -> Option<Millis> {
        let due = self.pods.iter().filter_map(|pod| match pod.4 {
            State::Active => Some(Millis(0)),
            State::Binding => None,
            State::BackOff { until } => Some(until),
            State::Unschedulable { at_last, .. } => Some(at_last),
        });
        due.min()
    }

    fn park(&mut self, now: Millis, uid: &str) {
        let Some(pod) = self.at(uid) else { return };
        let until = Millis(now.0 + (BACK_OFF_MS_MIN << pod.3.min(8)).min(BACK_OFF_MS_MAX));
        pod.3 += 1;
        pod.4 = match pod.4 {
            State::Binding => State::BackOff { until },
            State::Active | State::BackOff { .. } | State::Unschedulable { .. } => {
                State::Unschedulable { until, at_last: Millis(now.0 + LOOK_AGAIN_MS) }
            }
        };
    }
}

#[test]
fn it_is_what_a_search_finds() {
    // A linear congruential generator (Knuth's MMIX): the run is the same each time.
    let mut seed = 42_u64;
    let mut below = |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    let (mut real, mut plain) = (Backlog::default(), Plain::default());
    let mut now = Millis(1);
    for step in 0..20_000 {
        let uid = format!("{}", below(24));
        match below(10) {
            0..=2 => {
                let priority = i32::try_from(below(3)).unwrap();
                real.add(&uid, "ns", &uid, priority);
                if plain.at(&uid).is_none_or(|pod| pod.1 != priority) {
                    plain.pods.retain(|pod| pod.0 != uid);
                    plain.arrivals += 1;
                    plain.pods.push((uid, priority, plain.arrivals, 0, State::Active));
                }
            }
            3 => {
                real.remove(&uid);
                plain.pods.retain(|pod| pod.0 != uid);
            }
            4 => {
                real.park(now, &uid);
                plain.park(now, &uid);
            }
            5 => {
                real.room_changed();
                for pod in &mut plain.pods {
                    if let State::Unschedulable { until, .. } = pod.4 {
                        pod.4 = State::BackOff { until };
                    }
                }
            }
            6 => now.0 += below(2 * BACK_OFF_MS_MAX),
            _ => {
                let next = real.next(now);
                assert_eq!(next, plain.next(now), "step {step}");
                if let Some(uid) = next {
                    if below(2) == 0 {
                        real.take(&uid);
                        plain.at(&uid).unwrap().4 = State::Binding;
                    } else {
                        real.park(now, &uid);
                        plain.park(now, &uid);
                    }
                }
            }
        }
        assert_eq!(real.next_due(), plain.next_due(), "step {step}");
        let queued = real.active.len() + real.backoff.len() + real.unschedulable.len();
        let binding = real.pods.values().filter(|pod| pod.state == State::Binding).count();
        assert_eq!(queued + binding, real.pods.len(), "step {step}: each pod in one place");
    }
}

#[test]
fn room_that_changes_all_the_time_costs_those_that_back_off_nothing() {
    // Each pod is moved once; the thousands of changes that follow find nothing to do.
    let mut backlog = Backlog::default();
    for index in 0..1_000 {
        let uid = format!("u{index}");
        backlog.add(&uid, "ns", &uid, 0);
        backlog.park(Millis(0), &uid);
    }
    backlog.room_changed();
    assert!(backlog.unschedulable.is_empty());
    for _ in 0..100_000 {
        backlog.room_changed();
    }
    assert_eq!(backlog.backoff.len(), 1_000);
    assert_eq!(backlog.next(Millis(BACK_OFF_MS_MIN)).as_deref(), Some("u0"));
}
