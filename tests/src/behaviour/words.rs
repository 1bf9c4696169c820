//! The words in braces: dates around now, the story's URL, what the request said.

use std::time::{Duration, SystemTime};

use libkoorde::policy::fields::date::HttpDate;

/// What words in braces stand for.
#[derive(Clone, Debug)]
pub struct Words {
    /// When the story began.
    pub began: SystemTime,
    /// The path of the story's URL: `/story`.
    pub path: String,
    /// Scheme and authority as the cache knows the origin: `http://127.0.0.1:80`.
    pub origin: String,
}

impl Words {
    /// Replaces every word in braces that is known; others stay as they are.
    ///
    /// `request` finds a field of the request that is being answered.
    pub fn expand(&self, text: &str, request: impl Fn(&str) -> String) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            expanded.push_str(before);
            let word = after.split_once('}');
            match word.and_then(|(word, rest)| Some((self.word(word, &request)?, rest))) {
                Some((value, after)) => {
                    expanded.push_str(&value);
                    rest = after;
                }
                None => {
                    expanded.push('{');
                    rest = after;
                }
            }
        }
        expanded.push_str(rest);
        expanded
    }

    fn word(&self, word: &str, request: impl Fn(&str) -> String) -> Option<String> {
        if word == "path" {
            return Some(self.path.clone());
        }
        if word == "origin" {
            return Some(self.origin.clone());
        }
        if let Some(name) = word.strip_prefix("request ") {
            return Some(request(name));
        }
        if let Some(rest) = word.strip_prefix("repeat ") {
            let (times, text) = rest.split_once(' ')?;
            return Some(text.repeat(times.parse().ok()?));
        }
        let (form, moment) = match word.split_once(" now") {
            Some((form, moment)) => (form, moment),
            None => ("imf", word.strip_prefix("now")?),
        };
        let seconds: i64 = if moment.is_empty() {
            0
        } else {
            moment.parse().ok()?
        };
        date(form, shifted(self.began, seconds))
    }
}

fn shifted(moment: SystemTime, seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        moment - distance
    } else {
        moment + distance
    }
}

/// IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn imf(moment: SystemTime) -> String {
    HttpDate::from(moment).to_string()
}

/// The forms of RFC 9110 §5.6.7, and some that are none.
fn date(form: &str, moment: SystemTime) -> Option<String> {
    let imf = imf(moment);
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    let (weekday, day, month, year, time) = (
        &imf[..3],
        &imf[5..7],
        &imf[8..11],
        &imf[12..16],
        &imf[17..25],
    );
    let long = [
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
    ]
    .into_iter()
    .find(|long| long.starts_with(weekday))?;
    let short_year = &year[2..];
    let blank_day = day
        .strip_prefix('0')
        .map_or(day.to_owned(), |d| format!(" {d}"));
    Some(match form {
        "imf" => imf,
        "rfc850" => format!("{long}, {day}-{month}-{short_year} {time} GMT"),
        "asctime" => format!("{weekday} {month} {blank_day} {time} {year}"),
        "lower" => imf.to_ascii_lowercase(),
        "utc" => imf.replace("GMT", "UTC"),
        "aest" => imf.replace("GMT", "AEST"),
        "offset" => imf.replace("GMT", "+0000"),
        "no-zone" => imf.replace(" GMT", ""),
        "no-comma" => imf.replacen(',', "", 1),
        "two-spaces" => imf.replacen(", ", ",  ", 1),
        "dashes" => format!("{weekday}, {day}-{month}-{year} {time} GMT"),
        "short-year" => format!("{weekday}, {day} {month} {short_year} {time} GMT"),
        "short-hour" => format!("{weekday}, {day} {month} {year} 1:{} GMT", &time[3..]),
        "no-weekday" => imf[5..].to_owned(),
        "unix" => moment
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?
            .as_secs()
            .to_string(),
        _ => return None,
    })
}
