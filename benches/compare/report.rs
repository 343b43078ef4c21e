//! Markdown for people, JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::Args;
use crate::counts::{Calls, Instructions};
use crate::idle::{self, Idle};
use crate::storm::Storm;
use crate::workloads::{Sample, WORKLOADS};

const BASE: &str = "nginx";

/// Everything a run found out.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) machine: Value,
    pub(crate) pinning: String,
    /// Label, version, TLS suite; in the order of the columns.
    pub(crate) peers: Vec<(String, String, String)>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) storms: Vec<Storm>,
    pub(crate) calls: Vec<Calls>,
    pub(crate) instructions: Vec<Instructions>,
    /// What was left out and what went wrong.
    pub(crate) notes: Vec<String>,
}

impl Results {
    pub(crate) fn json(&self, args: &Args) -> Value {
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|(label, version, suite)| json!({ "label": label, "version": version, "tls_suite": suite }))
            .collect();
        json!({
            "machine": self.machine,
            "pinning": self.pinning,
            "peers": peers,
            "options": { "rounds": args.rounds, "seconds": args.duration.as_secs_f64(), "quick": args.quick },
            "samples": self.samples.iter().map(Sample::json).collect::<Vec<_>>(),
            "idle": self.idle.iter().map(Idle::json).collect::<Vec<_>>(),
            "storm": self.storms.iter().map(Storm::json).collect::<Vec<_>>(),
            "syscalls": self.calls.iter().map(Calls::json).collect::<Vec<_>>(),
            "instructions": self.instructions.iter().map(Instructions::json).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    pub(crate) fn markdown(&self, args: &Args) -> String {
        let mut out = String::from("# lockgate beside nginx and HAProxy\n\n");
        self.write_machine(&mut out, args);
        self.write_cpu(&mut out);
        self.write_idle(&mut out);
        self.write_storms(&mut out);
        self.write_calls(&mut out);
        self.write_instructions(&mut out);
        if !self.notes.is_empty() {
            out.push_str("\n## Notes\n\n");
            for note in &self.notes {
                line(&mut out, &format!("- {note}"));
            }
        }
        out
    }

    fn write_machine(&self, out: &mut String, args: &Args) {
        let text = |key: &str| self.machine.get(key).map_or_else(String::new, plain_text);
        line(
            out,
            &format!(
                "Measured {} on {}, {} cores, Linux {}.",
                text("date"),
                text("cpu"),
                text("cores"),
                text("kernel")
            ),
        );
        line(out, &format!("One worker each; {}; loopback only.", self.pinning));
        for (label, version, suite) in &self.peers {
            line(out, &format!("- {label}: {version}, {suite}"));
        }
        let (rounds, seconds) = (args.rounds, args.duration.as_secs_f64());
        line(
            out,
            &format!(
                "\n{rounds} interleaved round(s), {seconds} s of load a sample, a fresh process each."
            ),
        );
    }

    fn write_cpu(&self, out: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        out.push_str("\n## CPU time of the proxy\n\n");
        line(
            out,
            "Ratio to nginx in the same round, median (min..max); below 1.00 is cheaper than nginx.\n",
        );
        let others: Vec<&str> = self.labels().filter(|label| *label != BASE).collect();
        let mut head = format!("| workload | {BASE}, absolute |");
        for label in &others {
            write!(head, " {label} |").ok();
        }
        line(out, &head);
        line(out, &rule(others.len() + 2));
        for workload in &WORKLOADS {
            if !self.samples.iter().any(|sample| sample.workload == workload.name) {
                continue;
            }
            let (name, unit) = (workload.name, workload.unit());
            let base = self.costs(name, BASE);
            let base = if base.is_empty() { "-".to_owned() } else { spread(&base, 1) + " " + unit };
            let mut row = format!("| `{name}`: {} | {base} |", workload.title);
            for label in &others {
                write!(row, " {} |", self.ratio(workload.name, label)).ok();
            }
            line(out, &row);
        }
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        self.peers.iter().map(|(label, ..)| label.as_str())
    }

    fn of<'a>(&'a self, workload: &'a str, peer: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.workload == workload && sample.peer == peer)
    }

    fn costs(&self, workload: &str, peer: &str) -> Vec<f64> {
        self.of(workload, peer).map(|sample| sample.cost).collect()
    }

    /// Only samples of one round are compared: the machine was in the same mood.
    fn ratio(&self, workload: &str, peer: &str) -> String {
        let ratios: Vec<f64> = self
            .of(workload, peer)
            .filter_map(|sample| {
                let base = self.of(workload, BASE).find(|base| base.round == sample.round)?;
                Some(sample.cost / base.cost)
            })
            .collect();
        if ratios.is_empty() {
            let costs = self.costs(workload, peer);
            return if costs.is_empty() {
                "-".to_owned()
            } else {
                format!("{} absolute", spread(&costs, 1))
            };
        }
        spread(&ratios, 2)
    }

    fn write_idle(&self, out: &mut String) {
        let Some(first) = self.idle.first() else {
            return;
        };
        let held = first.json().get("connections").map_or_else(String::new, plain_text);
        out.push_str("\n## Memory of an idle connection\n\n");
        line(
            out,
            &format!("Resident KiB per connection while {held} of them wait, each used once.\n"),
        );
        let labels: Vec<&str> = self.labels().collect();
        line(out, &format!("| workload | {} |", labels.join(" | ")));
        line(out, &rule(labels.len() + 1));
        for kind in idle::KINDS {
            let cells: Vec<String> = labels
                .iter()
                .map(|label| {
                    let found =
                        self.idle.iter().filter(|idle| idle.kind == kind && idle.peer == *label);
                    spread(&found.map(|idle| idle.kib).collect::<Vec<_>>(), 2)
                })
                .collect();
            if cells.iter().any(|cell| cell != "-") {
                line(
                    out,
                    &format!("| `{}`: {} | {} |", kind.name(), kind.title(), cells.join(" | ")),
                );
            }
        }
    }

    fn write_storms(&self, out: &mut String) {
        let Some(first) = self.storms.first() else {
            return;
        };
        out.push_str("\n## Backends that die and freeze\n\n");
        line(
            out,
            &format!(
                "`storm`: {} faults, one of three backends at a time is killed or frozen; the next \
                 one at once when that is there again, or later, when the proxy uses it again. \
                 Per 10,000 requests; that a POST fails which may have been executed is right.\n",
                first.faults
            ),
        );
        line(
            out,
            "| proxy | next fault | requests | GET, PUT, DELETE failed | POST failed | POST executed twice | answer of another | answer cut |",
        );
        line(out, &rule(8));
        for storm in &self.storms {
            let rate = |count| format!("{:.1} ({count})", storm.rate(count));
            line(
                out,
                &format!(
                    "| {} | {} | {} | {} | {} | {} | {} | {} |",
                    storm.peer,
                    storm.pace(),
                    storm.requests,
                    rate(storm.idempotent),
                    rate(storm.failed_posts),
                    rate(storm.twice),
                    rate(storm.wrong),
                    rate(storm.cut)
                ),
            );
        }
    }

    fn write_calls(&self, out: &mut String) {
        if self.calls.is_empty() {
            return;
        }
        out.push_str("\n## System calls per request\n\n");
        line(
            out,
            "`plain` under strace, which slows the proxy: with 64 connections events come in large batches.\n",
        );
        line(out, "| proxy | connections | total | of which |");
        line(out, "|---|---|---|---|");
        for calls in &self.calls {
            let top: Vec<String> = calls
                .calls
                .iter()
                .filter(|(_, count)| *count >= 0.02)
                .take(8)
                .map(|(name, count)| format!("{name} {count:.2}"))
                .collect();
            let (peer, connections, total) = (&calls.peer, calls.connections, calls.total());
            line(out, &format!("| {peer} | {connections} | {total:.2} | {} |", top.join(", ")));
        }
    }

    fn write_instructions(&self, out: &mut String) {
        if self.instructions.is_empty() {
            return;
        }
        out.push_str("\n## User-space instructions per request\n\n");
        line(out, "Under callgrind; the kernel's share is not in it.\n");
        line(out, "| workload | proxy | instructions | requests |");
        line(out, "|---|---|---|---|");
        for Instructions { workload, peer, requests, per_request } in &self.instructions {
            line(out, &format!("| `{workload}` | {peer} | {per_request:.0} | {requests} |"));
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// The line under the head of a table.
fn rule(columns: usize) -> String {
    format!("{}|", "|---".repeat(columns))
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `median (min..max)`, or the one value there is.
fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return "-".to_owned();
    };
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle).unwrap_or(last);
    let lower = sorted.get(middle.saturating_sub(1)).unwrap_or(first);
    let median =
        if sorted.len().is_multiple_of(2) { f64::midpoint(*lower, *upper) } else { *upper };
    if sorted.len() == 1 {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({first:.digits$}..{last:.digits$})")
}
