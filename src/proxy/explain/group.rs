//! Which backend of a group would have a request, and what if it fails.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::document::{
    AfterFailure, BackendFacts, BodyFacts, Candidate, EjectionFacts, Explanation, GroupFacts,
    PickFacts, ProbeFacts, StickyFacts,
};
use super::{fields, outcome, refusal};
use crate::config::{AdminState, Upstream};
use crate::http1::RequestFraming;
use crate::policy::balance::{Balance, foresee, key_hash};
use crate::policy::retry::{self, Kind, Next, Progress, Stop, next};
use crate::policy::sticky::{Bound, Direction, Ejection, Reject, Seconds, Standing};
use crate::proxy::connect::no_address;
use crate::proxy::error::{Cause, Failure};
use crate::proxy::message::{Cx, Request};
use crate::proxy::pick::{hash_value, nobody};
use crate::proxy::request::unfit;
use crate::proxy::retry::{kind, terms};
use crate::proxy::route::Route;
use crate::proxy::sticky::{Binding, judge};
use crate::state::{Backend, Group, ProbeStatus, Sticky, StickyMode, Trust};

/// Tells all that the group decides.
pub(super) fn explain(
    explanation: &mut Explanation,
    cx: Cx<'_>,
    request: &Request,
    route: &Route<'_>,
    group: &Group,
    place: String,
) {
    let hashed = match &group.config.balance {
        Balance::Hash(key) => Some(hash_value(key, request, route)),
        _ => None,
    };
    let key = hashed.as_deref().map(key_hash).unwrap_or_default();
    let sticky = group.sticky.as_ref();
    let mut binding = sticky.map(|sticky| Binding::read(cx.worker, request, sticky));
    let home = binding.as_ref().and_then(Binding::home);
    let direction = home.and_then(|place| Some(group.standing(place)?.direction()));
    if let Some(binding) = &mut binding {
        binding.session.stays = direction == Some(Direction::Elsewhere);
    }
    explanation.sticky = sticky.map(|sticky| sticky_facts(cx, request, group, sticky, direction));
    let facts = group_facts(group, place, explanation.offline);
    let is_nameless = |at: usize| facts.backends.get(at).is_some_and(|one| one.no_address);
    let nameless: Vec<usize> = (0..group.backends.len()).filter(|at| is_nameless(*at)).collect();
    explanation.group = Some(facts);
    explanation.body = body_facts(request, route);
    if let Some(failure) = unfit(request, route, group) {
        explanation.outcome = refusal(&failure);
        return;
    }
    let at_home = home.filter(|_| direction == Some(Direction::Home));
    let (places, trust) = match at_home {
        Some(home) => (vec![(home, 1.0)], Trust::Known),
        None => foreseen(group, key, &[]),
    };
    let why = match (at_home, home) {
        (Some(home), _) => at_home_because(group, home),
        (None, home) => {
            let anew = home.and_then(|home| gone_because(group, home, direction));
            anew.unwrap_or_default() + &picked_because(group, &places, trust)
        }
    };
    let why = why + &in_vain(group, &places, &nameless);
    explanation.pick = Some(PickFacts {
        bound: at_home.is_some(),
        candidates: candidates(group, &places),
        why,
        hashed: hashed.map(|value| String::from_utf8_lossy(&value).into_owned()),
    });
    let (settings, idempotent) = terms(request, route, group);
    explanation.replays_left = Some(group.replays_left(settings.budget));
    let Some((first, _)) = places.first() else {
        explanation.outcome = refusal(&nobody(group));
        return;
    };
    let takes = |at: usize| group.circles().any(|takers| takers.take(at));
    let may_have_it = |at: usize| at_home == Some(at) || takes(at);
    explanation.outcome =
        match (0..group.backends.len()).all(|at| nameless.contains(&at) || !may_have_it(at)) {
            true => refusal(&no_address()),
            false => outcome("forward"),
        };
    explanation.to_backend = fields::to_backend(cx, request, route, group);
    explanation.to_client = fields::to_client(request, route, binding.as_ref(), *first);
    let after = |cause| after(cause, &settings.settings, idempotent, group, key, &places);
    explanation.failures = causes(&settings.settings, !nameless.is_empty()).map(after).collect();
}

