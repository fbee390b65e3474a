//! How long ago something was, as Kubernetes prints it: two units at most, coarser as it grows.

use alloc::{format, string::String};

use coracle_api::time;

use crate::Millis;

/// `5s`, `2m30s`, `3h5m`, `47h`, `2d3h`, `400d`, `3y20d`; `<invalid>` where it is more than a second in the future.
pub(crate) fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => two(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// How long before `now` that RFC 3339 text was; `<unknown>` where there is none.
pub(crate) fn since(now: Millis, text: Option<&str>) -> String {
    match text.and_then(time::parse_ms) {
        None => "<unknown>".into(),
        Some(then) => {
            let ms = i128::from(now.0) - i128::from(then);
            human(i64::try_from(ms.div_euclid(1000)).unwrap_or(i64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{human, since};
    use crate::Millis;

    #[test]
    fn ages_read_as_kubernetes_prints_them() {
        let check = |seconds, want: &str| assert_eq!(human(seconds), want, "{seconds}");
        check(-2, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(599, "9m59s");
        check(600, "10m");
        check(3 * 3600 - 1, "179m");
        check(3 * 3600, "3h");
        check(5 * 3600 + 60, "5h1m");
        check(8 * 3600, "8h");
        check(48 * 3600, "2d");
        check(51 * 3600, "2d3h");
        check(8 * 86_400, "8d");
        check(730 * 86_400, "2y");
        check(750 * 86_400, "2y20d");
        check(8 * 365 * 86_400, "8y");
        assert_eq!(since(Millis(5_000), Some("1970-01-01T00:00:00Z")), "5s");
        assert_eq!(since(Millis(5_000), None), "<unknown>");
    }
}
