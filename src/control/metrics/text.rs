//! Words to write metrics with, and their older form.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

use crate::control::counted::seconds;
use crate::telemetry::counts::{BOUNDS, Durations};

/// A label's name and value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// Where metrics are written to, one family after the other.
#[derive(Debug)]
pub(super) struct Out<'a>(pub(super) DescriptorEncoder<'a>);

/// A metric whose values follow.
#[derive(Debug)]
pub(super) struct Counter<'a>(MetricEncoder<'a>);

/// Likewise.
#[derive(Debug)]
pub(super) struct Gauge<'a>(MetricEncoder<'a>);

/// Likewise.
#[derive(Debug)]
pub(super) struct Histogram<'a>(MetricEncoder<'a>);

impl Out<'_> {
    /// `name`: without `_total`.
    pub(super) fn counter<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
    ) -> Result<Counter<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Counter).map(Counter)
    }

    pub(super) fn gauge<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
    ) -> Result<Gauge<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge).map(Gauge)
    }

    /// Of seconds.
    pub(super) fn histogram<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
    ) -> Result<Histogram<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Histogram).map(Histogram)
    }
}

impl Counter<'_> {
    pub(super) fn add<V: EncodeCounterValue + Copy>(
        &mut self,
        labels: &[Label<'_>],
        value: V,
    ) -> fmt::Result {
        if labels.is_empty() {
            return self.0.encode_counter::<NoLabelSet, V, f64>(&value, None);
        }
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, V, f64>(&value, None)
    }
}

impl Gauge<'_> {
    pub(super) fn set(
        &mut self,
        labels: &[Label<'_>],
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        if labels.is_empty() {
            return self.0.encode_gauge(&value);
        }
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }
}

impl Histogram<'_> {
    pub(super) fn add(&mut self, labels: &[Label<'_>], durations: &Durations) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(durations.buckets).collect();
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            seconds(durations.sum),
            durations.count(),
            &buckets,
            None,
        )
    }
}

/// The form from before OpenMetrics, which all scrapers and `promtool` read: the
/// same values; a counter's name has its `_total` everywhere, and nothing says
/// that this was the end.
pub(super) fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + open.len() / 64);
    let mut rest = open;
    while !rest.is_empty() {
        // Its description comes before a family's values.
        let (values, more) = match rest.find("# ") {
            Some(0) => ("", rest),
            Some(_) => rest.find("\n# ").map_or((rest, ""), |end| rest.split_at(end + 1)),
            None => (rest, ""),
        };
        out.push_str(values);
        rest = description(more, &mut out);
    }
    out
}

/// Copies what stands before a family's values; gives what follows.
fn description<'a>(text: &'a str, out: &mut String) -> &'a str {
    let Some((first, more)) = text.split_once('\n') else { return "" };
    let Some(help) = first.strip_prefix("# HELP ") else { return more };
    let (kind, rest) = more.split_once('\n').unwrap_or((more, ""));
    let kind = kind.strip_prefix("# TYPE ").unwrap_or(kind);
    let total = if kind.ends_with(" counter") { "_total" } else { "" };
    for (what, line) in [("HELP", help), ("TYPE", kind)] {
        let (name, said) = line.split_once(' ').unwrap_or((line, ""));
        for part in ["# ", what, " ", name, total, " ", said, "\n"] {
            out.push_str(part);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_differs_in_the_names_of_counters() {
        let open = "# HELP a What # a is.\n# TYPE a counter\na_total{x=\"# \"} 1\na_total 2\n\
                    # HELP none Nothing.\n# TYPE none counter\n\
                    # HELP g G.\n# TYPE g gauge\ng 1\n# EOF\n";
        let old = "# HELP a_total What # a is.\n# TYPE a_total counter\na_total{x=\"# \"} 1\n\
                   a_total 2\n# HELP none_total Nothing.\n# TYPE none_total counter\n\
                   # HELP g G.\n# TYPE g gauge\ng 1\n";
        assert_eq!(classic(open), old);
        assert_eq!(classic(""), "");
    }
}
