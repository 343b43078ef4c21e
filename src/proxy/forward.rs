//! One attempt at one backend: connect or take a kept connection, send the
//! request, bring its response header. The body is the connection's to pull:
//! `forward/download.rs`.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::body::{Framing, Pump, PumpError, Source as _, Waiting};
use super::buffer::{Buffer, FieldList};
use super::client::{Downstream, Presence};
use super::error::{Cause, Failure, Phase};
use super::headers;
use super::message::{Cx, Request, is_websocket};
use super::pick::Picked;
use super::route::Route;
use super::sticky::Binding;
use super::upstream::{Upstream, open};
use crate::http1::{
    BodyDecoder, HeadLimits, RequestFraming, ResponseHead, Scan, Version, receive_response,
};

mod download;

pub(super) use download::Cut;

/// More interim responses than this before the final one are no response.
const MAX_INTERIM: u32 = 32;

/// A request under way at a backend.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) picked: Picked<'a>,
    pub(super) route: Route<'a>,
    binding: Option<Binding<'a>>,
    upstream: Upstream,
    /// Client to backend: the request's head and body. Boxed, as it goes from one
    /// attempt to the next.
    pub(super) upload: Box<Pump>,
    /// The backend takes no more of it; it may have answered before.
    upload_broken: Option<io::Error>,
    /// The response's head; its bytes are the first of `upstream`'s input.
    response: Option<ResponseHead>,
    fields: FieldList,
    interims: u32,
    /// The client has no reason to hold its body back: it asked for no 100, or
    /// got one.
    invited: bool,
    scan: Scan,
    limits: HeadLimits,
    /// When it began.
    pub(super) start: Instant,
    /// The last time anything moved.
    pub(super) last: Instant,
    /// When the client was found to be gone, if it was.
    gone: Option<Instant>,
}

/// An attempt that brought no response, and what the next one needs of it.
#[derive(Debug)]
pub(super) struct Failed<'a> {
    pub(super) failure: Failure,
    pub(super) picked: Picked<'a>,
    /// What of the request's body was read, and may still come.
    pub(super) upload: Box<Pump>,
    /// The backend may have seen some of the request.
    pub(super) sent: bool,
    /// On a connection that was there before, before a byte of the response.
    pub(super) stale: bool,
    /// When it began.
    pub(super) start: Instant,
}

/// The request's body, from the client to one backend after the other.
pub(super) fn upload(
    cx: Cx<'_>,
    request: &Request,
    route: &Route<'_>,
    keep: usize,
    once: bool,
) -> Box<Pump> {
    let limits = head_limits(cx);
    let decoder = match request.head.framing {
        RequestFraming::None => BodyDecoder::empty(),
        RequestFraming::Length(length) => BodyDecoder::length(length),
        RequestFraming::Chunked if request.framed => BodyDecoder::chunked(limits.fields_size),
        RequestFraming::Chunked => BodyDecoder::until_close(),
    };
    let (out, max) = (Buffer::none(), route.max_body());
    Box::new(Pump::new(decoder, Framing::Plain, max, limits, out).keep(keep, once))
}

fn head_limits(cx: Cx<'_>) -> HeadLimits {
    let limits = &cx.view.snapshot.process.limits;
    HeadLimits { target: limits.uri, fields_size: limits.header_size, fields: limits.headers }
}

/// Sends the request to the picked backend and waits for the header of its
/// final response. `fresh`: over a connection that nobody used before.
pub(super) fn attempt<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: Route<'a>,
    picked: Picked<'a>,
    mut upload: Box<Pump>,
    fresh: bool,
    client: &mut impl Downstream,
) -> impl Future<Output = Result<Box<Attempt<'a>>, Box<Failed<'a>>>> {
    let start = request.trace.begin(picked.place);
    let mut head = Buffer::small();
    headers::write_request(&mut head, cx, request, &route, picked.group.config.keepalive);
    // What is captured is used where it lies; an `async fn` keeps what it takes
    // out of its arguments beside them.
    async move {
        let opened = match open(cx, request, &picked, client, head, start, fresh).await {
            Ok(opened) => opened,
            Err(failure) => {
                let (sent, stale) = (false, false);
                return Err(Box::new(Failed { failure, picked, upload, sent, stale, start }));
            }
        };
        if !opened.reused {
            request.trace.connected();
        }
        let framing = match (&opened.upstream, request.head.framing) {
            (Upstream::Http2(_), _) => Framing::Frames,
            (_, RequestFraming::Chunked) => Framing::Chunked { trailers: true },
            _ => Framing::Plain,
        };
        // Whoever comes here has made sure that it can be sent again.
        upload.rewind(framing, opened.out, client);
        let mut attempt = Box::new(Attempt {
            upload,
            upload_broken: None,
            response: None,
            fields: FieldList::take(),
            interims: 0,
            invited: !request.head.expect_continue,
            scan: Scan::response(),
            limits: head_limits(cx),
            start,
            last: start,
            gone: None,
            picked,
            route,
            binding: None,
            upstream: opened.upstream,
        });
        match poll_fn(|task| attempt.poll_response(task, request, client)).await {
            Ok(()) => {
                request.trace.answered(attempt.status());
                Ok(attempt)
            }
            Err(failure) => Err(attempt.failed(failure, opened.reused)),
        }
    }
}

