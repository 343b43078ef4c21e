//! A request's head with the bytes it was parsed from, and who sent it.

use std::cell::{Cell, OnceCell};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::buffer::{Buffer, FieldList};
use super::headers::is_edited;
use super::trace::Trace;
use super::worker::{View, Worker};
use crate::config::{HeaderEdits, Listener};
use crate::http1::{
    Field, Known, Method, RequestFraming, RequestHead, Span, Target, Version, is_nominated,
};
use crate::policy::access::{self, Networks};
use crate::policy::headers::{ForwardedFields, is_request_id, trace_id};
use crate::state::Identity;
use crate::telemetry::line::{PeerText, RequestId, TlsLine};

/// A parsed request head, alive until its response is done.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) bytes: Buffer,
    pub(super) fields: FieldList,
    pub(super) head: RequestHead,
    /// It asks for a WebSocket (RFC 6455 4.1). No other upgrade is passed on.
    pub(super) websocket: bool,
    /// Its body arrives as HTTP/1 frames it, and not in frames of HTTP/2.
    pub(super) framed: bool,
    /// Only of one of which something is told.
    id: OnceCell<u64>,
    /// The one that a trusted peer gave it.
    given: Cell<Option<Span>>,
    /// The W3C trace that begins with it: both halves of its id, and the parent's.
    begun: Cell<Option<[u64; 3]>>,
    pub(super) trace: Trace,
}

impl Request {
    pub(super) fn new(bytes: Buffer, fields: FieldList, head: RequestHead) -> Request {
        let websocket = head.method == Method::Get
            && head.version == Version::Http11
            && head.framing == RequestFraming::None
            && is_websocket(bytes.filled(), &fields);
        let (id, given, begun) = Default::default();
        let trace = Trace::new();
        Request { bytes, fields, head, websocket, framed: true, id, given, begun, trace }
    }

    /// The head was written by us; the body comes without HTTP/1's framing.
    pub(super) fn framed_by_http2(self) -> Request {
        Request { framed: false, ..self }
    }

    /// The id by which log lines and the client's error page name it.
    pub(super) fn id(&self, worker: &Worker) -> RequestId<'_> {
        match self.given.get() {
            // It was found to be ASCII.
            Some(id) => RequestId::Given(std::str::from_utf8(self.text(id)).unwrap_or_default()),
            None => RequestId::Made(*self.id.get_or_init(|| worker.request_id())),
        }
    }

    /// Takes the id that the peer gave it, where the listener trusts that peer.
    pub(super) fn adopt_id(&self, listener: &Listener, peer: IpAddr) {
        let trusted = &listener.trusted_proxies;
        if trusted.is_empty()
            || !listener.forwarded.contains(ForwardedFields::REQUEST_ID)
            || !trusted.contains(peer)
        {
            return;
        }
        let given = self.only(Known::XRequestId).map(|field| field.value);
        self.given.set(given.filter(|value| is_request_id(self.text(*value))));
    }

    /// The trace it came with, unless the rule removes that.
    pub(super) fn trace_id(&self, edits: Option<&HeaderEdits>) -> Option<&str> {
        let field = self.only(Known::Traceparent)?;
        let edited = edits.is_some_and(|edits| is_edited(edits, b"traceparent"));
        trace_id(self.text(field.value)).filter(|_| !edited)
    }

    /// The trace that begins with it.
    pub(super) fn begin_trace(&self, worker: &Worker) -> [u64; 3] {
        // None of them is zero: the dice never show it.
        let begun = self.begun.get().unwrap_or_else(|| [(); 3].map(|()| worker.chance()));
        self.begun.set(Some(begun));
        begun
    }

    /// The id of the trace that began with it.
    pub(super) fn begun_trace(&self) -> Option<String> {
        self.begun.get().map(|[high, low, _]| format!("{high:016x}{low:016x}"))
    }

    /// The field of that meaning, if there is just one.
    fn only(&self, known: Known) -> Option<&Field> {
        let mut fields = self.all(known);
        fields.next().filter(|_| fields.next().is_none())
    }

    /// Frees what only the request needs, for a tunnel that may live long.
    pub(super) fn forget_head(&mut self) {
        self.bytes = Buffer::none();
        self.fields = FieldList::none();
    }

    /// The bytes of a span of the head.
    #[inline]
    pub(super) fn text(&self, span: Span) -> &[u8] {
        span.of(self.bytes.filled())
    }

    /// Who the request is for: an absolute target's authority replaces `Host`
    /// (RFC 9112 3.2.2).
    pub(super) fn authority(&self) -> Option<&[u8]> {
        match self.head.form {
            Target::Absolute { authority, .. } => Some(self.text(authority)),
            _ => self.head.host.map(|host| self.text(host)),
        }
    }

    /// The target in the form a backend gets it, as sent: `/path?query` or
    /// `*`. An absolute target without a path begins with its query or is
    /// empty; the `/` in front is the caller's.
    pub(super) fn path_and_query(&self) -> &[u8] {
        match self.head.form {
            Target::Absolute { path, .. } => self.text(path),
            _ => self.text(self.head.target),
        }
    }

    /// All fields of that meaning, in order.
    pub(super) fn all(&self, known: Known) -> impl DoubleEndedIterator<Item = &Field> {
        self.fields.iter().filter(move |field| field.known == known)
    }

    /// The value of the first field of that name.
    pub(super) fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        let named = |field: &&Field| self.text(field.name).eq_ignore_ascii_case(name);
        self.fields.iter().find(named).map(|field| self.text(field.value))
    }

    /// A gRPC call: its client says by a reset that it is cancelled, and its
    /// server expects to hear that.
    pub(super) fn is_grpc(&self) -> bool {
        const KIND: &[u8] = b"application/grpc";
        let kind =
            self.value_of(b"content-type").and_then(|kind| kind.split_at_checked(KIND.len()));
        kind.is_some_and(|(kind, more)| {
            kind.eq_ignore_ascii_case(KIND) && matches!(more.first(), None | Some(b'+' | b';'))
        })
    }

    /// The address the request is logged, limited and hashed by.
    pub(super) fn client_address(&self, peer: IpAddr, trusted: &Networks) -> IpAddr {
        if trusted.is_empty() {
            return peer;
        }
        let entries = self
            .all(Known::XForwardedFor)
            .rev()
            .flat_map(|field| access::entries_from_right(self.text(field.value)));
        access::client_address(peer, trusted, entries)
    }
}

