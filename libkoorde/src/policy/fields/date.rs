//! HTTP dates, RFC 9110 §5.6.7.
//!
//! Recipients "are encouraged to be robust in parsing timestamps"; this one is not,
//! since a robust reader keeps what the origin never said. Here a date that is not one of the three forms is no date
//! at all, and an Expires that is no date is in the past (RFC 9111 §5.3). Only the
//! case of letters is free, and the name of the day is not checked against the date.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const LONG_DAYS: [&[u8]; 7] = [
    b"monday",
    b"tuesday",
    b"wednesday",
    b"thursday",
    b"friday",
    b"saturday",
    b"sunday",
];

/// A date as HTTP writes it: whole seconds since 1970-01-01 00:00:00 GMT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpDate(i64);

impl HttpDate {
    /// Reads one of the three forms. `now` gives the century to the two digits of
    /// the second form: "more than 50 years in the future" is in the past.
    pub fn parse(value: &[u8], now: SystemTime) -> Option<Self> {
        Self::imf_fixdate(value)
            .or_else(|| Self::rfc850(value, now))
            .or_else(|| Self::asctime(value))
    }

    /// Reads one of the two forms that say the century.
    pub fn parse_unambiguous(value: &[u8]) -> Option<Self> {
        Self::imf_fixdate(value).or_else(|| Self::asctime(value))
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    fn imf_fixdate(value: &[u8]) -> Option<Self> {
        let mut s = Scanner(value);
        s.name(&DAYS)?;
        s.literal(b", ")?;
        let day = s.digits(2)?;
        s.literal(b" ")?;
        let month = s.name(&MONTHS)?;
        s.literal(b" ")?;
        let year = s.digits(4)?;
        s.literal(b" ")?;
        let time = s.time()?;
        s.literal(b" gmt")?;
        s.end()?;
        Self::new(year, month, day, time)
    }

    /// `Sunday, 06-Nov-94 08:49:37 GMT`
    fn rfc850(value: &[u8], now: SystemTime) -> Option<Self> {
        let mut s = Scanner(value);
        s.name(&LONG_DAYS)?;
        s.literal(b", ")?;
        let day = s.digits(2)?;
        s.literal(b"-")?;
        let month = s.name(&MONTHS)?;
        s.literal(b"-")?;
        let year = s.digits(2)?;
        s.literal(b" ")?;
        let time = s.time()?;
        s.literal(b" gmt")?;
        s.end()?;
        let (this_year, ..) = Self::from(now).civil();
        Self::new(nearest_year(year, this_year), month, day, time)
    }

    /// `Sun Nov  6 08:49:37 1994`
    fn asctime(value: &[u8]) -> Option<Self> {
        let mut s = Scanner(value);
        s.name(&DAYS)?;
        s.literal(b" ")?;
        let month = s.name(&MONTHS)?;
        s.literal(b" ")?;
        // Two digits, or a space and one digit.
        let day = match s.literal(b" ") {
            Some(()) => s.digits(1)?,
            None => s.digits(2)?,
        };
        s.literal(b" ")?;
        let time = s.time()?;
        s.literal(b" ")?;
        let year = s.digits(4)?;
        s.end()?;
        Self::new(year, month, day, time)
    }

    /// Month is 0–11; a day that its month does not have is no date.
    fn new(year: i64, month: i64, day: i64, seconds: i64) -> Option<Self> {
        if day < 1 || day > days_in(year, month) {
            return None;
        }
        Some(Self(days_since_epoch(year, month, day) * 86_400 + seconds))
    }

    /// Seconds since 1970, negative before.
    pub fn timestamp(self) -> i64 {
        self.0
    }

    /// How long after `other` this date is; zero if it is not after it.
    pub fn since(self, other: Self) -> Duration {
        let seconds = self.0.saturating_sub(other.0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Year, month 0–11 and day of the month. Days are counted in eras of 400
    /// years that begin on 1 March, so that leap days come last.
    fn civil(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(86_400) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 {
            shifted + 2
        } else {
            shifted - 10
        };
        let year = year_of_era + era * 400 + i64::from(month < 2);
        (year, month, day)
    }
}

impl From<SystemTime> for HttpDate {
    fn from(time: SystemTime) -> Self {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2);
        // Years beyond 9999 cannot be written in HTTP; they stay at its end.
        let last = 253_402_300_799;
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(seconds(after).min(last)),
            Err(before) => Self(-seconds(before.duration()).min(62_135_596_800)),
        }
    }
}

/// IMF-fixdate, the only form that may be generated.
impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTH_NAMES: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let (year, month, day) = self.civil();
        let index = |n: i64, len: i64| usize::try_from(n.rem_euclid(len)).unwrap_or(0);
        let weekday = DAY_NAMES[index(self.0.div_euclid(86_400), 7)];
        let month = MONTH_NAMES[index(month, 12)];
        let second = self.0.rem_euclid(86_400);
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        write!(
            f,
            "{weekday}, {day:02} {month} {year:04} {h:02}:{m:02}:{s:02} GMT"
        )
    }
}

/// "Recipients of a timestamp value in rfc850-date format, which uses a
/// two-digit year, MUST interpret a timestamp that appears to be more than 50
/// years in the future as representing the most recent year in the past that
/// had the same last two digits."
fn nearest_year(two_digits: i64, this_year: i64) -> i64 {
    let year = this_year.div_euclid(100) * 100 + two_digits;
    if year > this_year + 50 {
        year - 100
    } else if year + 100 <= this_year + 50 {
        year + 100
    } else {
        year
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month < 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = (month + 10) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Reads a value from its start; every step takes what it names or gives up.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    fn literal(&mut self, text: &[u8]) -> Option<()> {
        let (head, tail) = self.0.split_at_checked(text.len())?;
        head.eq_ignore_ascii_case(text).then(|| self.0 = tail)
    }

    fn name(&mut self, names: &[&[u8]]) -> Option<i64> {
        let at = names.iter().position(|name| self.literal(name).is_some())?;
        i64::try_from(at).ok()
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(count)?;
        let number = head.iter().try_fold(0, |sum, byte| {
            let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
            Some(sum * 10 + digit)
        })?;
        self.0 = tail;
        Some(number)
    }

    /// `hh:mm:ss` as seconds of the day; second 60 is a leap second.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
