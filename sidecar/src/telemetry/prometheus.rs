//! The older text form of everything counted.
//!
//! The book writes OpenMetrics ([`open_metrics`](libkoorde::metrics::Book::open_metrics)); the older form differs in a few ways that matter: a
//! counter's family is named with its `_total`, and there are no `# UNIT`, no `# EOF`, no exemplars,
//! no `info`.

/// Prometheus text 0.0.4, from OpenMetrics.
#[must_use]
pub fn text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            // The type, which says how the family is named here, comes right after.
            let kind = lines
                .peek()
                .and_then(|next| next.strip_prefix("# TYPE "))
                .and_then(kind_of);
            let (name, help) = help.split_once(' ').unwrap_or((help, ""));
            let suffix = suffix(kind.unwrap_or_default());
            push(&mut text, &["# HELP ", name, suffix, " ", help]);
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap_or((family, "unknown"));
            push(
                &mut text,
                &["# TYPE ", name, suffix(kind), " ", older(kind)],
            );
        } else if !line.starts_with('#') {
            push(&mut text, &[without_exemplar(line)]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

fn kind_of(family: &str) -> Option<&str> {
    family.split_once(' ').map(|(_, kind)| kind)
}

/// What samples have that their family's name has not.
fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

fn older(kind: &str) -> &str {
    match kind {
        "info" | "stateset" => "gauge",
        "unknown" => "untyped",
        same => same,
    }
}

/// A sample without its exemplar: ` # {…} …` after the value. A `#` inside a label's value is none.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{counter::Counter, histogram::Histogram, info::Info},
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn the_older_form_names_counters_by_their_total_and_has_no_unit_or_end() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc_by(3);
        registry.register("koorde_hits", "Hits", counter);
        let histogram = Histogram::new([0.1]);
        histogram.observe(0.05);
        registry.register_with_unit("koorde_wait", "Wait", Unit::Seconds, histogram);
        registry.register("koorde_build", "Build", Info::new([("version", "1")]));
        let mut open = String::new();
        encode(&mut open, &registry).expect("a string takes everything");
        assert!(
            open.contains("# TYPE koorde_hits counter\n") && open.ends_with("# EOF\n"),
            "{open}"
        );
        let expected = "\
# HELP koorde_hits_total Hits.
# TYPE koorde_hits_total counter
koorde_hits_total 3
# HELP koorde_wait_seconds Wait.
# TYPE koorde_wait_seconds histogram
koorde_wait_seconds_sum 0.05
koorde_wait_seconds_count 1
koorde_wait_seconds_bucket{le=\"0.1\"} 1
koorde_wait_seconds_bucket{le=\"+Inf\"} 1
# HELP koorde_build_info Build.
# TYPE koorde_build_info gauge
koorde_build_info{version=\"1\"} 1
";
        assert_eq!(text(&open), expected);
    }

    #[test]
    fn an_exemplar_is_left_out_but_a_number_sign_in_a_label_stays() {
        for (line, expected) in [
            (
                "a_bucket{le=\"1\"} 3 # {trace_id=\"x\"} 0.5",
                "a_bucket{le=\"1\"} 3",
            ),
            ("a{b=\" # {\\\" #\"} 1", "a{b=\" # {\\\" #\"} 1"),
        ] {
            assert_eq!(without_exemplar(line), expected);
        }
    }
}
