//! What controllers ask of a pod.

use coracle_api::{time, views::PodView};

use crate::Millis;

/// Neither finished nor on its way out: it counts as a replica.
pub(crate) fn is_active(pod: &PodView) -> bool {
    !pod.is_finished() && pod.metadata.deletion_timestamp.is_none()
}

/// Since when it is ready; `None`: it is not.
pub(crate) fn ready_since(pod: &PodView) -> Option<Millis> {
    let ready = pod.status.condition("Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_deref().and_then(time::parse_ms).map_or(Millis(0), Millis))
}

/// Whether and when a pod counts as available.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// It is.
    Now,
    /// It will be, if it stays ready.
    At(Millis),
    /// It is not ready.
    No,
}

/// A pod is available when it has been ready for that many seconds; `ready_since` is [`ready_since`]'s.
pub(crate) fn availability(
    ready_since: Option<Millis>,
    min_ready_s: i32,
    now: Millis,
) -> Availability {
    let Some(since) = ready_since else { return Availability::No };
    let min_ready_ms = u64::try_from(min_ready_s).unwrap_or(0) * 1000;
    if min_ready_ms == 0 {
        return Availability::Now;
    }
    // Since when it is ready is known to the second only: a second more is never too early.
    let at = Millis(since.0.saturating_add(min_ready_ms));
    if at < now { Availability::Now } else { Availability::At(Millis(at.0 + 1)) }
}

#[cfg(test)]
mod tests {
    use coracle_api::views::{PodCondition, PodView};

    use super::{Availability, availability, ready_since};
    use crate::Millis;

    #[test]
    fn available_after_min_ready_seconds() {
        let check = |status: &str, min_ready_s, now, want| {
            let mut pod = PodView::default();
            pod.status.conditions.push(PodCondition {
                r#type: "Ready".into(),
                status: status.into(),
                last_transition_time: Some("1970-01-01T00:00:10Z".into()),
                ..PodCondition::default()
            });
            assert_eq!(
                availability(ready_since(&pod), min_ready_s, Millis(now)),
                want,
                "{status} {now}"
            );
        };
        check("True", 0, 10_000, Availability::Now);
        check("False", 0, 10_000, Availability::No);
        check("True", 5, 12_000, Availability::At(Millis(15_001)));
        check("True", 5, 15_000, Availability::At(Millis(15_001)));
        check("True", 5, 15_001, Availability::Now);
        assert_eq!(availability(ready_since(&PodView::default()), 0, Millis(0)), Availability::No);
    }
}
