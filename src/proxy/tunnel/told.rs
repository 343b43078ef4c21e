//! What the access log, and who reads along, is told when a tunnel has ended.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::proxy::tail::{Readers, Seen};
use crate::telemetry::access::{AccessBuffer, Format};
use crate::telemetry::line::{PeerText, RequestId, RequestLine, place};

/// What is kept for it while the tunnel lives: enough to find its first line by,
/// which has the rest. A tunnel lives for hours: who will want to know of its end is
/// not known at its beginning.
#[derive(Debug)]
pub(in crate::proxy) struct Told {
    pub(in crate::proxy) access: Rc<AccessBuffer>,
    pub(in crate::proxy) readers: Rc<Readers>,
    pub(in crate::proxy) id: Id,
    pub(in crate::proxy) generation: u64,
    pub(in crate::proxy) game: Arc<str>,
    pub(in crate::proxy) group: Arc<str>,
    /// The beginning of the path, for who reads along.
    pub(in crate::proxy) path: Box<[u8]>,
    /// If not the peer.
    pub(in crate::proxy) client: Option<IpAddr>,
    pub(in crate::proxy) peer: SocketAddr,
    pub(in crate::proxy) port: u16,
    pub(in crate::proxy) since: Instant,
}

/// A [`RequestId`] of its own.
#[derive(Debug)]
pub(in crate::proxy) enum Id {
    Made(u64),
    Given(Box<str>),
}

impl From<RequestId<'_>> for Id {
    fn from(id: RequestId<'_>) -> Id {
        match id {
            RequestId::Made(id) => Id::Made(id),
            RequestId::Given(id) => Id::Given(id.into()),
        }
    }
}

/// What ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client said Close, or ended its side, before the backend did.
    Client,
    /// The other way round.
    Backend,
    /// Nobody said anything for `tunnel_timeout`.
    Silence,
    /// A connection broke.
    Reset,
    /// The process was to end, and said so.
    Stopping,
    /// It was not heard to the end: the deadline, or a second signal. Until
    /// something else ends it, that is what will.
    Cut,
}

impl Ending {
    /// Who was heard to the end.
    pub(super) fn first(client: bool, backend: bool) -> Ending {
        match (client, backend) {
            (true, _) => Ending::Client,
            (false, true) => Ending::Backend,
            (false, false) => Ending::Cut,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Ending::Client => "client",
            Ending::Backend => "backend",
            Ending::Silence => "silence",
            Ending::Reset => "reset",
            Ending::Stopping => "stopping",
            Ending::Cut => "cut",
        }
    }
}

impl Told {
    /// The tunnel has ended, after so many bytes each way.
    pub(super) fn closed(&self, backend: &str, received: u64, sent: u64, ending: Ending) {
        let line = RequestLine {
            time: SystemTime::now(),
            request_id: match &self.id {
                Id::Made(id) => RequestId::Made(*id),
                Id::Given(id) => RequestId::Given(id),
            },
            trace_id: None,
            generation: self.generation,
            place: &place(&self.game, None, None, Some(&self.group)),
            client: self.client,
            peer: &PeerText::new(self.peer, self.port, None),
            method: None,
            host: None,
            path: None,
            protocol: None,
            status: 101,
            fault: None,
            received,
            sent,
            took: Some(self.since.elapsed().into()),
            tunnel: Some("closed"),
            ended: Some(ending.name()),
            sticky: None,
            earlier: Vec::new(),
            last: None,
        };
        self.access.write(|format, out, clock| {
            // The combined format has no word for it.
            let told = format == Format::Json;
            if told {
                line.write_json(out, clock);
            }
            told
        });
        if self.readers.are_there() {
            let seen = Seen {
                game: Some(&self.game),
                group: Some(&self.group),
                status: 101,
                cause: None,
                took: self.since.elapsed(),
                path: &self.path,
            };
            self.readers.tell(&seen, || vec![(backend, None)], || line.json());
        }
    }
}
