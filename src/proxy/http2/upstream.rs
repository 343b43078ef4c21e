//! HTTP/2 towards a backend (`protocol = "h2c"`): connections that many
//! requests of a worker share, and one request on such a connection.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::FRAME_BUDGET;
use super::half::{Receiver, Sender, broken};
use super::heads;
use super::io::HeldIo;
use crate::http1::Method;
use crate::proxy::body::{Sink, Source};
use crate::proxy::buffer::Buffer;
use crate::proxy::conn::Conn;
use crate::proxy::deadline::Deadline;
use crate::proxy::message::Request;

/// Credit for a response and for a connection, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Request bytes that wait inside the library.
const SEND_BUFFER: usize = 64 * 1024;

/// A worker's connections to `h2c` backends, by the backend's id.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    open: RefCell<HashMap<u64, Vec<Open>>>,
}

/// A connection that takes requests; its own task drives it.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    requests: SendRequest<Bytes>,
    usage: Rc<Use>,
}

#[derive(Debug)]
struct Use {
    /// Exchanges under way.
    active: Cell<usize>,
    /// When the last one ended.
    silent_since: Cell<Instant>,
    /// It takes no more requests.
    over: Cell<bool>,
}

impl Shared {
    /// A connection to the backend that takes one more request.
    pub(crate) fn find(&self, backend: u64) -> Option<Open> {
        let mut open = self.open.borrow_mut();
        let connections = open.get_mut(&backend)?;
        connections.retain(|open| !open.usage.over.get());
        let has_room =
            |open: &&Open| open.usage.active.get() < open.requests.current_max_send_streams();
        connections.iter().find(has_room).cloned()
    }

    /// Forgets connections that are over.
    pub(crate) fn sweep(&self) {
        self.open.borrow_mut().retain(|_, connections| {
            connections.retain(|open| !open.usage.over.get());
            !connections.is_empty()
        });
    }

    /// Connections to this backend take no more requests, and end with the last.
    pub(crate) fn forget(&self, backend: u64) {
        self.open.borrow_mut().remove(&backend);
    }

    /// Begins HTTP/2 on a new connection, and keeps it for others while it is
    /// not idle for longer than `idle`.
    pub(crate) async fn begin(
        &self,
        backend: u64,
        conn: Conn,
        idle: Duration,
        header_size: usize,
    ) -> io::Result<Open> {
        let io = HeldIo::new(conn);
        let header_list = u32::try_from(header_size).unwrap_or(u32::MAX);
        let mut handshake = Box::pin(
            Builder::new()
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buffer_size(SEND_BUFFER)
                .max_header_list_size(header_list)
                .data_frame_budget(FRAME_BUDGET)
                .enable_push(false)
                // Until the backend said how many it takes: what it has not
                // allowed yet waits in the library, and is not refused.
                .initial_max_send_streams(1)
                .handshake::<_, Bytes>(io.clone()),
        );
        let (requests, connection) = poll_fn(|task| {
            let done = handshake.as_mut().poll(task).map_err(broken);
            match io.poll_push(task) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => done,
            }
        })
        .await?;
        let usage = Rc::new(Use {
            active: Cell::new(0),
            silent_since: Cell::new(Instant::now()),
            over: Cell::new(false),
        });
        spawn_local(drive(connection, io, Rc::clone(&usage), idle));
        let open = Open { requests, usage };
        self.open.borrow_mut().entry(backend).or_default().push(open.clone());
        Ok(open)
    }
}

