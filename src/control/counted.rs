//! What was counted of requests and attempts, as `/status.json` tells it. All
//! numbers grow from the process's start, or from the moment a reload brought the
//! group or backend; one that shrank between two looks began anew.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failing::Counted;
use crate::proxy::Cause;
use crate::telemetry::counts::{AttemptSums, BOUNDS, CAUSES, CLASSES, Durations, RequestSums};

/// Names of ours, or those that were read, and how often.
pub(super) type Named = BTreeMap<Cow<'static, str>, u64>;

/// By the hundreds of the status; `none`: there was none.
pub(super) const CLASS_NAMES: [&str; CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What clients met.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RequestCounts {
    /// `none`, `1xx` (a WebSocket is 101) to `5xx`: always all of them. A client
    /// that left before it had its response is 499.
    pub(super) by_class: Named,
    /// Requests that failed, by the cause; those that happened.
    pub(super) by_cause: Named,
    /// Answers of 500 and up, whoever gave them, and those that a backend cut. That
    /// clients leave is no error.
    pub(super) errors: u64,
    /// Bytes of request bodies.
    pub(super) received: u64,
    /// Bytes of response bodies.
    pub(super) sent: u64,
    /// From a request's head to its response's end, WebSockets left out.
    pub(super) took: Took,
}

/// What became of attempts at a backend.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AttemptCounts {
    /// As in [`RequestCounts`]; `none`: it did not answer.
    pub(super) by_class: Named,
    /// Attempts that failed, by the cause; those that happened.
    pub(super) by_cause: Named,
    /// Answers of 500 and up, and attempts that failed without a whole one.
    pub(super) errors: u64,
    /// Those that followed one that had failed, at the same request.
    pub(super) retries: u64,
    /// Body bytes to it.
    pub(super) sent: u64,
    /// Body bytes from it.
    pub(super) received: u64,
    /// How long new connections took, with their TLS handshake.
    pub(super) connect: Took,
    /// From an attempt's beginning to the header of the response.
    pub(super) header: Took,
}

/// A histogram.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Took {
    /// Where the buckets end, each included.
    pub(super) bounds_seconds: Vec<f64>,
    /// How many were in each bucket alone; the last one has no end.
    pub(super) buckets: Vec<u64>,
    /// All together.
    pub(super) sum_seconds: f64,
}

impl From<&RequestSums> for RequestCounts {
    fn from(sums: &RequestSums) -> RequestCounts {
        RequestCounts {
            by_class: by_class(&sums.by_class),
            by_cause: by_cause(&sums.by_cause),
            errors: Counted::of_requests(&sums.by_class, &sums.by_cause).failed,
            received: sums.received,
            sent: sums.sent,
            took: Took::from(&sums.took),
        }
    }
}

impl From<&AttemptSums> for AttemptCounts {
    fn from(sums: &AttemptSums) -> AttemptCounts {
        AttemptCounts {
            by_class: by_class(&sums.by_class),
            by_cause: by_cause(&sums.by_cause),
            errors: Counted::of_attempts(&sums.by_class, &sums.by_cause).failed,
            retries: sums.retries,
            sent: sums.sent,
            received: sums.received,
            connect: Took::from(&sums.connect),
            header: Took::from(&sums.header),
        }
    }
}

impl From<&Durations> for Took {
    fn from(durations: &Durations) -> Took {
        Took {
            bounds_seconds: BOUNDS.iter().map(|bound| seconds(*bound)).collect(),
            buckets: durations.buckets.to_vec(),
            sum_seconds: seconds(durations.sum),
        }
    }
}

/// Of microseconds.
pub(super) fn seconds(micros: u64) -> f64 {
    // 285 years fit in its 53 bits.
    micros as f64 / 1_000_000.0
}

fn by_class(counts: &[u64; CLASSES]) -> Named {
    CLASS_NAMES.into_iter().map(Cow::Borrowed).zip(counts.iter().copied()).collect()
}

fn by_cause(counts: &[u64; CAUSES]) -> Named {
    let named = Cause::NAMES.into_iter().map(Cow::Borrowed).zip(counts.iter().copied());
    named.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::telemetry::counts::{Lane, Lanes, Micros, Requests, note};

    #[test]
    fn what_was_counted_is_told_by_its_names() {
        let lanes = Lanes::<Requests>::default();
        let lane = lanes.of(Lane { index: 0, of: 1 }).unwrap();
        note(&lane.by_class, 5);
        note(&lane.by_cause, Cause::Dns.number());
        lane.took.add(Micros(1500));
        lane.took.add(Micros(90_000_000));
        let told = serde_json::to_value(RequestCounts::from(&lanes.sum())).unwrap();
        let zero = 0;
        let classes = serde_json::json!({
            "none": zero, "1xx": zero, "2xx": zero, "3xx": zero, "4xx": zero, "5xx": 1
        });
        assert_eq!(told["by_class"], classes);
        assert_eq!(told["errors"], 1);
        assert_eq!(told["by_cause"], serde_json::json!({ "dns": 1 }));
        let took = &told["took"];
        let bounds = took["bounds_seconds"].as_array().unwrap();
        let buckets = took["buckets"].as_array().unwrap();
        assert_eq!(buckets.len(), bounds.len() + 1);
        let at = bounds.iter().position(|bound| bound == 0.002).unwrap();
        assert_eq!((&buckets[at], buckets.last().unwrap()), (&1.into(), &1.into()));
        assert_eq!(took["sum_seconds"], 90.0015);
    }
}
