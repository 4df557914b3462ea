//! Metrics as text, in the format that Prometheus scrapes (text format 0.0.4). What is told is decided behind the control
//! plane.

use std::fmt::Write;

use plba_contracts::metrics::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// The content type of what [`text`] gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All families as text.
pub(crate) fn text(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string can't fail.
        let _ = write!(text, "# HELP {} {help}\n# TYPE {} {kind}\n", family.name, family.name);
        family
            .samples
            .iter()
            .for_each(|sample| write_sample(&mut text, &family.name, sample));
    }
    text
}

fn write_sample(text: &mut String, name: &str, sample: &MetricSample) {
    match &sample.value {
        MetricValue::Number(value) => write_line(text, name, "", &sample.labels, None, *value),
        MetricValue::Distribution(values) => {
            for (bound, count) in &values.buckets {
                write_line(
                    text,
                    name,
                    "_bucket",
                    &sample.labels,
                    Some(&number(*bound)),
                    *count as f64,
                );
            }
            write_line(text, name, "_bucket", &sample.labels, Some("+Inf"), values.count as f64);
            write_line(text, name, "_sum", &sample.labels, None, values.sum);
            write_line(text, name, "_count", &sample.labels, None, values.count as f64);
        }
    }
}

fn write_line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(String, String)],
    bound: Option<&str>,
    value: f64,
) {
    let _ = write!(text, "{name}{suffix}");
    let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut opened = false;
    for (name, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
        let before = if opened { ',' } else { '{' };
        opened = true;
        let _ = write!(text, "{before}{name}=\"{}\"", escaped(value));
    }
    let after = if opened { "}" } else { "" };
    let _ = writeln!(text, "{after} {}", number(value));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use plba_contracts::metrics::Metrics;

    use super::*;

    #[test]
    fn each_kind_is_written_as_prometheus_reads_it() {
        let metrics = Metrics::default();
        let orders = metrics
            .counter("orders_total", "Orders,\nby status.", &["status"])
            .unwrap();
        orders.with(&["a \"new\"\\\none"]).add(3);
        metrics
            .gauge("depth", "How deep.", &[])
            .unwrap()
            .with(&[])
            .set(f64::INFINITY);
        let waits = metrics
            .histogram("wait_seconds", "Waits.", &["queue"], &[0.5, 1.0])
            .unwrap();
        [0.25, 2.0]
            .iter()
            .for_each(|value| waits.with(&["orders"]).record(*value));
        assert_eq!(
            text(&metrics.families()),
            "# HELP depth How deep.\n# TYPE depth gauge\ndepth +Inf\n\
             # HELP orders_total Orders,\\nby status.\n# TYPE orders_total counter\n\
             orders_total{status=\"a \\\"new\\\"\\\\\\none\"} 3\n\
             # HELP wait_seconds Waits.\n# TYPE wait_seconds histogram\n\
             wait_seconds_bucket{queue=\"orders\",le=\"0.5\"} 1\n\
             wait_seconds_bucket{queue=\"orders\",le=\"1\"} 1\n\
             wait_seconds_bucket{queue=\"orders\",le=\"+Inf\"} 2\n\
             wait_seconds_sum{queue=\"orders\"} 2.25\nwait_seconds_count{queue=\"orders\"} 2\n"
        );
    }
}