/// Who may get the request, of the first circle that has anybody left.
fn foreseen(group: &Group, key: u64, tried: &[usize]) -> (Vec<(usize, f64)>, Trust) {
    let load = |at: usize| group.backends.get(at).map_or(0, Backend::load);
    let mut last = Trust::Known;
    for takers in group.circles() {
        last = takers.trust();
        let available = |at: usize| !tried.contains(&at) && takers.take(at);
        let mut places = foresee(&group.schedule, key, available, load);
        if !places.is_empty() {
            places.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            return (places, last);
        }
    }
    (Vec::new(), last)
}

fn candidates(group: &Group, places: &[(usize, f64)]) -> Vec<Candidate> {
    let candidate = |(place, share): &(usize, f64)| {
        let backend = group.backends.get(*place)?.config.name.to_string();
        Some(Candidate { backend, share: *share })
    };
    places.iter().filter_map(candidate).collect()
}

/// Why the balance comes to these.
fn picked_because(group: &Group, places: &[(usize, f64)], trust: Trust) -> String {
    let circle = match trust {
        Trust::Known => "",
        Trust::Awaited => "nobody else is left than those that no probe has judged yet: ",
        Trust::Anybody => "nobody is available, and `all_down = \"try\"` tries one all the same: ",
    };
    let why = match (places, &group.config.balance) {
        ([], _) => return "nobody may have it".to_owned(),
        (_, Balance::Hash(key)) => format!("the hash of {key} leads there"),
        ([_], Balance::Wlc) if group.backends.len() > 1 => {
            "the fewest requests in flight for its weight".to_owned()
        }
        ([_], _) => "it is the only one that may have it".to_owned(),
        (_, Balance::Wrr | Balance::Rr) => {
            "in turn: each worker goes round by itself, so only the shares are known".to_owned()
        }
        (_, Balance::Wlc) => "alike in requests in flight for their weights: in turn".to_owned(),
        (_, Balance::P2c) => {
            "two are drawn, and who has fewer requests in flight for its weight gets it".to_owned()
        }
    };
    format!("{circle}{why}")
}

fn at_home_because(group: &Group, home: usize) -> String {
    let why = "the client's cookie binds it to this one";
    match group.standing(home).and_then(|standing| reason(group, home, standing)) {
        None => why.to_owned(),
        Some(reason) => format!("{why}, which still serves those bound to it: {reason}"),
    }
}

/// Why a bound client does not go home.
fn gone_because(group: &Group, home: usize, direction: Option<Direction>) -> Option<String> {
    let reason = reason(group, home, group.standing(home)?)?;
    let name = &group.backends.get(home)?.config.name;
    let then = match direction? {
        Direction::Home => return None,
        Direction::Elsewhere => "another one this once, the binding stays",
        Direction::Anew => "it is bound anew",
    };
    Some(format!("the cookie names {name}, but {reason}: {then}; "))
}

/// What is said of those that are picked and cannot be connected to.
fn in_vain(group: &Group, places: &[(usize, f64)], nameless: &[usize]) -> String {
    let picked = places.iter().filter(|(at, _)| nameless.contains(at));
    let names = picked.filter_map(|(at, _)| group.backends.get(*at)).map(|one| &*one.config.name);
    let names: Vec<&str> = names.collect();
    match &*names {
        [] => String::new(),
        [one] => format!("; the name of {one} has no address: an attempt there fails at once"),
        names => {
            let names = names.join(", ");
            format!("; the names of {names} have no address: an attempt there fails at once")
        }
    }
}

/// What is known of the body before it comes.
fn body_facts(request: &Request, route: &Route<'_>) -> Option<BodyFacts> {
    let length = match request.head.framing {
        RequestFraming::Length(length) => Some(length),
        RequestFraming::None | RequestFraming::Chunked => None,
    };
    let facts = BodyFacts { length, most: route.max_body() };
    (facts.length.is_some() || facts.most.is_some()).then_some(facts)
}

