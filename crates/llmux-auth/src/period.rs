//! How long a budget lasts until its spend starts at zero again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DAY_MS: i64 = 86_400_000;

/// The mean month of the Gregorian calendar: 400 years are 146,097 days.
const MEAN_MONTH_MS: i64 = 146_097 * DAY_MS / 4800;

/// Ten years: what is longer is a slip of the pen, and no window overflows.
const LONGEST_DAYS: i64 = 3660;

/// The length of a budget's windows: `30s`, `10m`, `24h`, `7d`, `2w` or `1mo`.
///
/// Windows follow each other without gaps from the creation of the budget. A month is a calendar month in UTC: a
/// budget of the 31st starts again on the last day of a month that is shorter, and on the 31st of the next one that is
/// not. Spelled as it was written: `24h` does not become `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Period {
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

/// The text is not a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a budget period: want a whole number above 0 and s, m, h, d, w or mo, such as `30s`, `24h`, `7d` or `1mo`, up to ten years"
)]
pub struct InvalidPeriod;

impl Unit {
    const ALL: [Self; 6] =
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "d",
            Self::Week => "w",
            Self::Month => "mo",
        }
    }

    /// The length in milliseconds; of a month, the longest.
    const fn millis(self) -> i64 {
        match self {
            Self::Second => 1000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => DAY_MS,
            Self::Week => 7 * DAY_MS,
            Self::Month => 31 * DAY_MS,
        }
    }
}

impl Period {
    /// Returns when the window that `at_ms` is in ends and the next one starts, in milliseconds since 1970.
    pub fn window_end(self, started_ms: i64, at_ms: i64) -> i64 {
        self.window(started_ms, at_ms).1
    }

    /// Returns start (inclusive) and end (exclusive) of the window that `at_ms` is in, in milliseconds since 1970. Before
    /// `started_ms` there is no window: such times belong to the first.
    pub fn window(self, started_ms: i64, at_ms: i64) -> (i64, i64) {
        let since = at_ms.saturating_sub(started_ms).max(0);
        if self.unit != Unit::Month {
            let length = self.unit.millis() * i64::from(self.count);
            let start = started_ms.saturating_add(since - since % length);
            return (start, start.saturating_add(length));
        }
        // The calendar is never a month away from its mean: one less is not past the window.
        let mut number = (since / (MEAN_MONTH_MS * i64::from(self.count)) - 1).max(0);
        let start_of = |number: i64| add_months(started_ms, number * i64::from(self.count));
        let mut start = start_of(number);
        loop {
            number += 1;
            let end = start_of(number);
            // A time so far away that the calendar stands still must not spin here.
            if end > at_ms || end <= start {
                return (start, end);
            }
            start = end;
        }
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, suffix) = text.split_at(digits);
        let unit =
            Unit::ALL.into_iter().find(|unit| unit.suffix() == suffix).ok_or(InvalidPeriod)?;
        // A leading zero would not come back as it was written.
        if count.starts_with('0') {
            return Err(InvalidPeriod);
        }
        let count: u32 = count.parse().map_err(|_| InvalidPeriod)?;
        if unit.millis() * i64::from(count) > LONGEST_DAYS * DAY_MS + 60 * DAY_MS {
            return Err(InvalidPeriod);
        }
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.count, self.unit.suffix())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Moves a time on by calendar months; a day that the month does not have becomes its last.
fn add_months(at_ms: i64, months: i64) -> i64 {
    let (year, month, day) = date(at_ms.div_euclid(DAY_MS));
    let months = (year * 12 + month - 1).saturating_add(months);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let day = day.min(days_of_month(year, month));
    days(year, month, day).saturating_mul(DAY_MS).saturating_add(at_ms.rem_euclid(DAY_MS))
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of its year.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01: the inverse of [`days`].
const fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(text: &str) -> Period {
        text.parse().unwrap()
    }

    fn at(year: i64, month: i64, day: i64) -> i64 {
        days(year, month, day) * DAY_MS
    }

    #[test]
    fn a_period_comes_back_as_it_was_written() {
        for text in ["1s", "30s", "10m", "24h", "7d", "30d", "2w", "1mo", "12mo", "3650d"] {
            assert_eq!(period(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        let texts = [
            "",
            "s",
            "30",
            "0s",
            "030s",
            "-1d",
            "+1d",
            "1.5h",
            "1y",
            "1M",
            "1 d",
            " 1d",
            "1d ",
            "1mo1d",
            "٣d",
            "99999999999d",
            "200mo",
            "4000d",
        ];
        for text in texts {
            assert_eq!(text.parse::<Period>(), Err(InvalidPeriod), "{text:?}");
        }
    }

    #[test]
    fn windows_roll_from_the_creation() {
        let started = 1_700_000_000_123;
        let hour = period("1h");
        assert_eq!(hour.window(started, started), (started, started + 3_600_000));
        assert_eq!(hour.window(started, started + 3_599_999), (started, started + 3_600_000));
        let second = (started + 3_600_000, started + 7_200_000);
        assert_eq!(hour.window(started, started + 3_600_000), second);
        assert_eq!(hour.window(started, started - 5), (started, started + 3_600_000));
    }

    #[test]
    fn months_keep_the_day_of_creation_where_there_is_one() {
        let noon = DAY_MS / 2;
        let started = at(2024, 1, 31) + noon;
        let month = period("1mo");
        let starts = [(2, 29), (3, 31), (4, 30), (5, 31), (6, 30), (7, 31)];
        let mut end = month.window_end(started, started);
        for (number, day) in starts {
            assert_eq!(end, at(2024, number, day) + noon);
            assert_eq!(month.window(started, end).0, end);
            assert_eq!(month.window_end(started, end - 1), end);
            end = month.window_end(started, end);
        }
        assert_eq!(
            month.window(started, at(2025, 2, 28)),
            (at(2025, 1, 31) + noon, at(2025, 2, 28) + noon)
        );
        assert_eq!(period("3mo").window(at(2023, 11, 30), at(2024, 3, 1)).0, at(2024, 2, 29));
    }

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(date(19_782), (2024, 2, 29));
        for number in (-200_000..200_000).step_by(13) {
            let (year, month, day) = date(number);
            assert_eq!(days(year, month, day), number);
            assert!((1..=days_of_month(year, month)).contains(&day));
        }
    }

    #[test]
    fn each_time_is_in_its_window_and_windows_touch() {
        let started = at(2023, 12, 31) + 77;
        for text in ["30s", "7m", "24h", "7d", "1mo", "5mo"] {
            let period = period(text);
            for step in 0..3000 {
                let time = started + step * 31_000_007;
                let (start, end) = period.window(started, time);
                assert!(start <= time && time < end, "{text} {step}");
                assert_eq!(period.window(started, end).0, end);
                assert_eq!(period.window(started, end - 1), (start, end));
            }
        }
    }

    #[test]
    fn times_at_the_end_of_the_world_do_no_harm() {
        for text in ["1s", "1mo"] {
            for time in [i64::MIN, i64::MAX, 0] {
                for started in [0, -1, 1_700_000_000_000] {
                    let (start, end) = period(text).window(started, time);
                    assert!(start <= end);
                }
            }
        }
    }
}