/// The one upgrade that is passed on: `Upgrade: websocket`, and `Connection`
/// says that it is meant for the next hop.
pub(super) fn is_websocket(head: &[u8], fields: &[Field]) -> bool {
    let mut upgrades = fields.iter().filter(|field| field.known == Known::Upgrade);
    let named = |field: &Field| field.value.of(head).eq_ignore_ascii_case(b"websocket");
    upgrades.next().is_some_and(named)
        && upgrades.next().is_none()
        && is_nominated(head, fields, b"upgrade")
}

/// What is known of a client's connection, the same for all its requests.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The address as text, formatted once.
    pub(super) ip: IpText,
    /// The number of the port it came to.
    pub(super) port: u16,
    /// For TLS connections.
    pub(super) tls: Option<TlsFacts>,
    /// Its connection's place among the worker's.
    pub(super) place: usize,
    /// How lines tell it, once there is one.
    text: OnceCell<Box<PeerText>>,
}

/// What the handshake settled.
#[derive(Debug)]
pub(super) struct TlsFacts {
    /// Whose certificate was shown.
    pub(super) identity: Arc<Identity>,
    /// By their names in RFC 8446 and its registry.
    pub(super) version: &'static str,
    pub(super) cipher: &'static str,
    /// The name the client asked for, lower-cased.
    pub(super) name: Option<Box<str>>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, port: u16, place: usize) -> Peer {
        // A dual-stack socket would show IPv4 clients as ::ffff:1.2.3.4.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let (ip, text) = (IpText::of(address.ip()), OnceCell::new());
        Peer { ip, address, port, tls: None, place, text }
    }

    /// As lines about its requests tell it.
    pub(super) fn text(&self) -> &PeerText {
        self.text.get_or_init(|| {
            let tls = self.tls.as_ref().map(|tls| TlsLine {
                version: tls.version,
                cipher: tls.cipher,
                name: tls.name.as_deref(),
            });
            Box::new(PeerText::new(self.address, self.port, tls.as_ref()))
        })
    }
}

/// What serving a request needs besides the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cx<'a> {
    pub(super) worker: &'a Worker,
    pub(super) view: &'a Rc<View>,
    pub(super) peer: &'a Peer,
}

/// An IP address as text, without allocation.
#[derive(Clone, Copy)]
pub(super) struct IpText {
    bytes: [u8; IpText::MAX],
    len: u8,
}

impl IpText {
    /// An IPv6 address with an embedded IPv4 one: 45 characters.
    const MAX: usize = 45;

    pub(super) fn of(ip: IpAddr) -> IpText {
        let mut text = IpText { bytes: [0; IpText::MAX], len: 0 };
        // It fits: see MAX.
        let _ = write!(text, "{ip}");
        text
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Write for IpText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let from = usize::from(self.len);
        let room = self.bytes.get_mut(from..from + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len = u8::try_from(from + part.len()).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

impl fmt::Debug for IpText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_address_fits() {
        let longest: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(IpText::of(longest).as_bytes(), longest.to_string().as_bytes());
    }
}
