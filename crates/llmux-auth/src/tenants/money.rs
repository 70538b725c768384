use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const NANOS_PER_DOLLAR: f64 = 1e9;

/// An amount in whole nano-dollars; in JSON a number of US dollars.
///
/// JSON numbers are doubles: amounts up to two million dollars keep every nano-dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Makes an amount of whole nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the whole nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Adds; sums beyond nine thousand million dollars stay there.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

impl Serialize for Money {
    #[expect(clippy::cast_precision_loss, reason = "JSON has doubles only")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / NANOS_PER_DOLLAR)
    }
}

impl<'de> Deserialize<'de> for Money {
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        let nanos = (dollars * NANOS_PER_DOLLAR).round();
        if nanos.is_finite() && nanos.abs() <= 9e18 {
            Ok(Self(nanos as i64))
        } else {
            Err(de::Error::custom(
                "an amount must be a number of US dollars below nine thousand million",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Money;

    proptest! {
        #[test]
        fn json_keeps_every_nano_dollar_up_to_two_million(nanos in -2_000_000_000_000_000_i64..=2_000_000_000_000_000) {
            let text = serde_json::to_string(&Money::from_nanos(nanos)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap().nanos(), nanos);
        }
    }

    #[test]
    fn json_is_in_dollars() {
        assert_eq!(serde_json::to_string(&Money::from_nanos(12_500_000)).unwrap(), "0.0125");
        assert_eq!(serde_json::from_str::<Money>("3").unwrap(), Money::from_nanos(3_000_000_000));
        assert_eq!(serde_json::from_str::<Money>("0.1").unwrap(), Money::from_nanos(100_000_000));
        assert!(serde_json::from_str::<Money>("1e300").is_err());
        assert_eq!(Money::from_nanos(-1).to_string(), "-0.000000001");
    }
}
