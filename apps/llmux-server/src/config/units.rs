//! Durations and sizes as the configuration writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No duration is longer, so that adding one to a point in time cannot overflow: 100 years.
const LONGEST_MILLIS: u64 = 100 * 365 * DAY;
const DAY: u64 = 24 * 60 * 60 * 1000;
const PERIODS: &[(&str, u64)] =
    &[("d", DAY), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration in whole milliseconds, written as `250ms`, `30s`, `5m`, `1h`, `7d`, or a bare `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Period(u64);

impl Period {
    pub(super) const FORMAT: &'static str = "duration-text";

    pub(super) const fn millis(millis: u64) -> Self {
        Self(millis)
    }

    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    pub(super) const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    pub(super) const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// A number of bytes, written as `512KiB`, `10MiB`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(u64);

impl Size {
    pub(super) const FORMAT: &'static str = "size-text";

    pub(super) const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    pub(super) const fn bytes(self) -> u64 {
        self.0
    }
}

/// Splits `12ms` into 12 and the factor of `ms`, and multiplies. `None` if it is not that, or too large.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes `value` with the largest unit that divides it.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let unit = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => f.write_str("0"),
    }
}

impl FromStr for Period {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let millis = if text == "0" { Some(0) } else { parse(text, PERIODS) };
        millis
            .filter(|millis| *millis <= LONGEST_MILLIS)
            .map(Self)
            .ok_or("expected a duration such as 250ms, 30s, 5m, 1h or 7d")
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.parse().ok().or_else(|| parse(text, SIZES));
        bytes.map(Self).ok_or("expected a size such as 512KiB, 10MiB, 1GiB or a number of bytes")
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `7d` and `1h` come back as they were written, but so that 60s and 1m are one text.
        if self.0 == 0 { f.write_str("0s") } else { write(f, self.0, PERIODS) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, SIZES)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": Self::FORMAT, "pattern": "^(0|[0-9]+(ms|s|m|h|d))$" })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "format": Self::FORMAT,
            "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)?$",
            "minimum": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Period, Size};

    #[test]
    fn durations_are_read_and_written_with_units() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("30s", 30_000, "30s"),
            ("60s", 60_000, "1m"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("7d", 604_800_000, "7d"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let period: Period = text.parse().expect(text);
            assert_eq!((period, period.to_string().as_str()), (Period::millis(millis), written));
        }
    }

    #[test]
    fn durations_without_a_unit_or_with_another_or_too_long_are_refused() {
        for text in ["", "30", "s", "-1s", "1.5s", "30 s", "30S", "1w", "99999999999d", "36501d"] {
            text.parse::<Period>().expect_err(text);
        }
    }

    #[test]
    fn sizes_are_read_and_written_with_units() {
        for (text, bytes, written) in [
            ("512KiB", 512 << 10, "512KiB"),
            ("10MiB", 10 << 20, "10MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1024", 1024, "1KiB"),
            ("1000B", 1000, "1000B"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written));
        }
        for text in ["", "MiB", "10MB", "10mib", "-1", "1.5MiB", "99999999999TiB"] {
            text.parse::<Size>().expect_err(text);
        }
    }
}
