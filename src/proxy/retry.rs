//! Forwards a request: to the picked backend, and when that fails to another one
//! where [`crate::policy::retry`] allows it.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::body::Pump;
use super::client::{Downstream, Presence};
use super::error::{Cause, Failure, Phase};
use super::forward::{self, Attempt, Failed, attempt};
use super::message::{Cx, Request};
use super::pick::{Picked, pick_backend};
use super::respond::{self, Place};
use super::route::Route;
use super::sticky::Binding;
use crate::config::{Retry, Upstream};
use crate::policy::health::Blame;
use crate::policy::retry::{self, Kind, Next, Progress, next};
use crate::state::Group;

/// Forwards the request to a backend of the group; gives the attempt whose
/// response the client gets.
pub(super) async fn forward<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: Route<'a>,
    group: &'a Group,
    client: &mut impl Downstream,
) -> Result<Box<Attempt<'a>>, Failure> {
    let mut tries = Tries::new(cx, request, route, group);
    let mut upload = tries.upload();
    let mut picked = tries.pick()?;
    let mut fresh = false;
    loop {
        let outcome = attempt(cx, request, route, picked, upload, fresh, client).await;
        match &outcome {
            Ok(attempt) if attempt.status() < 400 => {}
            Ok(attempt) => tries.look(client, attempt.upload.source_done()).await,
            Err(failed) => tries.look(client, failed.upload.source_done()).await,
        }
        let step = match outcome {
            Ok(attempt) => tries.answered(attempt),
            Err(failed) => tries.failed(*failed),
        };
        match step {
            Step::Done(attempt) => return Ok(attempt),
            Step::Failed(failure) => return Err(failure),
            Step::Again(same, body) => (picked, upload, fresh) = (same, body, true),
            Step::Elsewhere(other, body) => (picked, upload, fresh) = (other, body, false),
        }
    }
}