/// Why a backend takes nobody new.
fn reason(group: &Group, place: usize, standing: Standing) -> Option<String> {
    let backend = group.backends.get(place)?;
    Some(match standing {
        Standing { admin: admin @ (AdminState::Maint | AdminState::Drain), .. } => {
            let whose = if backend.admin_order().is_some() { ", the operator says" } else { "" };
            format!("it is in {}{whose}", admin.name())
        }
        Standing { down: true, .. } => match backend.probe_status().up {
            None => "a reload added it, and no probe has judged it yet".to_owned(),
            Some(_) => "its probes found it down".to_owned(),
        },
        Standing { ejected: Some(why), .. } => format!("it is ejected: {}", ejection(why)),
        Standing { full: true, .. } => "it is full (`max_connections`)".to_owned(),
        _ if backend.config.weight == 0 => "its weight is 0".to_owned(),
        _ => return None,
    })
}

fn ejection(why: Ejection) -> &'static str {
    match why {
        Ejection::Unreachable => "unreachable",
        Ejection::Failing => "failing",
    }
}

fn group_facts(group: &Group, place: String, offline: bool) -> GroupFacts {
    let config = &group.config;
    let hash_key = match &config.balance {
        Balance::Hash(key) => Some(key.to_string()),
        _ => None,
    };
    GroupFacts {
        name: config.name.to_string(),
        place,
        protocol: match config.protocol {
            Upstream::Http => "http",
            Upstream::Https(_) => "https",
            Upstream::H2c => "h2c",
        }
        .to_owned(),
        balance: config.balance.name().to_owned(),
        hash_key,
        backends: (0..group.backends.len())
            .filter_map(|at| backend_facts(group, at, offline))
            .collect(),
    }
}

fn backend_facts(group: &Group, place: usize, offline: bool) -> Option<BackendFacts> {
    let backend = group.backends.get(place)?;
    let why_not = reason(group, place, group.standing(place)?);
    let config = &backend.config;
    let is_named = config.address.socket().is_none();
    let addresses = if is_named { backend.addresses() } else { Arc::default() };
    let resolved: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Some(BackendFacts {
        name: config.name.to_string(),
        address: config.address.to_string(),
        no_address: is_named && resolved.is_empty() && !offline,
        resolved,
        weight: config.weight,
        backup: config.backup,
        state: backend.admin_state().name().to_owned(),
        probe: group.config.probe.is_some().then(|| probe_facts(&backend.probe_status())),
        ejected: group.sentence(place).map(|(why, left)| EjectionFacts {
            why: ejection(why).to_owned(),
            milliseconds: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        }),
        load: group.counts_load().then(|| backend.load()),
        most: config.max_connections,
        available: why_not.is_none() && group.takers().take(place),
        why_not,
    })
}

fn probe_facts(status: &ProbeStatus) -> ProbeFacts {
    let since = SystemTime::now().duration_since(status.since).unwrap_or_default();
    let last = status.last.as_ref().map(|last| {
        let took = show(last.took);
        match (last.status, &last.fault) {
            (Some(status), None) => format!("{status} in {took}"),
            (_, Some((cause, detail))) if detail.is_empty() => format!("{cause} after {took}"),
            (_, Some((cause, detail))) => format!("{cause}: {detail}, after {took}"),
            (None, None) => format!("good in {took}"),
        }
    });
    ProbeFacts { up: status.up, seconds: since.as_secs(), last }
}

