use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::UnixMillis;

/// How long a budget's window lasts: `30s`, `30m`, `24h`, `7d`, `2w` or `1mo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BudgetDuration {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

const UNITS: [(&str, Unit); 6] = [
    ("mo", Unit::Month),
    ("s", Unit::Second),
    ("m", Unit::Minute),
    ("h", Unit::Hour),
    ("d", Unit::Day),
    ("w", Unit::Week),
];

/// A text is no duration of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a budget's duration must look like 30s, 30m, 24h, 7d, 2w or 1mo")]
pub struct DurationError;

impl BudgetDuration {
    /// Returns the window that holds `now`, of those that follow each other from `anchor`. Times before the anchor
    /// belong to the first one.
    pub fn window(self, anchor: UnixMillis, now: UnixMillis) -> Window {
        let count = i64::from(self.count);
        let passed = now.0.saturating_sub(anchor.0).max(0);
        if self.unit == Unit::Month {
            // At least 28 days each: a few steps back from an upper bound find the window.
            let mut index = passed / 86_400_000 / 28 / count;
            while index > 0 && anchor.plus_months(index * count) > now {
                index -= 1;
            }
            let start = anchor.plus_months(index * count);
            return Window { start, end: anchor.plus_months((index + 1) * count) };
        }
        let length = count * self.unit.millis();
        let start = anchor.plus(passed / length * length);
        Window { start, end: start.plus(length) }
    }
}

impl Unit {
    const fn millis(self) -> i64 {
        match self {
            Self::Second => 1000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day | Self::Month => 86_400_000,
            Self::Week => 604_800_000,
        }
    }
}

/// The span in which a budget is spent, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first millisecond.
    pub start: UnixMillis,
    /// The first millisecond after it.
    pub end: UnixMillis,
}

impl FromStr for BudgetDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (suffix, unit) =
            UNITS.into_iter().find(|(suffix, _)| text.ends_with(suffix)).ok_or(DurationError)?;
        let digits = &text[..text.len() - suffix.len()];
        let count: u32 = digits.parse().map_err(|_| DurationError)?;
        // A hundred years are enough for anybody, and keep all arithmetic far from its limits.
        let longest = if unit == Unit::Month { 1200 } else { 36_525 * 86_400_000 / unit.millis() };
        if !digits.bytes().all(|b| b.is_ascii_digit()) || count == 0 || i64::from(count) > longest {
            return Err(DurationError);
        }
        Ok(Self { count, unit })
    }
}

impl fmt::Display for BudgetDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = UNITS.iter().find(|(_, unit)| *unit == self.unit).map_or("", |(text, _)| text);
        write!(f, "{}{suffix}", self.count)
    }
}

impl Serialize for BudgetDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BudgetDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BudgetDuration, UnixMillis};

    proptest! {
        #[test]
        fn a_window_holds_its_time_and_the_next_begins_where_it_ends(
            anchor in 0_i64..4_000_000_000_000, passed in 0_i64..100_000_000_000,
            count in 1_u32..40, unit in "s|m|h|d|w|mo",
        ) {
            let duration: BudgetDuration = format!("{count}{unit}").parse().unwrap();
            prop_assert_eq!(duration.to_string(), format!("{count}{unit}"));
            let (anchor, now) = (UnixMillis(anchor), UnixMillis(anchor + passed));
            let window = duration.window(anchor, now);
            prop_assert!(window.start >= anchor && window.start <= now && now < window.end);
            prop_assert_eq!(duration.window(anchor, window.end).start, window.end);
            prop_assert_eq!(duration.window(anchor, window.start), window);
        }
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let month: BudgetDuration = "1mo".parse().unwrap();
        let window = month.window(
            "2026-01-31T00:00:00Z".parse().unwrap(),
            "2026-03-01T00:00:00Z".parse().unwrap(),
        );
        assert_eq!(window.start.to_string(), "2026-02-28T00:00:00.000Z");
        assert_eq!(window.end.to_string(), "2026-03-31T00:00:00.000Z");
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in
            ["", "s", "0s", "-1d", "+1d", "1", "1y", "1.5h", "1 d", "99999999999d", "1201mo", "é"]
        {
            assert!(text.parse::<BudgetDuration>().is_err(), "{text}");
        }
    }
}
