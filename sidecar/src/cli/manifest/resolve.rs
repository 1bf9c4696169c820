//! What plain scalars mean to kubectl: YAML 1.1, as Go reads it.

use serde_json::Value;

/// The value of a plain scalar.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return true.into();
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return false.into();
        }
        _ => {}
    }
    number(text).unwrap_or_else(|| text.into())
}

fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let digits = digits.replace('_', "");
    let radix = |prefix: &str, radix| {
        let rest = digits
            .strip_prefix(prefix)
            .or_else(|| digits.strip_prefix(&prefix.to_uppercase()))?;
        let is_one = !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix));
        is_one.then(|| u64::from_str_radix(rest, radix).ok())?
    };
    let whole = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        // Of YAML 1.1: `defaultMode: 0644`.
        .or_else(|| radix("0", 8))
        .or_else(|| digits.parse().ok());
    match whole {
        Some(whole) if sign > 0 => return Some(whole.into()),
        Some(whole) if whole <= i64::MIN.unsigned_abs() => {
            return Some(0_i64.wrapping_sub_unsigned(whole).into());
        }
        _ => {}
    }
    let is_float = digits
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let float: f64 = digits.parse().ok().filter(|_| is_float)?;
    serde_json::Number::from_f64(float * sign as f64).map(Value::Number)
}

/// Whether a text is the same text to every reader of YAML without quotes.
pub(super) fn is_safe_plain(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'));
    let fits = |c: char| c.is_ascii_alphanumeric() || "_./:@+-=,()$".contains(c);
    let is_word = text != "_";
    starts && is_word && text.chars().all(fits) && !text.ends_with(':') && plain(text).is_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_are_read_as_kubectl_reads_them() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("0644", json!(420)),
            ("0x1F", json!(31)),
            ("0X1F", json!(31)),
            ("y", json!(true)),
            ("N", json!(false)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1_000", json!(1000)),
            ("-3", json!(-3)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("089", json!(89)),
            ("1.2.3", json!("1.2.3")),
            ("12:30", json!("12:30")),
            ("100m", json!("100m")),
            ("2024-01-01", json!("2024-01-01")),
            ("yesterday", json!("yesterday")),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
    }

    #[test]
    fn only_what_nobody_misreads_goes_without_quotes() {
        for text in [
            "koorde",
            "ghcr.io/koorde/koorde:0.1.0",
            "http://127.0.0.1:4080",
            "/a",
            "$(POD_IP):4000",
        ] {
            let is_safe = is_safe_plain(text);
            assert_eq!(is_safe, !text.starts_with('$'), "{text}");
        }
        for text in [
            "", "true", "no", "y", "null", "0644", "1e3", "a: b", "a #b", "a:", "*.x", "[::]:1",
            "{}", "- a",
        ] {
            assert!(!is_safe_plain(text), "{text}");
        }
    }
}
