//! Prometheus' text format 0.0.4, and OpenMetrics 1.0 for who asks for it, both as upstream's Go library writes them.

use super::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Prometheus,
    OpenMetrics,
}

impl Form {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        }
    }
}

/// A report that grows: a head, its samples, the next head.
#[derive(Debug)]
pub struct Text {
    out: String,
    form: Form,
    /// Of the family begun last.
    name: String,
}

impl Text {
    pub fn new(form: Form) -> Self {
        Self { out: String::new(), form, name: String::new() }
    }

    /// Begins a family. Its samples follow, and no others before the next head.
    pub fn head(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.name);
        // A counter's name ends in `_total` in OpenMetrics, which its family's does not.
        let (family, kind) = match (self.form, kind, name.strip_suffix("_total")) {
            (Form::OpenMetrics, Kind::Counter, Some(family)) => (family, "counter"),
            (Form::OpenMetrics, Kind::Counter, None) => (name, "unknown"),
            (Form::Prometheus, Kind::Counter, _) => (name, "counter"),
            (_, Kind::Gauge, _) => (name, "gauge"),
            (_, Kind::Histogram, _) => (name, "histogram"),
        };
        self.push(&["# HELP ", family, " "]);
        let quote = self.form == Form::OpenMetrics;
        escape(&mut self.out, help, quote);
        self.push(&["\n# TYPE ", family, " ", kind, "\n"]);
    }

    /// A sample of a counter or gauge.
    pub fn value(&mut self, labels: &[(&str, &str)], value: f64) {
        self.series(&written(labels), value);
    }

    /// The samples of a histogram: `buckets` holds how many there were up to each bound, but not up to the one before, and then how many
    /// above all.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], buckets: &[u64], sum: f64) {
        self.histogram_series(&written(labels), bounds, buckets, sum);
    }

    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    pub(super) fn series(&mut self, labels: &str, value: f64) {
        self.sample("", labels, "", &number(value, self.form));
    }

    pub(super) fn histogram_series(&mut self, labels: &str, bounds: &[f64], buckets: &[u64], sum: f64) {
        let whole = |count: u64, form| match form {
            Form::Prometheus => number(count as f64, form),
            Form::OpenMetrics => count.to_string(),
        };
        let mut count = 0;
        for (at, bucket) in buckets.iter().enumerate() {
            count += bucket;
            let bound = number(bounds.get(at).copied().unwrap_or(f64::INFINITY), self.form);
            self.sample("_bucket", labels, &bound, &whole(count, self.form));
        }
        self.sample("_sum", labels, "", &number(sum, self.form));
        self.sample("_count", labels, "", &whole(count, self.form));
    }

    fn sample(&mut self, suffix: &str, labels: &str, bound: &str, value: &str) {
        let name = std::mem::take(&mut self.name);
        self.push(&[&name, suffix]);
        self.name = name;
        if !labels.is_empty() || !bound.is_empty() {
            self.push(&["{", labels]);
            if !bound.is_empty() {
                let comma = if labels.is_empty() { "" } else { "," };
                self.push(&[comma, "le=\"", bound, "\""]);
            }
            self.out.push('}');
        }
        self.push(&[" ", value, "\n"]);
    }

    fn push(&mut self, parts: &[&str]) {
        self.out.extend(parts.iter().copied());
    }
}

fn written(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    labels.iter().for_each(|(name, value)| label(&mut out, name, value));
    out
}

/// Adds `name="value"` to labels.
pub(super) fn label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    labels.push_str(name);
    labels.push_str("=\"");
    escape(labels, value, true);
    labels.push('"');
}

fn escape(out: &mut String, text: &str, quote: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quote => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// A number as Go's `strconv` writes it by its shortest `g`: below 1e-4 and from 1e6 on by powers of ten.
fn number(value: f64, form: Form) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mut out = match exponent.parse::<i32>().unwrap_or_default() {
        -4..=5 => value.to_string(),
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    };
    if form == Form::OpenMetrics && !out.contains(['e', '.']) {
        out.push_str(".0");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_go_writes_them() {
        for (value, want) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000"),
            (1_000_000.0, "1e+06"),
            (12_345_678.0, "1.2345678e+07"),
            (1.25, "1.25"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value, Form::Prometheus), want);
        }
        assert_eq!(number(3.0, Form::OpenMetrics), "3.0");
        assert_eq!(number(1e6, Form::OpenMetrics), "1e+06");
    }

    #[test]
    fn open_metrics_has_forms_of_its_own() {
        let tell = |form| {
            let mut text = Text::new(form);
            text.head("a_total", Kind::Counter, "Says \"a\".\n");
            text.value(&[("x", "1\\2\"3\n4")], 2.0);
            text.head("b", Kind::Counter, "B.");
            text.value(&[], 2.5);
            text.head("c_seconds", Kind::Histogram, "C.");
            text.histogram(&[("x", "y")], &[1.0], &[1, 2], 7.0);
            text.finish()
        };
        let want = "# HELP a_total Says \"a\".\\n\n# TYPE a_total counter\na_total{x=\"1\\\\2\\\"3\\n4\"} 2\n\
                    # HELP b B.\n# TYPE b counter\nb 2.5\n\
                    # HELP c_seconds C.\n# TYPE c_seconds histogram\nc_seconds_bucket{x=\"y\",le=\"1\"} 1\n\
                    c_seconds_bucket{x=\"y\",le=\"+Inf\"} 3\nc_seconds_sum{x=\"y\"} 7\nc_seconds_count{x=\"y\"} 3\n";
        assert_eq!(tell(Form::Prometheus), want);
        let want = "# HELP a Says \\\"a\\\".\\n\n# TYPE a counter\na_total{x=\"1\\\\2\\\"3\\n4\"} 2.0\n\
                    # HELP b B.\n# TYPE b unknown\nb 2.5\n\
                    # HELP c_seconds C.\n# TYPE c_seconds histogram\nc_seconds_bucket{x=\"y\",le=\"1.0\"} 1\n\
                    c_seconds_bucket{x=\"y\",le=\"+Inf\"} 3\nc_seconds_sum{x=\"y\"} 7.0\nc_seconds_count{x=\"y\"} 3\n# EOF\n";
        assert_eq!(tell(Form::OpenMetrics), want);
    }
}
