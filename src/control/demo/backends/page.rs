//! What a demo backend shows: one exchange, as HTML or as plain text. All that
//! came from the network is escaped here and nowhere else.

use std::fmt::Write as _;
use std::time::Duration;

use crate::http1::{Field, RequestHead, Version};

use super::{Backend, Bond, bond, emblem};

const TEMPLATE: &str = include_str!("../page.html");

/// Rules of the shipped drop-ins beside their `/`: game, path, what is there.
const RULES: &[(&str, &str, &str)] =
    &[("youxia", "/test/jtt/", "leads to group jtt, where the application\u{2019}s cookie binds")];

/// The forwarding fields and what they tell.
const FORWARDING: &[(&str, &str)] = &[
    ("x-forwarded-for", "the client\u{2019}s address; every proxy appends the one it saw"),
    ("x-forwarded-proto", "what the client spoke: http or https"),
    ("x-forwarded-host", "the host the client asked for"),
    ("x-forwarded-port", "the port the client connected to"),
    ("x-real-ip", "the client\u{2019}s address alone"),
    ("x-forwarded-client-srcport", "the port the client came from"),
    ("forwarded", "the same in one standard field, RFC 7239"),
    ("via", "the proxies on the way"),
];

/// One request and what is known of it.
pub(super) struct Exchange<'a> {
    pub(super) backend: &'a Backend,
    /// The head as it arrived.
    pub(super) head: &'a [u8],
    pub(super) request: &'a RequestHead,
    pub(super) fields: &'a [Field],
    /// How many bytes of body came.
    pub(super) body: u64,
    /// How many requests the backend had, this one counted.
    pub(super) requests: u64,
    /// The number of the connection at this backend.
    pub(super) connection: u64,
    /// The number of the request on its connection.
    pub(super) on_connection: u64,
    pub(super) status: u16,
    pub(super) waited: Duration,
}

