//! Resource quantities (`500m`, `1.5Gi`, `1e3`): exact, to the nano.
//!
//! Source: the API conventions' quantity format. Values beyond 2^63-1 are held to it, finer ones than a nano are rounded
//! away from zero, as Kubernetes does; no floating point anywhere.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Resource name (`cpu`, `memory`, `ephemeral-storage`, `pods`, …) to amount.
pub type ResourceList = BTreeMap<String, Quantity>;

const NANO: i128 = 1_000_000_000;
const MAX: i128 = (i64::MAX as i128) * NANO;

/// How a quantity is written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `500m`, `2`, `3k`.
    #[default]
    DecimalSi,
    /// `1536Mi`.
    BinarySi,
    /// `5e3`.
    DecimalExponent,
}

/// An exact amount. Equality and order are of the amount, not of how it was written.
#[derive(Copy, Clone, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why text is no quantity, in Kubernetes' words.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum QuantityError {
    /// No number at its start.
    Format,
    /// The number cannot be read.
    Number,
    /// The suffix is not one.
    Suffix,
}

impl core::fmt::Display for QuantityError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Format => {
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            Self::Number => "unable to parse numeric part of quantity",
            Self::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl Quantity {
    /// That many whole units, decimal.
    pub fn units(n: i64) -> Self {
        Self { nano: i128::from(n) * NANO, format: Format::DecimalSi }
    }

    /// That many thousandths, decimal: CPU.
    pub fn milli(n: i64) -> Self {
        Self { nano: i128::from(n) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// That many bytes, written with `Ki`, `Mi`, …
    pub fn bytes(n: i64) -> Self {
        Self { nano: i128::from(n) * NANO, format: Format::BinarySi }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// [`QuantityError`], with Kubernetes' wording.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end =
            unsigned.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, suffix) = unsigned.split_at_checked(end).ok_or(QuantityError::Format)?;
        if number.is_empty() {
            return Err(QuantityError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Number);
        }
        let (multiplier, power, format) = suffix_of(suffix)?;
        let nano = scaled(whole, fraction, multiplier, power);
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// Whole units, rounded up (away from zero); held to what an i64 can hold.
    pub fn value(&self) -> i64 {
        self.over(NANO)
    }

    /// Thousandths, rounded up (away from zero): CPU in millicores.
    pub fn milli_value(&self) -> i64 {
        self.over(NANO / 1000)
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Exactly zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// A whole number of units (needed of most extended resources).
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The sum; keeps this one's format (the other's where this is zero).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: (self.nano + other.nano).clamp(-MAX, MAX), format }
    }

    /// The difference.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nano: (self.nano - other.nano).clamp(-MAX, MAX), format }
    }

    /// Rounded up to whole thousandths, as pod resources are when defaulted.
    #[must_use]
    pub fn round_up_to_milli(&self) -> Self {
        let unit = NANO / 1000;
        let sign = self.nano.signum();
        Self { nano: sign * (self.nano.abs() + unit - 1) / unit * unit, format: self.format }
    }

