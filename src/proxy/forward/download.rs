//! The response of an attempt: its head for the client, then its body as it
//! comes, or the tunnel it became.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Attempt;
use crate::http1::{BodyDecoder, Field, ResponseFraming, ResponseHead};
use crate::proxy::body::{Framing, Pump, PumpError, Source as _, Waiting};
use crate::proxy::buffer::Buffer;
use crate::proxy::client::Downstream;
use crate::proxy::error::{Cause, Failure, Phase};
use crate::proxy::headers::Additions;
use crate::proxy::message::{Cx, Request};
use crate::proxy::respond::{self, Place};
use crate::proxy::sticky::SetCookie;
use crate::proxy::tunnel::{Told, Tunnel};
use crate::proxy::upstream::Upstream;

/// The response did not reach the client whole.
#[derive(Debug)]
pub(in crate::proxy) struct Cut {
    pub(in crate::proxy) cause: Cause,
}

impl Attempt<'_> {
    /// Takes the final response's head: what `write` makes of its bytes, its
    /// fields and what we add. `None` where there is no such head, or
    /// `write` makes nothing of it.
    pub(in crate::proxy) fn take_response<T>(
        &mut self,
        write: impl FnOnce(&[u8], &[Field], &ResponseHead, &Additions<'_>) -> Option<T>,
    ) -> Option<(ResponseHead, T)> {
        self.upload.forget();
        let response = self.response.clone()?;
        let len = response.len as usize;
        let head = self.upstream.input().get(..len)?;
        let cookie = self.binding.as_ref().map_or(SetCookie::None, |binding| {
            let (served, protocol) = (self.picked.place, self.route.port.protocol);
            binding.answer(served, protocol, head, &self.fields, &response)
        });
        let additions = Additions { edits: &self.route.rule.config.response_headers, cookie };
        let written = write(head, &self.fields, &response, &additions)?;
        self.upstream.consume(len);
        Some((response, written))
    }

    /// The pump of the final response's body; `out` goes before it.
    pub(in crate::proxy) fn pump_down(
        &self,
        response: &ResponseHead,
        framing: Framing,
        out: Buffer,
    ) -> Pump {
        let decoder = match response.framing {
            ResponseFraming::None => BodyDecoder::empty(),
            ResponseFraming::Length(length) => BodyDecoder::length(length),
            ResponseFraming::Chunked => BodyDecoder::chunked(self.limits.fields_size),
            ResponseFraming::UntilClose => BodyDecoder::until_close(),
        };
        Pump::new(decoder, framing, None, self.limits, out)
    }

    /// Moves the response's body to the client, and what is left of the
    /// request's to the backend. What cuts it short is logged here.
    pub(in crate::proxy) async fn download(
        &mut self,
        cx: Cx<'_>,
        request: &Request,
        client: &mut impl Downstream,
        download: &mut Pump,
    ) -> Result<(), Cut> {
        let sent = poll_fn(|task| self.poll_download(task, request, client, download)).await;
        let failure = match sent {
            Ok(()) if self.gone.is_none() => return Ok(()),
            Ok(()) => {
                let gone = "the request had to run to its end all the same";
                Failure::because(Cause::ClientGone, Phase::Body, gone)
            }
            Err(ref failure) => failure.clone(),
        };
        let failure = failure.at(self.picked.backend);
        let place = Place::of(&self.route, Some(self.picked.group));
        respond::log(cx, Some(request), Some(place), &failure, request.id(cx.worker));
        sent.map_err(|failure| Cut { cause: failure.cause })
    }

    fn poll_download(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
        client: &mut impl Downstream,
        download: &mut Pump,
    ) -> Poll<Result<(), Failure>> {
        self.poll_upload(task, client)?;
        loop {
            let broken = |detail: &dyn std::fmt::Display| {
                Poll::Ready(Err(Failure::because(Cause::BodyClosed, Phase::Body, detail)))
            };
            match download.poll(task, &mut self.upstream, client) {
                // The client has all of it, by its length: it may ask for something
                // else by now, whatever becomes of the end the backend marks apart.
                Poll::Pending | Poll::Ready(Err(PumpError::Source(_) | PumpError::Truncated))
                    if download.delivered =>
                {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => break,
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                // Once more, into the void, if the request has to run to its end.
                Poll::Ready(Err(PumpError::Sink(error))) => {
                    self.lost(request, client, error, Phase::Body)?;
                }
                Poll::Ready(Err(PumpError::Source(error))) => return broken(&error),
                Poll::Ready(Err(PumpError::Malformed(reason))) => return broken(&reason),
                Poll::Ready(Err(PumpError::Truncated | PumpError::TooLarge)) => {
                    return broken(&"the response body ended early");
                }
            }
        }
        self.watch(task, request, client, Phase::Body, download.waiting == Waiting::Source)?;
        let now = Instant::now();
        self.note_progress(now);
        if std::mem::take(&mut download.moved) {
            self.last = now;
        }
        let config = &self.route.listener.config;
        let (at, cause) = match download.waiting {
            Waiting::Sink => (self.last + config.write_timeout, Cause::ClientTimeout),
            Waiting::Source if self.waits_for_client() => {
                (self.last + config.body_timeout, Cause::ClientTimeout)
            }
            Waiting::Source => (self.backend_deadline(), Cause::BodyTimeout),
        };
        client.poll_deadline(task, now, at).map(|()| Err(Failure::new(cause, Phase::Body)))
    }

    /// The backend switched protocols: what is left is a tunnel.
    pub(in crate::proxy) fn into_tunnel(self, head: Buffer, told: Option<Box<Told>>) -> Tunnel {
        let timeout = self.route.tunnel_timeout(self.picked.group);
        Tunnel::new(self.upstream, self.picked.keep(), head, timeout, told)
    }

    /// The response is complete: keeps the connection for the next request if
    /// the backend will take one.
    pub(in crate::proxy) fn release(self, cx: Cx<'_>, now: Instant) {
        let Some(response) = &self.response else { return };
        let config = &self.picked.group.config;
        let reusable = !self.picked.backend.is_retired()
            && config.keepalive
            && response.keep_alive
            && response.framing != ResponseFraming::UntilClose
            && self.upload.delivered;
        if let Upstream::Http2(exchange) = self.upstream {
            if self.upload.finished {
                exchange.await_end(now + self.route.response_timeout(self.picked.group));
            }
            return;
        }
        let Some(conn) = self.upstream.into_clean_conn().filter(|_| reusable) else { return };
        // A second less than the backend promised: it closes by its own clock.
        let promised = response.keep_alive_timeout.map_or(config.idle_timeout, |seconds| {
            std::time::Duration::from_secs(u64::from(seconds.saturating_sub(1)))
        });
        let until = now + promised.min(config.idle_timeout);
        cx.worker.pool.put(self.picked.backend.id(), conn, now, until, config.max_idle);
    }
}