impl Exchange<'_> {
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(256 + self.head.len());
        let Backend { game, group, .. } = self.backend;
        let _ = writeln!(text, "game:    {game}\ngroup:   {group}");
        let _ = writeln!(text, "backend: {}", self.backend.name());
        if let Some(bond) = self.bond() {
            let (whose, cookie) = match bond {
                Bond::Inserted { cookie } => ("lockgate", cookie),
                Bond::Application { cookie, .. } => ("the application", cookie),
            };
            let _ = writeln!(text, "sticky:  by {whose}'s cookie {cookie}");
        }
        text.push('\n');
        for line in self.head.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                visible(line, &mut text);
                text.push('\n');
            }
        }
        if self.body > 0 {
            let _ = writeln!(text, "\nand a body of {} bytes", self.body);
        }
        text
    }

    pub(super) fn html(&self) -> String {
        fill(TEMPLATE, |name, page| match name {
            "game" => escape(&self.backend.game, page),
            "group" => escape(&self.backend.group, page),
            "backend" => escape(self.backend.name(), page),
            "hue" => number(emblem::hue(&self.backend.game), page),
            "emblem" => page.push_str(&emblem::svg(&self.backend.game, "currentColor")),
            "icon" => page.push_str(&emblem::icon(&self.backend.game)),
            "number" => number(self.backend.place as u64 + 1, page),
            "backends" => self.backends(page),
            "facts" => self.facts(page),
            "bond" => self.bound_by(page),
            "method" => escape_bytes(self.request.method_name.of(self.head), page),
            "target" => escape_bytes(self.request.target.of(self.head), page),
            "version" => page.push_str(match self.request.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            }),
            "fields" => self.field_rows(page),
            "note" => page.push_str(self.note()),
            "size" => number(self.head.len() as u64, page),
            "head" => self.raw_head(page),
            "ways" => self.ways(page),
            // A test holds that the template has no other name.
            _ => {}
        })
    }

    fn backends(&self, page: &mut String) {
        for (place, (name, address)) in self.backend.peers.iter().enumerate() {
            let here = place == self.backend.place;
            let (class, current) =
                if here { (" here", " aria-current=\"true\"") } else { ("", "") };
            let (look, number) = (place % 6 + 1, place + 1);
            let _ = write!(
                page,
                "        <li class=\"n{look}{class}\"{current}><span class=\"dot\" \
                 aria-hidden=\"true\">{number}</span><span><span class=\"mono\">"
            );
            escape(name, page);
            page.push_str("</span>");
            let address = address.to_string();
            if *name != address {
                let _ = write!(page, " <small class=\"mono\">{address}</small>");
            }
            page.push_str("</span>");
            if here {
                page.push_str("<em>this one</em>");
            }
            page.push_str("</li>\n");
        }
    }

    fn facts(&self, page: &mut String) {
        let Self { requests, connection, on_connection, body, status, .. } = self;
        let _ = write!(
            page,
            "Request {requests} of this backend, number {on_connection} on its connection \
             {connection}. "
        );
        let _ = match body {
            0 => write!(page, "No body."),
            1 => write!(page, "A body of 1 byte."),
            _ => write!(page, "A body of {body} bytes."),
        };
        if *status != 200 {
            let _ = write!(page, " Status {status}, as the path asks.");
        }
        if !self.waited.is_zero() {
            let _ =
                write!(page, " Answered after {} ms, as the path asks.", self.waited.as_millis());
        }
    }

    /// What binds the client; `None` also when no proxy stands in between.
    fn bond(&self) -> Option<&Bond> {
        self.backend.bond.as_ref().filter(|_| self.is_forwarded())
    }

    fn is_forwarded(&self) -> bool {
        self.fields.iter().any(|field| told_by(field.name.of(self.head)).is_some())
    }

    fn bound_by(&self, page: &mut String) {
        let Some(bond) = self.bond() else { return };
        let (before, cookie, after) = match bond {
            Bond::Inserted { cookie } => (
                "Bound to this backend by lockgate\u{2019}s own cookie ",
                cookie,
                ", which no backend gets to see.",
            ),
            Bond::Application { cookie, .. } => (
                "Bound to this backend by the application\u{2019}s cookie ",
                cookie,
                if bond::has_cookie(self.head, self.fields, cookie) {
                    ". Lockgate took off what it had written in front of its value."
                } else {
                    ", which this answer sets. Lockgate writes the backend in front of its value."
                },
            ),
        };
        let _ = write!(page, "      <p class=\"facts\" id=\"bond\">{before}<code>");
        escape(cookie, page);
        let _ = writeln!(page, "</code>{after}</p>");
    }

    fn field_rows(&self, page: &mut String) {
        for field in self.fields {
            let name = field.name.of(self.head);
            let told = told_by(name);
            let class = if told.is_some() { " class=\"forwarding\"" } else { "" };
            let _ = write!(
                page,
                "        <tr role=\"row\"{class}><th role=\"rowheader\" scope=\"row\" \
                 class=\"mono\">"
            );
            escape_bytes(name, page);
            page.push_str("</th><td role=\"cell\" class=\"mono\">");
            escape_bytes(field.value.of(self.head), page);
            if let Some(told) = told {
                let _ = write!(page, "<small>{told}</small>");
            }
            page.push_str("</td></tr>\n");
        }
    }

    fn note(&self) -> &'static str {
        if self.is_forwarded() {
            "The tinted fields are forwarding fields: what a proxy tells a backend about the client."
        } else {
            "No forwarding field arrived, as when a backend is asked directly."
        }
    }

    /// Line by line, with the line ends made visible.
    fn raw_head(&self, page: &mut String) {
        for line in self.head.split_inclusive(|&byte| byte == b'\n') {
            escape_bytes(line.strip_suffix(b"\r\n").unwrap_or(line), page);
            page.push_str("<i>\\r\\n</i>\n");
        }
    }

    fn ways(&self, page: &mut String) {
        let mut way = |path: &str, what: &str| {
            let here = self.request.target.of(self.head) == path.as_bytes();
            let current = if here { " aria-current=\"page\"" } else { "" };
            let _ = writeln!(
                page,
                "      <li><a class=\"mono\" href=\"{path}\"{current}>{path}</a>\
                 <span>{what}</span></li>"
            );
        };
        way("/", "this page, like any other path");
        for (_, path, what) in RULES.iter().filter(|(game, ..)| *game == self.backend.game) {
            way(path, what);
        }
    }
}

fn told_by(name: &[u8]) -> Option<&'static str> {
    FORWARDING
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
        .map(|(_, told)| *told)
}

/// Copies the template; each `{{name}}` is written by `write`. One pass, so
/// that a value with braces in it is a value and nothing more.
fn fill(template: &str, write: impl Fn(&str, &mut String)) -> String {
    let mut page = String::with_capacity(template.len() + 8192);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            rest = after;
            break;
        };
        write(name, &mut page);
        rest = after;
    }
    page.push_str(rest);
    page
}

fn number(n: u64, page: &mut String) {
    let _ = write!(page, "{n}");
}

/// For text and for attributes in either kind of quotes.
fn escape(text: &str, page: &mut String) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
}

fn escape_bytes(bytes: &[u8], page: &mut String) {
    let mut text = String::with_capacity(bytes.len());
    visible(bytes, &mut text);
    escape(&text, page);
}

/// UTF-8 as it is, but for control characters and those that reorder text;
/// they and all other bytes as `\xNN`.
fn visible(bytes: &[u8], text: &mut String) {
    let hidden = |bytes: &[u8], text: &mut String| {
        for byte in bytes {
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || reorders {
                hidden(c.encode_utf8(&mut [0; 4]).as_bytes(), text);
            } else {
                text.push(c);
            }
        }
        hidden(part.invalid(), text);
    }
}

#[cfg(test)]
mod tests;
