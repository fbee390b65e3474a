//! RFC 3339 text and milliseconds or microseconds since 1970 (UTC), without a clock or a calendar library.

use alloc::{format, string::String};

/// The last second (since 1970) that RFC 3339 can say: that of the year 9999.
pub const LAST_SECOND: u64 = 253_402_300_799;

/// `2024-05-01T12:00:00Z`: metav1.Time, whole seconds, from milliseconds since 1970. What is past [`LAST_SECOND`] is
/// written as that.
pub fn rfc3339(unix_ms: u64) -> String {
    let (date, time) = civil(unix_ms / 1000);
    format!("{date}T{time}Z")
}

/// `2024-05-01T12:00:00.000000Z`: metav1.MicroTime, from microseconds since 1970; up to [`LAST_SECOND`] likewise.
pub fn rfc3339_micro(unix_us: u64) -> String {
    let (date, time) = civil(unix_us / 1_000_000);
    format!("{date}T{time}.{:06}Z", unix_us % 1_000_000)
}

/// Milliseconds since 1970 of RFC 3339 text with any offset; `None` where it is not that, or before 1970.
pub fn parse_ms(text: &str) -> Option<u64> {
    parse_us(text).map(|us| us / 1000)
}

/// Microseconds since 1970 of RFC 3339 text with any offset; `None` where it is not that, or before 1970.
pub fn parse_us(text: &str) -> Option<u64> {
    u64::try_from(parse_signed_us(text)?).ok()
}

/// Microseconds since 1970, negative before.
fn parse_signed_us(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix('T')?;
    let (clock, mut rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let (fraction, after) = fraction.split_at_checked(digits)?;
        micros = format!("{fraction:0<6}").get(..6)?.parse::<i64>().ok()?;
        rest = after;
    }
    let offset_seconds = match rest {
        "Z" => 0,
        _ => {
            let sign = match rest.bytes().next()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let [hours, minutes] = numbers(rest.get(1..)?, ':')?;
            if hours > 23 || minutes > 59 || rest.len() != 6 {
                return None;
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        - offset_seconds;
    Some(seconds * 1_000_000 + micros)
}

/// Exactly `N` numbers of two (the first of a date: four) digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut out = [0; N];
    for slot in &mut out {
        let part = parts.next()?;
        if !matches!(part.len(), 2 | 4) || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Days in that month of the proleptic Gregorian calendar.
fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Counts in years that begin on 1 March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Date and time of day of these seconds since 1970.
fn civil(unix_s: u64) -> (String, String) {
    let unix_s = unix_s.min(LAST_SECOND);
    let days = unix_s / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let second = unix_s % 86_400;
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
    )
}

#[cfg(test)]
mod tests {
    use super::{LAST_SECOND, parse_ms, parse_us, rfc3339, rfc3339_micro};

    #[test]
    fn there_and_back() {
        let check = |ms, text: &str| {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        };
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_400_000, "2000-02-29T00:00:00Z");
        check(1_709_251_199_000, "2024-02-29T23:59:59Z");
        check(4_102_444_800_000, "2100-01-01T00:00:00Z");
        for day in (0..40_000).step_by(13) {
            let ms = day * 86_400_000 + 12_345_000;
            assert_eq!(parse_ms(&rfc3339(ms)), Some(ms));
        }
        assert_eq!(rfc3339_micro(1_000_001), "1970-01-01T00:00:01.000001Z");
        check(LAST_SECOND * 1000, "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn offsets_and_fractions() {
        assert_eq!(parse_us("1970-01-01T01:00:00.5+01:00"), Some(500_000));
        assert_eq!(parse_us("1970-01-01T00:00:00.123456789Z"), Some(123_456));
        for bad in [
            "",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "é970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_us(bad), None, "{bad}");
        }
    }
}