impl<'a> Attempt<'a> {
    /// What is left of it.
    fn failed(self, failure: Failure, reused: bool) -> Box<Failed<'a>> {
        let closed = failure.cause == Cause::ClosedBeforeHeader;
        let silent = self.upstream.input().is_empty() && self.interims == 0;
        let sent = match &self.upstream {
            Upstream::Http1(_) => self.upload.sent,
            // Its head was sent with the exchange's beginning.
            Upstream::Http2(_) => !self.upstream.was_refused(),
        };
        let raced = self.upstream.was_lost() || self.upstream.was_refused();
        let stale = reused && closed && silent && raced;
        let Attempt { picked, upload, start, .. } = self;
        Box::new(Failed { failure, picked, upload, sent, stale, start })
    }

    /// The status of its response.
    pub(super) fn status(&self) -> u16 {
        self.response.as_ref().map_or(0, |response| response.status)
    }

    /// The client's binding, for the cookie that goes with the response.
    pub(super) fn bind(&mut self, binding: Option<Binding<'a>>) {
        self.binding = binding;
    }

    /// Takes the request's body for an attempt elsewhere. If this one's response
    /// has to do after all it gets no more of it.
    pub(super) fn take_upload(&mut self) -> Box<Pump> {
        let rest = Box::new(self.upload.nothing_more(self.limits));
        if !rest.finished {
            self.upload_broken.get_or_insert_with(|| io::ErrorKind::BrokenPipe.into());
        }
        std::mem::replace(&mut self.upload, rest)
    }
}

