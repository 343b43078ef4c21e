//! The heart: what happens to a request, in order, for every HTTP version.
//! Route it, pick a backend, forward it, respond.

use super::client::Downstream;
use super::error::{Cause, Failure, Phase};
use super::forward::{Attempt, Picked, attempt};
use super::message::{Cx, Request};
use super::respond::{self, Answer, Place};
use super::route::{self, Route};
use crate::config::Action;
use crate::http1::{Known, RequestFraming};
use crate::policy::balance::{Balance, Draw, HashKey, key_hash, pick};
use crate::policy::headers::cookie;
use crate::policy::route::normalize_path;
use crate::state::{Group, Listener};

/// What the client gets.
#[derive(Debug)]
pub(super) enum Response<'a> {
    /// A backend's response; its body is still to come.
    Forwarded(Box<Attempt<'a>>),
    /// lockgate's own.
    Own(Answer),
    /// Nothing: nobody is there.
    Nobody,
}

/// A response, and the listener it comes from when one was found.
#[derive(Debug)]
pub(super) struct Served<'a> {
    pub(super) response: Response<'a>,
    pub(super) listener: Option<&'a Listener>,
}

/// Serves a request up to the header of its response. Every failure becomes a
/// response here, and a line in the log.
pub(super) async fn serve<'a>(
    cx: Cx<'a>,
    request: &Request,
    client: &mut impl Downstream,
) -> Served<'a> {
    let (port, listener) = match route::listener(cx, request) {
        Ok(found) => found,
        Err(failure) => {
            return Served { response: fail(cx, request, None, &failure), listener: None };
        }
    };
    let response = match route::rule(cx, request, port, listener) {
        Ok(route) => act(cx, request, route, client).await,
        Err((client, failure)) => {
            let place = Place { listener, group: None, client };
            fail(cx, request, Some(place), &failure)
        }
    };
    Served { response, listener: Some(listener) }
}

/// Does what the rule says.
async fn act<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: Route<'a>,
    client: &mut impl Downstream,
) -> Response<'a> {
    let group = match &route.rule.config.action {
        Action::Redirect(redirect) => {
            return Response::Own(respond::redirect(request, &route, redirect));
        }
        Action::Respond { status, body } => {
            return Response::Own(respond::fixed(&route, *status, body));
        }
        Action::Forward(_) => route.rule.group.and_then(|at| cx.view.snapshot.groups.get(at)),
    };
    let tried = match group {
        // Boxed, so that what a request holds while its body moves is small.
        Some(group) => Box::pin(forward(cx, request, route, group, client)).await,
        None => Err(Failure::new(Cause::NoAvailableBackend, Phase::Pick)),
    };
    match tried {
        Ok(attempt) => Response::Forwarded(attempt),
        Err(failure) => fail(cx, request, Some(Place::of(&route, group)), &failure),
    }
}

/// Picks a backend of the group and forwards the request to it.
async fn forward<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: Route<'a>,
    group: &'a Group,
    client: &mut impl Downstream,
) -> Result<Box<Attempt<'a>>, Failure> {
    if let (RequestFraming::Length(length), Some(max)) = (request.head.framing, route.max_body())
        && length > max
    {
        return Err(Failure::because(Cause::BodyTooLarge, Phase::Request, "max_body"));
    }
    let picked = pick_backend(cx, request, &route, group)?;
    let backend = picked.backend;
    attempt(cx, request, route, picked, client).await.map_err(|failure| failure.at(backend))
}

/// Picks by the group's balance among the backends that are available.
fn pick_backend<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: &Route<'a>,
    group: &'a Group,
) -> Result<Picked<'a>, Failure> {
    let draw = Draw {
        key: match &group.config.balance {
            Balance::Hash(key) => hash_key(key, request, route),
            _ => 0,
        },
        chance: match group.config.balance {
            Balance::P2c => cx.worker.chance(),
            _ => 0,
        },
    };
    let Some(cursor) = route.rule.group.and_then(|at| cx.view.cursor(at)) else {
        return Err(Failure::new(Cause::NoAvailableBackend, Phase::Pick));
    };
    // Another worker may take a backend's last place between pick and entry:
    // the next pick sees it as full.
    for _ in 0..=group.backends.len() {
        let place = pick(
            &group.schedule,
            &mut cursor.borrow_mut(),
            draw,
            |at| group.backends.get(at).is_some_and(|backend| backend.is_available()),
            |at| group.backends.get(at).map_or(0, |backend| backend.load()),
        );
        let Some(backend) = place.and_then(|at| group.backends.get(at)) else { break };
        if let Some(picked) = Picked::new(group, backend) {
            return Ok(picked);
        }
    }
    if group.backends.iter().any(|backend| backend.is_full()) {
        return Err(Failure::because(
            Cause::Limit,
            Phase::Pick,
            "max_connections of every backend",
        ));
    }
    Err(Failure::new(Cause::NoAvailableBackend, Phase::Pick))
}

/// The value a request is hashed by; where it has none, its address, so that
/// such requests are still spread.
fn hash_key(key: &HashKey, request: &Request, route: &Route<'_>) -> u64 {
    let by_client = || key_hash(route.client.to_string().as_bytes());
    match key {
        HashKey::ClientIp => by_client(),
        HashKey::Cookie(name) => request
            .all(Known::Cookie)
            .find_map(|field| cookie(request.text(field.value), name.as_bytes()))
            .map_or_else(by_client, key_hash),
        HashKey::Header(name) => request.value_of(name.as_bytes()).map_or_else(by_client, key_hash),
        HashKey::Path => {
            let mut scratch = Vec::new();
            let path = request.path_and_query();
            key_hash(normalize_path(path, &mut scratch).unwrap_or(path))
        }
    }
}

/// Turns a failure into what the client gets, and logs it.
fn fail<'a>(
    cx: Cx<'a>,
    request: &Request,
    place: Option<Place<'a>>,
    failure: &Failure,
) -> Response<'a> {
    let id = cx.worker.request_id();
    respond::log(cx, Some(request), place, failure, id);
    if failure.cause == Cause::ClientGone {
        return Response::Nobody;
    }
    let trusted = place
        .is_some_and(|place| place.listener.config.trusted_proxies.contains(cx.peer.address.ip()));
    Response::Own(respond::error(failure, id, trusted))
}
