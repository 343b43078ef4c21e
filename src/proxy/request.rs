//! The heart: what happens to a request, in order, for every HTTP version.
//! Route it, pick a backend, forward it, respond.

use super::client::Downstream;
use super::error::{Cause, Failure, Phase};
use super::forward::Attempt;
use super::message::{Cx, Request};
use super::record::UnderWay;
use super::respond::{self, Answer, Place};
use super::retry;
use super::route::{self, Route};
use crate::config::{Action, Upstream};
use crate::http1::RequestFraming;
use crate::state::Group;

/// What the client gets.
#[derive(Debug)]
pub(super) enum Response<'a> {
    /// A backend's response; its body is still to come.
    Forwarded(Box<Attempt<'a>>),
    /// lockgate's own; boxed, so that what waits while a body moves is small.
    Own(Box<Answer>),
    /// Nothing: nobody is there.
    Nobody,
}

/// A response, and where it comes from when that was found.
#[derive(Debug)]
pub(super) struct Served<'a> {
    pub(super) response: Response<'a>,
    pub(super) place: Option<Place<'a>>,
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
            return Served { response: fail(cx, request, None, &failure), place: None };
        }
    };
    cx.worker.note_game(cx.peer, &listener.game);
    request.adopt_id(&listener.config, cx.peer.address.ip());
    match route::rule(cx, request, port, listener) {
        Ok(route) => {
            let place = Place::of(&route, route.rule.group.as_deref());
            let under_way = UnderWay::new(cx, request, Some(place));
            let response = act(cx, request, route, client).await;
            under_way.over();
            Served { response, place: Some(place) }
        }
        Err((client, failure)) => {
            let place = Some(Place { listener, rule: None, group: None, client });
            Served { response: fail(cx, request, place, &failure), place }
        }
    }
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
            return Response::Own(Box::new(respond::redirect(request, &route, redirect)));
        }
        Action::Respond { status, body } => {
            return Response::Own(Box::new(respond::fixed(&route, *status, body)));
        }
        Action::Forward(_) => route.rule.group.as_deref(),
    };
    let Some(group) = group else {
        let failure = Failure::new(Cause::NoAvailableBackend, Phase::Pick);
        return fail(cx, request, Some(Place::of(&route, None)), &failure);
    };
    let tried = match unfit(request, &route, group) {
        Some(failure) => Err(failure),
        // Boxed, so that what a request holds while its body moves is small.
        None => Box::pin(retry::forward(cx, request, route, group, client)).await,
    };
    match tried {
        Ok(attempt) => Response::Forwarded(attempt),
        Err(failure) => fail(cx, request, Some(Place::of(&route, Some(group))), &failure),
    }
}

/// Why no backend of the group may have the request, whichever is picked.
pub(super) fn unfit(request: &Request, route: &Route<'_>, group: &Group) -> Option<Failure> {
    if let (RequestFraming::Length(length), Some(max)) = (request.head.framing, route.max_body())
        && length > max
    {
        return Some(Failure::because(Cause::BodyTooLarge, Phase::Request, "max_body"));
    }
    let is_h2c = matches!(group.config.protocol, Upstream::H2c);
    (request.websocket && is_h2c).then(|| {
        let why = "a WebSocket needs protocol http or https";
        Failure::because(Cause::ConnectError, Phase::Connect, why)
    })
}

/// Turns a failure into what the client gets, and logs it.
fn fail<'a>(
    cx: Cx<'a>,
    request: &Request,
    place: Option<Place<'a>>,
    failure: &Failure,
) -> Response<'a> {
    let id = request.id(cx.worker);
    respond::log(cx, Some(request), place, failure, id);
    if failure.cause == Cause::ClientGone {
        return Response::Nobody;
    }
    let trusted = place
        .is_some_and(|place| place.listener.config.trusted_proxies.contains(cx.peer.address.ip()));
    Response::Own(Box::new(respond::error(failure, id, trusted)))
}