/// What follows an attempt.
enum Step<'a> {
    Done(Box<Attempt<'a>>),
    Failed(Failure),
    Again(Picked<'a>, Box<Pump>),
    Elsewhere(Picked<'a>, Box<Pump>),
}

/// The attempts of one request.
struct Tries<'a, 'r> {
    cx: Cx<'a>,
    request: &'r Request,
    route: Route<'a>,
    group: &'a Group,
    settings: Retry,
    binding: Option<Binding<'a>>,
    /// Places of the backends that had their attempt.
    tried: Vec<usize>,
    attempts: u32,
    sent_to: u32,
    idempotent: bool,
    /// Since the first attempt.
    began: Option<Instant>,
    /// The last real answer, should there be no better one.
    answer: Option<Box<Attempt<'a>>>,
    /// Whether anybody waits for a further attempt.
    presence: Presence,
}

impl<'a, 'r> Tries<'a, 'r> {
    fn new(cx: Cx<'a>, request: &'r Request, route: Route<'a>, group: &'a Group) -> Self {
        let (settings, idempotent) = terms(request, &route, group);
        cx.worker.note_request(group);
        Tries {
            cx,
            request,
            route,
            group,
            settings,
            binding: group.sticky.as_ref().map(|sticky| Binding::read(cx.worker, request, sticky)),
            tried: Vec::new(),
            attempts: 0,
            sent_to: 0,
            idempotent,
            began: None,
            answer: None,
            presence: Presence::Here,
        }
    }

    /// Looks whether the client is still there. What it sends now is no more of
    /// the request's body if that is `whole`.
    async fn look(&mut self, client: &mut impl Downstream, whole: bool) {
        let watched = poll_fn(|task| Poll::Ready(client.watch(task, whole))).await;
        let half_close = self.route.listener.config.client_half_close;
        self.presence = match client.presence() {
            _ if watched.is_err() => Presence::Gone,
            Presence::Ended if !half_close => Presence::Gone,
            presence => presence,
        };
    }

    /// The request's body, kept as far as it may be needed once more.
    fn upload(&self) -> Box<Pump> {
        // A backend that speaks HTTP/2 may say later that it did not look at it.
        let once = !self.idempotent
            && !self.settings.settings.non_idempotent
            && !matches!(self.group.config.protocol, Upstream::H2c);
        let keep = self.settings.body_buffer;
        forward::upload(self.cx, self.request, &self.route, keep, once)
    }

    fn pick(&mut self) -> Result<Picked<'a>, Failure> {
        let binding = self.binding.as_mut();
        let picked =
            pick_backend(self.cx, self.request, &self.route, self.group, binding, &self.tried)?;
        self.attempts += 1;
        if let Some(binding) = &self.binding {
            binding.note_player(self.cx.worker, picked.backend.id());
        }
        Ok(picked)
    }

    /// An attempt brought a response.
    fn answered(&mut self, mut attempt: Box<Attempt<'a>>) -> Step<'a> {
        let status = attempt.status();
        let kind = Kind::Status(status);
        let place = attempt.picked.place;
        let other = match status >= 400 && self.settings.settings.on.contains(kind) {
            false => None,
            true => {
                self.sent_to += 1;
                self.tried.push(place);
                let failed = retry::Failed { kind, sent: true, stale: false };
                match self.next(failed, &attempt.upload, attempt.start) {
                    Next::Elsewhere { charged } => self.pick_replay(charged).ok(),
                    _ => None,
                }
            }
        };
        let Some(other) = other else {
            // An answer that goes to the client counts as one (nginx).
            self.group.note_success(place);
            return self.done(attempt);
        };
        let upload = attempt.take_upload();
        self.group.note_failure(place, Blame::Request, Cause::Status(status).name());
        self.keep_binding(place, Blame::Request);
        let failure = Failure::new(Cause::Status(status), Phase::Response);
        self.log(&failure.at(attempt.picked.backend));
        self.answer = Some(attempt);
        Step::Elsewhere(other, upload)
    }

    /// An attempt brought none.
    fn failed(&mut self, failed: Failed<'a>) -> Step<'a> {
        let Failed { failure, picked, upload, sent, stale, start } = failed;
        let failure = failure.at(picked.backend);
        self.request.trace.received.set(upload.content_len());
        let Some(kind) = kind(failure.cause) else { return self.give_up(failure) };
        let outcome = retry::Failed { kind, sent, stale };
        self.sent_to += u32::from(sent);
        let next = self.next(outcome, &upload, start);
        if next == Next::Again {
            self.sent_to -= u32::from(sent);
            self.request.trace.attempt_raced(&failure);
            return Step::Again(picked, upload);
        }
        // What is left of the keep-alive race is no failure of the backend.
        if let Some(blame) = failure.blame().filter(|_| !stale) {
            self.group.note_failure(picked.place, blame, failure.cause.name());
            self.keep_binding(picked.place, blame);
        }
        if self.presence == Presence::Gone && !failure.cause.is_clients() {
            self.request.trace.attempt_failed(&failure);
            let why = "the client left before another attempt";
            return Step::Failed(Failure::because(Cause::ClientGone, Phase::Response, why));
        }
        let Next::Elsewhere { charged } = next else { return self.give_up(failure) };
        self.tried.push(picked.place);
        drop(picked);
        match self.pick_replay(charged) {
            Ok(other) => {
                self.log(&failure);
                Step::Elsewhere(other, upload)
            }
            Err(Cause::BudgetSpent) => self.give_up(failure.without_budget()),
            Err(_) => self.give_up(failure),
        }
    }

    /// `start`: when the attempt that failed began.
    fn next(&mut self, failed: retry::Failed, upload: &Pump, start: Instant) -> Next {
        let began = *self.began.get_or_insert(start);
        let progress = Progress {
            attempts: self.attempts,
            sent_to: self.sent_to,
            elapsed: began.elapsed(),
            idempotent: self.idempotent,
            replayable: upload.is_replayable(),
            ended: self.presence == Presence::Ended,
            gone: self.presence == Presence::Gone,
        };
        next(&self.settings.settings, &progress, failed)
    }

    /// Another backend, if there is one that may have the request. `charged`: it
    /// counts against the group's budget.
    fn pick_replay(&mut self, charged: bool) -> Result<Picked<'a>, Cause> {
        // First of all: a pick may take an ejected backend's only trial.
        if charged && !self.group.take_replay(self.settings.budget) {
            return Err(Cause::BudgetSpent);
        }
        self.pick().map_err(|failure| {
            if charged {
                self.group.return_replay();
            }
            failure.cause
        })
    }

    /// The client's own backend did not answer. Where it is there all the same
    /// the client's session is there too: it stays bound.
    fn keep_binding(&mut self, place: usize, blame: Blame) {
        if let Some(binding) = &mut self.binding
            && binding.home() == Some(place)
        {
            binding.session.stays = blame == Blame::Request;
        }
    }

    fn done(&mut self, mut attempt: Box<Attempt<'a>>) -> Step<'a> {
        attempt.bind(self.binding.take());
        Step::Done(attempt)
    }

    /// There is no further attempt: the last real answer, or this failure.
    fn give_up(&mut self, failure: Failure) -> Step<'a> {
        match self.answer.take() {
            // What the client did wrong is said, whatever a backend answered before.
            Some(answer) if !failure.cause.is_clients() => {
                self.log(&failure);
                self.done(answer)
            }
            _ => Step::Failed(failure),
        }
    }

    fn log(&self, failure: &Failure) {
        self.request.trace.attempt_failed(failure);
        let place = Place::of(&self.route, Some(self.group));
        respond::log_attempt(self.cx, self.request, place, failure);
    }
}

/// The settings that hold for a request, and whether executing it twice does no
/// harm.
pub(super) fn terms(request: &Request, route: &Route<'_>, group: &Group) -> (Retry, bool) {
    let settings = route.rule.retry.unwrap_or(group.config.retry);
    let keyed = settings.idempotency_key && request.value_of(b"idempotency-key").is_some();
    (settings, request.head.method.is_idempotent() || keyed)
}

/// What `retry.on` calls it; `None` where no backend had a part in it.
pub(super) fn kind(cause: Cause) -> Option<Kind> {
    match cause {
        Cause::ConnectRefused
        | Cause::ConnectError
        | Cause::Dns
        | Cause::TlsHandshake
        | Cause::ClosedBeforeHeader => Some(Kind::Error),
        Cause::ConnectTimeout | Cause::HeaderTimeout => Some(Kind::Timeout),
        Cause::InvalidHeader => Some(Kind::InvalidHeader),
        _ => None,
    }
}
