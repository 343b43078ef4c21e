//! A line of `lockgate tail`, as people read it.

use std::borrow::Cow;

use serde::Deserialize;

use crate::control::terminal::{Colour, columns, left, plain};

/// What of a line is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    /// Not a request: so many were left out.
    left_out: Option<u64>,
    time: String,
    request_id: String,
    game: Option<String>,
    group: Option<String>,
    client: String,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
    status: u16,
    cause: Option<String>,
    phase: Option<String>,
    detail: Option<String>,
    /// What was no request took none.
    ms: Option<f64>,
    received: u64,
    sent: u64,
    tunnel: Option<String>,
    ended: Option<String>,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attempt {
    backend: String,
    status: Option<u16>,
    cause: Option<String>,
    ms: f64,
}

/// Makes text of lines, and remembers how wide their columns were.
#[derive(Debug, Default)]
pub(super) struct Texts {
    widths: [usize; 4],
    colours: bool,
}

/// A column that was wider once is not made as wide again.
const WIDEST: usize = 40;

impl Texts {
    pub(super) fn new(colours: bool) -> Texts {
        Texts { colours, ..Texts::default() }
    }

    /// One line of text, with its end; of what is no line of ours the line itself.
    pub(super) fn of(&mut self, json: &str) -> String {
        let Ok(line) = serde_json::from_str::<Line>(json) else {
            return plain(json).into_owned() + "\n";
        };
        if let Some(left_out) = line.left_out {
            return format!(
                "{left_out} left out: more than could be shown in time; a filter brings all of \
                 what it takes\n"
            );
        }
        let columns = self.columns(&line);
        let status = match self.colours {
            true => Colour::of_status(line.status).paint(&line.status.to_string()),
            false => line.status.to_string(),
        };
        let time = line.time.get(11..).unwrap_or(&line.time);
        let took = line.ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let mut text = format!("{} {status} {took:>12}  {columns}", plain(time));
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let url = line.host.clone().unwrap_or_default() + line.path.as_deref().unwrap_or("-");
        text.push_str(&plain(&url));
        if let Some(cause) = &line.cause {
            let phase = shown(&line.phase);
            let detail = line.detail.as_ref().map(|detail| format!(" ({detail})"));
            let detail = detail.unwrap_or_default();
            text.push_str(&plain(&format!("  {cause} in phase {phase}{detail}")));
        }
        if line.attempts.len() > 1 {
            let all: Vec<String> = line.attempts.iter().map(Attempt::text).collect();
            text.push_str(&plain(&format!("  [{}]", all.join(", then "))));
        }
        if let Some(tunnel) = &line.tunnel {
            let (received, sent) = (line.received, line.sent);
            let ended = line
                .ended
                .as_ref()
                .map(|ended| format!(" ({ended}), {received} bytes from the client, {sent} to it"));
            let ended = ended.unwrap_or_default();
            text.push_str(&plain(&format!("  WebSocket {tunnel}{ended}")));
        }
        if line.cause.is_some() || line.attempts.len() > 1 || line.tunnel.is_some() {
            text.push_str(&plain(&format!("  id {}", line.request_id)));
        }
        text.push('\n');
        text
    }

    /// Client, method, group and backend, each padded.
    fn columns(&mut self, line: &Line) -> String {
        let group = match (&line.game, &line.group) {
            (Some(game), Some(group)) => format!("{game}/{group}"),
            (Some(game), None) => game.clone(),
            (None, _) => "-".to_owned(),
        };
        let backend = line.attempts.last().map_or("-", |attempt| &attempt.backend);
        let method = line.method.as_deref().unwrap_or("-");
        let mut text = String::new();
        for (cell, width) in [&*line.client, method, &group, backend].iter().zip(&mut self.widths) {
            let cell: Cow<'_, str> = plain(cell);
            *width = (*width).max(columns(&cell).min(WIDEST));
            text.push_str(&(left(&cell, *width) + "  "));
        }
        text
    }
}

impl Attempt {
    fn text(&self) -> String {
        let status = || self.status.map(|status| status.to_string()).unwrap_or_default();
        let what = self.cause.clone().unwrap_or_else(status);
        format!("{} {what} {:.1} ms", self.backend, self.ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"time":"2027-01-15T08:00:00.250Z","request_id":"17","game":"youxia",
        "group":"web","client":"10.0.0.1","method":"GET","host":"youxia.com","path":"/a",
        "status":200,"ms":1.26,"attempts":[{"backend":"one","status":200,"ms":1.2}]}"#;
    const RETRIED: &str = r#"{"time":"2027-01-15T08:00:01.000Z","request_id":"18",
        "game":"youxia","group":"web","client":"203.0.113.99","method":"GET","host":"youxia.com",
        "path":"/b","status":504,"cause":"header_timeout","phase":"response","detail":"5s",
        "ms":5012.5,"attempts":[{"backend":"one","cause":"connect_refused","ms":0.2},
        {"backend":"two","cause":"header_timeout","ms":5000.0}]}"#;

    #[test]
    fn columns_are_as_wide_as_they_ever_were() {
        let mut texts = Texts::default();
        let lines = [GOOD, RETRIED, GOOD].map(|line| texts.of(line));
        assert_eq!(
            lines,
            [
                "08:00:00.250Z 200       1.3 ms  10.0.0.1  GET  youxia/web  one  youxia.com/a\n",
                "08:00:01.000Z 504    5012.5 ms  203.0.113.99  GET  youxia/web  two  youxia.com/b  \
                 header_timeout in phase response (5s)  [one connect_refused 0.2 ms, then two \
                 header_timeout 5000.0 ms]  id 18\n",
                "08:00:00.250Z 200       1.3 ms  10.0.0.1      GET  youxia/web  one  \
                 youxia.com/a\n",
            ]
        );
    }

    #[test]
    fn the_status_alone_has_a_colour() {
        let mut texts = Texts::new(true);
        let line = texts.of(RETRIED);
        assert!(line.contains(" \x1b[31m504\x1b[0m "), "{line:?}");
        assert_eq!(line.matches('\x1b').count(), 2, "{line:?}");
        assert!(texts.of(GOOD).contains("\x1b[32m200\x1b[0m"));
    }

    #[test]
    fn nothing_of_the_network_moves_the_cursor() {
        let line = GOOD.replace("/a", r"/\u001b[2J\u202e\r\n").replace("GET", r"G\u0007");
        let text = Texts::default().of(&line);
        assert!(text.trim_end_matches('\n').chars().all(|c| c.is_ascii_graphic() || c == ' '));
        assert!(text.contains(r"/\u{1b}[2J\u{202e}\u{d}\u{a}"), "{text}");
        assert!(Texts::default().of("\x1b[2J").starts_with(r"\u{1b}[2J"));
    }

    #[test]
    fn what_was_left_out_is_said() {
        assert!(Texts::default().of(r#"{"left_out":17}"#).starts_with("17 left out: "));
        let outside = r#"{"time":"x","client":"10.0.0.1","status":400}"#;
        assert_eq!(Texts::default().of(outside), "x 400            -  10.0.0.1  -  -  -  -\n");
    }
}
