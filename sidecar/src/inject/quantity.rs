//! Kubernetes' quantities: `250m`, `256Mi`, `1.5G`, `1e3`.

/// The number that a quantity stands for; none if it is no quantity or not positive.
pub(super) fn parse(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("u", 1e-6),
        ("n", 1e-9),
    ];
    let unit = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((text, 1.0));
    // Rust reads "inf" and "+1", too.
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && number
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E'));
    let number: f64 = number.parse().ok().filter(|_| is_number)?;
    Some(number * factor).filter(|value| value.is_finite() && *value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, value) in [
            ("250m", 0.25),
            ("2", 2.0),
            ("0.5", 0.5),
            ("256Mi", 268_435_456.0),
            ("1.5G", 1.5e9),
            ("1e3", 1000.0),
            ("128974848000m", 128_974_848.0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in [
            "", "lots", "256MiB", "-1", "0", "inf", "NaN", "+1", "1 Gi", "Mi", "1e999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
