use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::de::{Unexpected, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::decimal::scaled;

/// An amount of US dollars in whole nano-dollars (10⁻⁹ US dollars): what budgets, spend and bills count in.
///
/// Sums and differences saturate at [`Money::MIN`] and [`Money::MAX`], some nine billion dollars: an amount that large
/// stays that large and never wraps into its opposite. Shown, and written as JSON, in dollars as a plain decimal number
/// without an exponent (`0.000123`). Read from a JSON number or a string of one; strings and [`Money::from_usd`] are
/// exact over the whole range, JSON numbers up to 4.5 million dollars, beyond which their readers keep fewer digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

/// A text that is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneyError(String);

impl fmt::Display for MoneyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is not an amount in US dollars between 0.000000001 and 9 billion",
            self.0
        )
    }
}

impl std::error::Error for MoneyError {}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);
    /// The smallest amount, below zero.
    pub const MIN: Self = Self(i64::MIN);

    /// Makes an amount of nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Reads a decimal number of US dollars, as in `12.5`, `-3` or `1.23e-4`. More than nine decimals are rounded to the
    /// nearest nano-dollar, a half away from zero.
    ///
    /// # Errors
    /// If it is no number, too large, or not zero but too small to count.
    pub fn from_usd(text: &str) -> Result<Self, MoneyError> {
        let nanos = scaled(text, 9).and_then(|nanos| i64::try_from(nanos).ok());
        nanos.map(Self).ok_or_else(|| MoneyError(text.chars().take(40).collect()))
    }

    /// Rounds pico-dollars to the nearest nano-dollar, a half upwards; saturates at [`Money::MAX`].
    pub const fn from_picos(picos: u128) -> Self {
        let nanos = picos / 1000 + (picos % 1000 >= 500) as u128;
        Self(if nanos > i64::MAX as u128 { i64::MAX } else { nanos as i64 })
    }

    /// Tells whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Adds; see [`Money`] for what happens at the ends.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Subtracts; see [`Money`] for what happens at the ends.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Multiplies; see [`Money`] for what happens at the ends.
    pub const fn saturating_mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Add for Money {
    type Output = Self;

    /// Saturates.
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Sub for Money {
    type Output = Self;

    /// Saturates.
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// The digits of an amount without its sign: at most ten of dollars, a point, nine of a dollar's parts.
struct Digits {
    bytes: [u8; 20],
    /// Where they begin, and end.
    range: std::ops::Range<usize>,
}

impl Digits {
    const fn of(nanos: u64) -> Self {
        const POINT: usize = 10;
        let mut bytes = [b'0'; 20];
        bytes[POINT] = b'.';
        let (mut dollars, mut rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let mut start = POINT;
        loop {
            start -= 1;
            bytes[start] = b'0' + (dollars % 10) as u8;
            dollars /= 10;
            if dollars == 0 {
                break;
            }
        }
        let (mut end, mut at) = (POINT, bytes.len());
        while at > POINT + 1 {
            at -= 1;
            bytes[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if bytes[at] != b'0' && end == POINT {
                end = at + 1;
            }
        }
        Self { bytes, range: start..end }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.range.clone()]).unwrap_or_default()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad_integral(self.0 >= 0, "", Digits::of(self.0.unsigned_abs()).as_str())
    }
}

impl std::str::FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::from_usd(text)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The number's own text: serde_json would write small ones with an exponent.
        let text = self.to_string();
        let raw: &RawValue = serde_json::from_str(&text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = Money;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an amount in US dollars")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Money, E> {
                Money::from_usd(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, dollars: u64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, dollars: i64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }

            // The shortest decimal that is this number and no other: the text that was read, up to 15 digits.
            fn visit_f64<E: serde::de::Error>(self, dollars: f64) -> Result<Money, E> {
                Money::from_usd(&dollars.to_string())
                    .map_err(|_| E::invalid_value(Unexpected::Float(dollars), &self))
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

#[cfg(test)]
mod tests {
    use super::Money;

    #[test]
    fn dollars_are_read_and_shown_to_the_nano() {
        for (text, nanos, shown) in [
            ("0", 0, "0"),
            ("0.000123", 123_000, "0.000123"),
            ("1e-9", 1, "0.000000001"),
            ("-0.5", -500_000_000, "-0.5"),
            ("12.500", 12_500_000_000, "12.5"),
            ("100", 100_000_000_000, "100"),
            ("0.30000000000000004", 300_000_000, "0.3"),
            ("0.0000000015", 2, "0.000000002"),
            ("9223372036.854775807", i64::MAX, "9223372036.854775807"),
            ("-9223372036.854775808", i64::MIN, "-9223372036.854775808"),
        ] {
            let money = Money::from_usd(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((money.nanos(), money.to_string().as_str()), (nanos, shown), "{text}");
        }
        for text in ["", "abc", "1,5", "$1", "9223372036.854775808", "1e-10", "inf", "NaN"] {
            Money::from_usd(text).expect_err(text);
        }
    }

    #[test]
    fn json_is_a_plain_number_and_strings_are_read_too() {
        for (nanos, json) in
            [(1, "0.000000001"), (-123_000, "-0.000123"), (0, "0"), (5_000_000_000, "5")]
        {
            let money = Money::from_nanos(nanos);
            assert_eq!(serde_json::to_string(&money).unwrap(), json);
            assert_eq!(serde_json::from_str::<Money>(json).unwrap(), money);
            assert_eq!(serde_json::from_str::<Money>(&format!("\"{json}\"")).unwrap(), money);
            let value = serde_json::to_value(money).unwrap();
            assert!(value.is_number());
            assert_eq!(serde_json::from_value::<Money>(value).unwrap(), money);
        }
        assert_eq!(serde_json::from_str::<Money>("1e-9").unwrap().nanos(), 1);
        for json in ["null", "true", "\"\"", "\"x\"", "1e30", "1e-30", "[]"] {
            serde_json::from_str::<Money>(json).expect_err(json);
        }
    }

    #[test]
    fn amounts_saturate_and_never_wrap() {
        let one = Money::from_nanos(1);
        assert_eq!(Money::MAX + one, Money::MAX);
        assert_eq!(Money::MIN - one, Money::MIN);
        assert_eq!(Money::MAX.saturating_mul(2), Money::MAX);
        assert_eq!(Money::from_picos(u128::MAX), Money::MAX);
        assert_eq!([Money::MAX, one].into_iter().sum::<Money>(), Money::MAX);
    }

    #[test]
    fn pico_dollars_round_half_up() {
        for (picos, nanos) in [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (2500, 3)] {
            assert_eq!(Money::from_picos(picos).nanos(), nanos, "{picos}");
        }
    }
}