fn show(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn sticky_facts(
    cx: Cx<'_>,
    request: &Request,
    group: &Group,
    sticky: &Sticky,
    direction: Option<Direction>,
) -> StickyFacts {
    let now = cx.worker.unix_seconds();
    let (verdict, _) = judge(cx.worker, request, sticky, now);
    let bound = verdict.and_then(Result::ok);
    let home = bound.and_then(|bound| group.backends.get(bound.backend?));
    let since = |time: Seconds| now.saturating_sub(time);
    let life = match &sticky.mode {
        StickyMode::Insert { life, .. } => Some(*life),
        StickyMode::Rewrite => None,
    };
    let left = |bound: Bound| {
        let life = life?;
        let idle = life.idle.saturating_sub(since(bound.last));
        let most = life.max_life.map(|most| most.saturating_sub(since(bound.first)));
        Some(most.map_or(idle, |most| idle.min(most)))
    };
    StickyFacts {
        mode: if life.is_some() { "insert" } else { "rewrite" }.to_owned(),
        cookie: sticky.name.clone(),
        verdict: match verdict {
            None => "absent",
            Some(Ok(_)) => "good",
            Some(Err(reject)) => Reject::name(reject),
        }
        .to_owned(),
        backend: home.map(|backend| backend.config.name.to_string()),
        first: bound.filter(|_| life.is_some()).map(|bound| since(bound.first)),
        last: bound.map(|bound| since(bound.last)),
        left: bound.and_then(left),
        goes: direction.map(|direction| {
            match direction {
                Direction::Home => "home",
                Direction::Elsewhere => "elsewhere",
                Direction::Anew => "anew",
            }
            .to_owned()
        }),
    }
}

/// What may go wrong with an attempt, and whether the backend saw the request.
fn causes(settings: &retry::Settings, nameless: bool) -> impl Iterator<Item = (Cause, bool)> {
    const BEFORE: [(Cause, bool); 5] = [
        (Cause::ConnectRefused, false),
        (Cause::ConnectTimeout, false),
        (Cause::ClosedBeforeHeader, true),
        (Cause::HeaderTimeout, true),
        (Cause::InvalidHeader, true),
    ];
    let on = settings.on;
    let listed = [500, 502, 503, 504, 403, 404, 429].into_iter();
    let listed = listed.filter(move |status| on.contains(Kind::Status(*status)));
    let dns = nameless.then_some((Cause::Dns, false));
    dns.into_iter().chain(BEFORE).chain(listed.map(|status| (Cause::Status(status), true)))
}

/// What follows when the first attempt fails like this.
fn after(
    (cause, sent): (Cause, bool),
    settings: &retry::Settings,
    idempotent: bool,
    group: &Group,
    key: u64,
    places: &[(usize, f64)],
) -> AfterFailure {
    let kind = match cause {
        Cause::Status(status) => Kind::Status(status),
        // Each of the others has one.
        cause => kind(cause).unwrap_or(Kind::Error),
    };
    let progress = Progress {
        attempts: 1,
        sent_to: u32::from(sent),
        elapsed: Duration::ZERO,
        idempotent,
        replayable: true,
        ended: false,
        gone: false,
    };
    let decided = next(settings, &progress, retry::Failed { kind, sent, stale: false });
    let (next, why) = match decided {
        Next::GiveUp(stop) => (Vec::new(), stopped(stop).to_owned()),
        Next::Again => (places.to_vec(), String::new()),
        Next::Elsewhere { charged } => match places {
            [(only, _)] => match foreseen(group, key, &[*only]).0 {
                none if none.is_empty() => (none, "nobody else may have it".to_owned()),
                others => (others, budget(charged)),
            },
            // Whoever has it first, another of them is next.
            several => (several.to_vec(), format!("another of them{}", budget(charged))),
        },
    };
    let status = match cause {
        Cause::Status(status) => status,
        cause => Failure::new(cause, crate::proxy::Phase::Response).status(),
    };
    let cause = cause.name().to_owned();
    AfterFailure { cause, sent, next: candidates(group, &next), why, status }
}

fn budget(charged: bool) -> String {
    if charged { ", out of the budget".to_owned() } else { String::new() }
}

fn stopped(stop: Stop) -> &'static str {
    match stop {
        Stop::Kind => "`retry.on` does not list it",
        Stop::NotIdempotent => "it may have been executed, and its method is not idempotent",
        Stop::Client => "the client has left",
        Stop::BodyGone => "some of its body is gone",
        Stop::Tries => "`retry.tries` allows no other",
        Stop::Timeout => "`retry.timeout` is over",
    }
}