    fn over(&self, unit: i128) -> i64 {
        let rounded = self.nano.signum() * ((self.nano.abs() + unit - 1) / unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

/// `|number| * multiplier * 10^power` in nanos, rounded up, held to [`MAX`].
fn scaled(whole: &str, fraction: &str, multiplier: i128, power: i32) -> i128 {
    let mut digits: i128 = 0;
    // 9 for nanos, less what the fraction's digits use up.
    let mut exponent = power + 9;
    let mut rest = false;
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if digits < 1_000_000_000_000_000_000_000_000 {
            digits = digits * 10 + i128::from(byte - b'0');
            exponent -= i32::from(index >= whole.len());
        } else {
            rest |= byte != b'0';
            exponent += i32::from(index < whole.len());
        }
    }
    if digits == 0 && !rest {
        return 0;
    }
    let Some(mut value) = digits.checked_mul(multiplier) else { return MAX };
    while exponent > 0 {
        value = value.saturating_mul(10);
        exponent -= 1;
        if value > MAX {
            return MAX;
        }
    }
    while exponent < 0 {
        rest |= value % 10 != 0;
        value /= 10;
        exponent += 1;
        if value == 0 {
            break;
        }
    }
    (value + i128::from(rest)).min(MAX)
}

/// Multiplier, power of ten and format of a suffix.
fn suffix_of(suffix: &str) -> Result<(i128, i32, Format), QuantityError> {
    let decimal = |power| Ok((1, power, Format::DecimalSi));
    let binary = |shift: u32| Ok((1i128 << shift, 0, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let power: i32 = digits.parse().map_err(|_| QuantityError::Suffix)?;
            Ok((1, power.clamp(-1000, 1000), Format::DecimalExponent))
        }
    }
}

impl core::fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows it.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let mut format = self.format;
        if format == Format::BinarySi && (self.nano.abs() < 1024 * NANO || !self.is_whole()) {
            format = Format::DecimalSi;
        }
        if format == Format::BinarySi {
            let mut amount = self.nano / NANO;
            let mut suffixes = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter();
            let mut suffix = "";
            while amount % 1024 == 0
                && let Some(next) = suffixes.next()
            {
                amount /= 1024;
                suffix = next;
            }
            return write!(f, "{amount}{suffix}");
        }
        let mut amount = self.nano;
        let mut exponent = -9;
        while amount % 1000 == 0 && exponent < 18 {
            amount /= 1000;
            exponent += 3;
        }
        if format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(f, "{amount}")
            } else {
                write!(f, "{amount}e{exponent}")
            };
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(f, "{amount}{suffix}")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        from_json(&value).map_err(|error| D::Error::custom(format!("{error}")))
    }
}

/// A quantity from a JSON string or number.
///
/// # Errors
/// [`QuantityError`]; other JSON than a string or number is [`QuantityError::Format`].
pub fn from_json(value: &serde_json::Value) -> Result<Quantity, QuantityError> {
    match value {
        serde_json::Value::String(text) => Quantity::parse(text),
        serde_json::Value::Number(number) => Quantity::parse(&number.to_string()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => Err(QuantityError::Format),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::{Quantity, QuantityError};

    #[test]
    fn canonical_form() {
        let check = |text: &str, want: &str| {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), want, "{text}");
        };
        check("1000m", "1");
        check("0.5", "500m");
        check("1.5Gi", "1536Mi");
        check("1024Mi", "1Gi");
        check("1023", "1023");
        check("1000", "1k");
        check("100Mi", "100Mi");
        check("0.1Ki", "102400m");
        check("512", "512");
        check("1e3", "1e3");
        check("12E", "9223372036854775807");
        check("-5m", "-5m");
        check("0", "0");
        check("0.0000000001", "1n");
        check(".5", "500m");
        check("5.", "5");
        check("128974848", "128974848");
        check("129e6", "129e6");
        check("1Ki", "1Ki");
        check("512Ki", "512Ki");
        check("0.5Ki", "512");
    }

    #[test]
    fn values_round_up() {
        assert_eq!(Quantity::parse("1500u").unwrap().milli_value(), 2);
        assert_eq!(Quantity::parse("1500m").unwrap().value(), 2);
        assert_eq!(Quantity::parse("-1500m").unwrap().value(), -2);
        assert_eq!(Quantity::parse("64Mi").unwrap().value(), 67_108_864);
        assert_eq!(Quantity::parse("1500u").unwrap().round_up_to_milli().to_string(), "2m");
    }

    #[test]
    fn bad_ones_are_refused() {
        let check =
            |text: &str, want| assert_eq!(Quantity::parse(text).unwrap_err(), want, "{text}");
        check("", QuantityError::Format);
        check("abc", QuantityError::Format);
        check("1.2.3", QuantityError::Number);
        check(".", QuantityError::Number);
        check("1Zi", QuantityError::Suffix);
        check("1e", QuantityError::Suffix);
        check("1 ", QuantityError::Suffix);
    }
}
