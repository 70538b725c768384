use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY: i64 = 86_400_000;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z; in JSON RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

/// A day in UTC: days since 1970-01-01; in JSON `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

/// A text is no RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time must look like 2026-01-31T23:59:59Z")]
pub struct TimeError;

/// A text is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day must look like 2026-01-31")]
pub struct DayError;

impl UnixMillis {
    /// Returns the day in UTC.
    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(DAY))
    }

    /// Returns the time so many milliseconds later.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Day {
    /// Returns the day's first millisecond.
    pub const fn start(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(DAY))
    }

    /// Returns the day `days` later.
    #[must_use]
    pub const fn plus(self, days: i64) -> Self {
        Self(self.0.saturating_add(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.rem_euclid(DAY);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, millis) = (rest / 1000 % 60, rest % 1000);
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", self.day())
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let mut parts = text.splitn(3, '-');
        let mut part = |length| number(parts.next()?, length);
        let date = (part(4), part(2), part(2));
        let (Some(year), Some(month), Some(day)) = date else { return Err(DayError) };
        if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
            return Err(DayError);
        }
        Ok(Self(days(year, month, day)))
    }
}

impl FromStr for UnixMillis {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_time(text).ok_or(TimeError)
    }
}

/// RFC 3339 with any offset; fractions beyond milliseconds are cut.
fn parse_time(text: &str) -> Option<UnixMillis> {
    let day: Day = text.get(..10)?.parse().ok()?;
    if !matches!(text.as_bytes().get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let clock = text.get(11..19)?;
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = number(parts.next()?, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let (millis, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let digits: String = rest[..end].chars().chain("00".chars()).take(3).collect();
            (number(&digits, 3).filter(|_| end > 0)?, &rest[end..])
        }
        None => (0, rest),
    };
    let offset = match zone.as_bytes().first()? {
        b'Z' | b'z' if zone.len() == 1 => 0,
        sign @ (b'+' | b'-') => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let minutes = hour * 60 + minute - offset;
    Some(UnixMillis(day.0 * DAY + minutes * 60_000 + second.min(59) * 1000 + millis))
}

/// Reads a decimal number of exactly `length` digits.
fn number(text: &str, length: usize) -> Option<i64> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// The days from 1970-01-01 to a date of the proleptic Gregorian calendar, counted in 400-year eras that begin in March.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year, month and day of a number of days since 1970-01-01.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

const fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Day, UnixMillis};

    proptest! {
        #[test]
        fn times_of_four_digit_years_survive_their_text(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
            let time = UnixMillis(millis);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            prop_assert_eq!(time.day().to_string().parse(), Ok(time.day()));
        }
    }

    #[test]
    fn known_times_are_read() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500),
            ("2026-11-22T01:00:00.123456+01:00", 1_795_305_600_123),
            ("1969-12-31 23:59:59-00:00", -1000),
        ] {
            assert_eq!(text.parse(), Ok(UnixMillis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T01:00:00",
            "2026-02-30T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T01:00:00.Z",
            "2026-11-22T01:00:00+1",
            "2026-1-22T01:00:00Z",
            "2026-11-22T01:00:00Zé",
        ] {
            assert!(text.parse::<UnixMillis>().is_err(), "{text}");
        }
        assert!("2026-13-01".parse::<Day>().is_err());
    }
}