/// Drives a connection until it is over, or was idle for too long.
async fn drive(
    mut connection: Connection<HeldIo, Bytes>,
    io: HeldIo,
    usage: Rc<Use>,
    idle: Duration,
) {
    let mut deadline = Deadline::default();
    poll_fn(|task| {
        let over = Pin::new(&mut connection).poll(task).is_ready();
        // Whatever the turn produced leaves in one write.
        if matches!(io.poll_push(task), Poll::Ready(Err(_))) || over {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let since = if usage.active.get() > 0 { now } else { usage.silent_since.get() };
        deadline.poll(task, now, since + idle)
    })
    .await;
    usage.over.set(true);
}

/// One request at a backend: a source whose first bytes are the response's
/// head as HTTP/1 writes it, and a sink for the request's body.
#[derive(Debug)]
pub(crate) struct Exchange {
    request: Sender,
    response: Option<ResponseFuture>,
    head: Buffer,
    body: Option<Receiver>,
    /// The response has no content, whatever its fields say.
    to_head: bool,
    connection: Open,
    /// The backend did not process it: REFUSED_STREAM, or above the last id of its
    /// GOAWAY (RFC 9113 8.7).
    pub(crate) refused: bool,
    /// Its connection was gone before it had an answer.
    pub(crate) lost: bool,
}

impl Exchange {
    /// Sends the head; `head` is what an HTTP/1 backend would get. An error:
    /// nothing was sent, and the connection takes no more; `InvalidData`: it can't
    /// be said in HTTP/2.
    pub(crate) fn begin(
        mut connection: Open,
        head: &[u8],
        request: &Request,
    ) -> io::Result<Exchange> {
        let (head, last) = heads::to_backend(head, request).ok_or(io::ErrorKind::InvalidData)?;
        let (response, send) = connection.requests.send_request(head, last).map_err(|error| {
            connection.usage.over.set(true);
            broken(error)
        })?;
        connection.usage.active.set(connection.usage.active.get() + 1);
        Ok(Exchange {
            request: Sender::new(send, last),
            response: Some(response),
            head: Buffer::none(),
            body: None,
            to_head: request.head.method == Method::Head,
            connection,
            refused: false,
            lost: false,
        })
    }

    /// The response is with the client; its end, which comes apart, may still be on
    /// its way: until then a backend that did all right is not sent a reset.
    pub(crate) fn await_end(mut self: Box<Self>, until: Instant) {
        if self.is_ended() {
            return;
        }
        spawn_local(async move {
            // More content is more than its length: that is reset.
            let end = poll_fn(|task| self.poll_fill(task, false));
            let _ = timeout_at(until, end).await;
        });
    }

    /// There is no response: notes what that says of the request and of the
    /// connection.
    fn failed(&mut self, error: h2::Error) -> io::Error {
        self.refused = was_refused(&error);
        self.lost = error.is_io();
        if self.refused {
            // The next one had better go elsewhere.
            self.connection.usage.over.set(true);
        }
        broken(error)
    }
}

/// By the backend's own word.
fn was_refused(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let usage = &self.connection.usage;
        usage.active.set(usage.active.get().saturating_sub(1));
        usage.silent_since.set(Instant::now());
    }
}

impl Source for Exchange {
    fn input(&self) -> &[u8] {
        match &self.body {
            Some(body) if self.head.is_empty() => body.input(),
            _ => self.head.filled(),
        }
    }

    fn consume(&mut self, n: usize) {
        match &mut self.body {
            Some(body) if self.head.is_empty() => body.consume(n),
            _ => self.head.consume(n),
        }
    }

    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        if let Some(response) = &mut self.response {
            if let Poll::Ready(Some(interim)) = response.poll_informational(task) {
                let interim = interim.map_err(|error| self.failed(error))?;
                let (parts, ()) = interim.into_parts();
                self.head = Buffer::small();
                heads::from_backend(&mut self.head, &parts, false);
                return Poll::Ready(Ok(self.head.len()));
            }
            let response = ready!(Pin::new(response).poll(task));
            let response = response.map_err(|error| self.failed(error))?;
            self.response = None;
            let (parts, body) = response.into_parts();
            self.head = Buffer::small();
            let sized = !self.to_head && !matches!(parts.status.as_u16(), 204 | 304);
            heads::from_backend(&mut self.head, &parts, sized && body.is_end_stream());
            self.body = Some(Receiver::new(body));
            return Poll::Ready(Ok(self.head.len()));
        }
        match &mut self.body {
            Some(body) => body.poll_fill(task, much),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn is_ended(&self) -> bool {
        self.body.as_ref().is_some_and(Receiver::is_ended)
    }

    /// Before the head is done with there is content to come or none at all.
    fn marks_end(&self) -> bool {
        self.body.is_some()
    }

    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        self.body.as_mut()?.take_trailers()
    }
}

impl Sink for Exchange {
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        self.request.poll_write(task, first, second, last)
    }

    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.request.poll_flush(task)
    }

    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        self.request.poll_finish(task, trailers)
    }
}
