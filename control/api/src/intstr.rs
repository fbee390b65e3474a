//! `IntOrString`: a count, or a percentage as text.

use alloc::{format, string::String};

use serde::{Deserialize, Serialize};

/// `5`, `"25%"` or a port's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// Text: a percentage or a name.
    String(String),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

/// What to do with the rest of a percentage.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the next whole number above (`maxSurge`).
    Up,
    /// To the whole number below (`maxUnavailable`).
    Down,
}

impl IntOrString {
    /// The number meant, of `total` where it is a percentage (0 to any; 25 of 10 is 3 up, 2 down).
    ///
    /// # Errors
    /// Text that is not digits and `%`, with Kubernetes' wording.
    pub fn scaled(&self, total: i32, rounding: Rounding) -> Result<i32, String> {
        match self {
            Self::Int(n) => Ok(*n),
            Self::String(text) => {
                let percent = self.percent().ok_or_else(|| {
                    format!(
                        "invalid value for IntOrString: invalid type: string is not a percentage: {text:?}"
                    )
                })?;
                let product = i64::from(percent) * i64::from(total);
                let rounded = match rounding {
                    Rounding::Up => (product + 99).div_euclid(100),
                    Rounding::Down => product.div_euclid(100),
                };
                i32::try_from(rounded).map_err(|_| format!("{text} of {total} is out of range"))
            }
        }
    }

    /// The percentage, where it is one.
    pub fn percent(&self) -> Option<i32> {
        match self {
            Self::Int(_) => None,
            Self::String(text) => text.strip_suffix('%')?.parse().ok(),
        }
    }
}

impl core::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IntOrString, Rounding};

    #[test]
    fn percentages_round_as_asked() {
        let check = |text: &str, total, up, down| {
            let value = IntOrString::String(text.into());
            assert_eq!(value.scaled(total, Rounding::Up).unwrap(), up, "{text} of {total} up");
            assert_eq!(
                value.scaled(total, Rounding::Down).unwrap(),
                down,
                "{text} of {total} down"
            );
        };
        check("25%", 1, 1, 0);
        check("25%", 3, 1, 0);
        check("25%", 10, 3, 2);
        check("100%", 7, 7, 7);
        check("0%", 7, 0, 0);
        assert!(IntOrString::String("x%".into()).scaled(1, Rounding::Up).is_err());
        assert_eq!(IntOrString::Int(4).scaled(1, Rounding::Up).unwrap(), 4);
    }
}