impl Attempt<'_> {
    /// Uploads, passes interim responses on, and is ready with the final head.
    fn poll_response(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
        client: &mut impl Downstream,
    ) -> Poll<Result<(), Failure>> {
        self.poll_interim(task, request, client)?;
        self.poll_upload(task, client)?;
        while let Poll::Ready(head) = self.poll_head(task, request)? {
            if self.take_head(request, client, head)? {
                return Poll::Ready(Ok(()));
            }
            self.poll_interim(task, request, client)?;
        }
        // Only who has to wait looks around.
        self.watch(task, request, client, Phase::Response, true)?;
        let now = Instant::now();
        let config = &self.route.listener.config;
        self.note_progress(now);
        let (at, cause) = if self.waits_for_client() {
            (self.last + config.body_timeout, Cause::ClientTimeout)
        } else {
            (self.backend_deadline(), Cause::HeaderTimeout)
        };
        client.poll_deadline(task, now, at).map(|()| Err(Failure::new(cause, Phase::Response)))
    }

    /// Moves interim responses on.
    fn poll_interim(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
        client: &mut impl Downstream,
    ) -> Result<(), Failure> {
        if let Poll::Ready(Err(error)) = client.poll_interim(task) {
            self.lost(request, client, error, Phase::Response)?;
        }
        Ok(())
    }

    /// Notices that the client left while the backend works.
    pub(super) fn watch(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
        client: &mut impl Downstream,
        phase: Phase,
        may_read: bool,
    ) -> Result<(), Failure> {
        let watched = client.watch(task, may_read && self.upload.finished);
        let watched = watched.and_then(|()| match client.presence() {
            Presence::Ended if !self.route.listener.config.client_half_close => {
                Err(io::Error::other("the client ended its side"))
            }
            _ => Ok(()),
        });
        watched.or_else(|error| self.lost(request, client, error, phase))
    }

    /// Anything that moved moves the deadline.
    pub(super) fn note_progress(&mut self, now: Instant) {
        if std::mem::take(&mut self.upload.moved) {
            self.last = now;
        }
    }

    /// Until when the backend may be silent. With nobody listening any more
    /// that is all the time it has: it must not go on for ever.
    pub(super) fn backend_deadline(&self) -> Instant {
        self.gone.unwrap_or(self.last) + self.route.response_timeout(self.picked.group)
    }

    /// The client is gone. A request that may be repeated is given up, and so
    /// is a gRPC call; one that must not be, and that the backend has in full,
    /// runs to its end with nobody listening, so that it is not left half done.
    pub(super) fn lost(
        &mut self,
        request: &Request,
        client: &mut impl Downstream,
        error: io::Error,
        phase: Phase,
    ) -> Result<(), Failure> {
        let may_end = request.head.method.is_idempotent() || request.is_grpc();
        if may_end || !self.upload.source_done() {
            return Err(Failure::because(Cause::ClientGone, phase, error));
        }
        self.gone.get_or_insert_with(Instant::now);
        client.discard();
        Ok(())
    }

    /// The backend can't be blamed for silence: it has not got the request yet,
    /// because the client has not sent it. It can where the client waits for
    /// its word (100) before it sends.
    fn waits_for_client(&self) -> bool {
        !self.upload.finished
            && self.upload_broken.is_none()
            && self.upload.waiting == Waiting::Source
            && (self.invited || self.upload.has_content())
    }

    /// Moves the request's body on. A backend that takes no more may have
    /// answered already: that is no failure yet.
    pub(super) fn poll_upload(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
    ) -> Result<(), Failure> {
        if self.upload.finished || self.upload_broken.is_some() {
            return Ok(());
        }
        let moved = self.upload.poll(task, client, &mut self.upstream);
        client.set_body_pending(!self.upload.source_done());
        let Poll::Ready(Err(error)) = moved else { return Ok(()) };
        let fail = |cause, detail: &dyn std::fmt::Display| {
            Err(Failure::because(cause, Phase::Request, detail))
        };
        match error {
            PumpError::Sink(error) => {
                self.upload_broken = Some(error);
                Ok(())
            }
            PumpError::Source(error) => fail(Cause::ClientGone, &error),
            PumpError::Truncated => fail(Cause::ClientGone, &"the request body ended early"),
            PumpError::Malformed(reason) => fail(Cause::Malformed, &reason),
            PumpError::TooLarge => fail(Cause::BodyTooLarge, &"max_body"),
        }
    }

    /// Receives until a whole head is there.
    fn poll_head(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
    ) -> Result<Poll<ResponseHead>, Failure> {
        let invalid = |error| Failure::because(Cause::InvalidHeader, Phase::Response, error);
        loop {
            let input = self.upstream.input();
            if !input.is_empty() {
                let method = request.head.method;
                let (scan, fields) = (&mut self.scan, self.fields.as_mut());
                let found = receive_response(scan, input, &self.limits, method, fields);
                if let Some(head) = found.map_err(invalid)? {
                    return Ok(Poll::Ready(head));
                }
            }
            match self.upstream.poll_fill(task, false) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => {
                    let error = self.upload_broken.take();
                    let detail = error.map_or_else(String::new, |error| error.to_string());
                    return Err(closed(detail));
                }
                // Only a whole head is a sign of life: byte by byte one could go
                // on for ever.
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(closed(error.to_string())),
            }
        }
    }

    /// What was received begins with this head: true if it is the final
    /// response's.
    fn take_head(
        &mut self,
        request: &Request,
        client: &mut impl Downstream,
        response: ResponseHead,
    ) -> Result<bool, Failure> {
        let invalid = |detail: &dyn std::fmt::Display| {
            Failure::because(Cause::InvalidHeader, Phase::Response, detail)
        };
        let len = response.len as usize;
        let head = self.upstream.input().get(..len).unwrap_or_default();
        let switches = response.status == 101;
        if switches && !(request.websocket && is_websocket(head, &self.fields)) {
            return Err(invalid(&"101 to what was not asked for"));
        }
        if switches || response.status >= 200 {
            self.response = Some(response);
            return Ok(true);
        }
        self.interims += 1;
        self.invited |= response.status == 100;
        if self.interims > MAX_INTERIM {
            return Err(invalid(&"too many interim responses"));
        }
        // RFC 9110 15.2: never to an HTTP/1.0 client.
        if request.head.version == Version::Http11 {
            client.interim(head, &self.fields, &response);
        }
        self.upstream.consume(len);
        self.upload.moved = true;
        self.scan = Scan::response();
        Ok(false)
    }
}

fn closed(detail: String) -> Failure {
    Failure::because(Cause::ClosedBeforeHeader, Phase::Response, detail)
}
