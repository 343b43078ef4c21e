//! What changes in the fields of a message, seen by writing its head.

use super::document::FieldChange;
use crate::http1::{HeadLimits, Known, Version, parse_response};
use crate::proxy::buffer::{Buffer, FieldList};
use crate::proxy::headers;
use crate::proxy::message::{Cx, Request};
use crate::proxy::respond::{self, Answer};
use crate::proxy::route::Route;
use crate::proxy::sticky::{Binding, SetCookie};
use crate::state::Group;

/// Stands for what is another each time.
const VARIES: &str = "…";

/// The answer that a backend is taken to give.
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// What the backend gets beside or instead of what the client sent.
pub(super) fn to_backend(
    cx: Cx<'_>,
    request: &Request,
    route: &Route<'_>,
    group: &Group,
) -> Vec<FieldChange> {
    let mut out = Buffer::small();
    request.adopt_id(&route.listener.config, cx.peer.address.ip());
    headers::write_request(&mut out, cx, request, route, group.config.keepalive);
    let mut sent: Vec<(String, String)> = request
        .fields
        .iter()
        .map(|field| (text(request.text(field.name)), text(request.text(field.value))))
        .collect();
    let mut changes = Vec::new();
    for line in lines(out.filled()) {
        match sent.iter().position(|field| *field == line) {
            Some(at) => {
                sent.remove(at);
            }
            None if is_made(request, &line.0) => changes.push(set((line.0, VARIES.to_owned()))),
            None => changes.push(set(line)),
        }
    }
    let removed = sent.into_iter().map(|(name, value)| FieldChange { set: false, name, value });
    removed.chain(changes).collect()
}

/// Whether the field's value is made anew for each request.
fn is_made(request: &Request, name: &str) -> bool {
    let begins = || name.eq_ignore_ascii_case("traceparent") && request.begun_trace().is_some();
    name.eq_ignore_ascii_case("x-request-id") || begins()
}

/// What the client gets beside what the backend at `served` answers.
pub(super) fn to_client(
    request: &Request,
    route: &Route<'_>,
    binding: Option<&Binding<'_>>,
    served: usize,
) -> Vec<FieldChange> {
    let edits = &route.rule.config.response_headers;
    let removed = edits.remove.iter().map(|name| FieldChange {
        set: false,
        name: name.clone(),
        value: String::new(),
    });
    let own = edits.set.iter().map(|(name, value)| set((name.clone(), value.clone())));
    let mut changes: Vec<FieldChange> = removed.chain(own).collect();
    let mut fields = FieldList::take();
    let limits = HeadLimits::default();
    let Ok(good) = parse_response(GOOD, &limits, request.head.method, fields.as_mut()) else {
        return changes;
    };
    let cookie = binding.map(|one| one.answer(served, route.port.protocol, GOOD, &fields, &good));
    let value = match cookie {
        Some(SetCookie::Insert { name, token: Some(_), attributes }) => {
            format!("{name}={VARIES}{attributes}")
        }
        Some(SetCookie::Rewrite { name, .. }) => {
            format!("{name}={VARIES}~ before the application's own value, where it sets it")
        }
        _ => return changes,
    };
    changes.push(set(("Set-Cookie".to_owned(), value)));
    changes
}

/// All fields of an answer of lockgate's own.
pub(super) fn of_answer(cx: Cx<'_>, answer: &Answer, request: &Request) -> Vec<FieldChange> {
    let mut out = Buffer::small();
    respond::write(&mut out, cx, answer, request.head.method, Version::Http11, true);
    let fields = lines(out.filled()).into_iter().map(set);
    fields
        .map(|field| match Known::of(field.name.as_bytes()) {
            Known::Date => FieldChange { value: VARIES.to_owned(), ..field },
            _ => field,
        })
        .collect()
}

fn set((name, value): (String, String)) -> FieldChange {
    FieldChange { set: true, name, value }
}

/// The fields of a head that we wrote.
fn lines(head: &[u8]) -> Vec<(String, String)> {
    let head = text(head);
    let fields = head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    fields.filter_map(pair).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
