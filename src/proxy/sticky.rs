//! Keeps a client on its backend: what its cookie says before a backend is
//! picked, and which cookie goes back with the response.

use std::cell::Cell;

use super::headers::Line;
use super::message::Request;
use super::trace::Stickiness;
use super::worker::Worker;
use crate::config::Protocol;
use crate::http1::{Field, Known, ResponseHead};
use crate::policy::sticky::cookies::{token_of, token_place, values, without_quotes};
use crate::policy::sticky::{Bound, InsertToken, Reject, RewriteToken, Seconds, Session};
use crate::state::{Sticky, StickyMode};

/// So many cookies of the name are looked at: a browser has a few, of several
/// domains and paths; who sends hundreds wants them verified at our expense.
const MOST_COOKIES: usize = 16;

/// A request's binding to a backend of its sticky group.
#[derive(Debug)]
pub(super) struct Binding<'a> {
    sticky: &'a Sticky,
    pub(super) session: Session,
    /// The player was counted a moment ago.
    counted: bool,
    now: Seconds,
}

impl<'a> Binding<'a> {
    /// What the request's cookie says. Where several have the name, the first
    /// that is worth something.
    pub(super) fn read(worker: &Worker, request: &Request, sticky: &'a Sticky) -> Binding<'a> {
        let now = worker.unix_seconds();
        let (verdict, counted) = judge(worker, request, sticky, now);
        worker.sticky.note(verdict);
        request.trace.sticky.set(Some(match verdict {
            None => Stickiness::Absent,
            Some(Ok(bound)) => {
                Stickiness::Bound(bound.backend.and_then(|place| u32::try_from(place).ok()))
            }
            Some(Err(reject)) => Stickiness::Rejected(reject),
        }));
        let bound = verdict.and_then(Result::ok);
        let tag = match bound {
            Some(bound) => bound.tag,
            // Half of 64 random bits.
            None => (worker.chance() >> 32) as u32,
        };
        Binding { sticky, session: Session { bound, stays: false, tag }, counted, now }
    }

    /// The backend the request goes to has this player now. Who brings no
    /// cookie back is none: a probe, a crawler, a first visit.
    pub(super) fn note_player(&self, worker: &Worker, backend: u64) {
        if self.session.bound.is_some() && !self.counted {
            worker.players.note(backend, self.session.tag, self.now);
        }
    }

    /// The place of the backend the client is bound to, if there still is one.
    pub(super) fn home(&self) -> Option<usize> {
        self.session.bound?.backend
    }

    /// What the response of the backend at `served` has to say.
    pub(super) fn answer(
        &self,
        served: usize,
        protocol: Protocol,
        head: &[u8],
        fields: &[Field],
        response: &ResponseHead,
    ) -> SetCookie<'a> {
        let keys = &self.sticky.keys;
        let (life, attributes) = match &self.sticky.mode {
            StickyMode::Rewrite => {
                let place = match self.session.bound {
                    Some(Bound { backend: Some(home), .. }) if self.session.stays => home,
                    _ => served,
                };
                let token = RewriteToken::sign(keys, place, self.session.tag, self.now);
                return token.map_or(SetCookie::None, |token| SetCookie::Rewrite {
                    name: &self.sticky.name,
                    token,
                });
            }
            StickyMode::Insert { life, plain, secure } => match protocol {
                Protocol::Http => (*life, plain),
                Protocol::Https => (*life, secure),
            },
        };
        let (bound, tell) = self.session.after(served, life, self.now);
        let silent = !tell || response.status >= 400 || is_shared(head, fields);
        let token = if silent { None } else { InsertToken::sign(keys, bound, self.now) };
        SetCookie::Insert { name: &self.sticky.name, token, attributes }
    }
}

/// What the request's cookies of the name are worth; `None`: it has none. And
/// whether the player was counted a moment ago.
pub(super) fn judge(
    worker: &Worker,
    request: &Request,
    sticky: &Sticky,
    now: Seconds,
) -> (Option<Result<Bound, Reject>>, bool) {
    let (mut verdict, mut counted) = (None, false);
    for value in request
        .all(Known::Cookie)
        .flat_map(|field| values(request.text(field.value), sticky.name.as_bytes()))
        .take(MOST_COOKIES)
    {
        let worth = worth(worker, sticky, value, now, &mut counted);
        let better = worth.is_ok() || verdict.is_none();
        if better {
            verdict = Some(worth);
        }
        if worth.is_ok() {
            break;
        }
    }
    (verdict, counted)
}

/// What one cookie is worth.
fn worth(
    worker: &Worker,
    sticky: &Sticky,
    value: &[u8],
    now: Seconds,
    counted: &mut bool,
) -> Result<Bound, Reject> {
    match &sticky.mode {
        StickyMode::Insert { life, .. } => {
            let value = without_quotes(value);
            let bound = match worker.verified.recall(sticky.id, value, now) {
                Some((bound, count)) => {
                    *counted = !count;
                    bound
                }
                None => {
                    let bound = InsertToken::verify(&sticky.keys, value, now)?;
                    worker.verified.remember(sticky.id, value, bound, now);
                    bound
                }
            };
            life.check(bound, now)
        }
        StickyMode::Rewrite => {
            RewriteToken::verify(&sticky.keys, token_of(value).ok_or(Reject::Shape)?, now)
        }
    }
}

/// A cache that many clients share may keep the response: a cookie in it would
/// bind them all to one backend (RFC 9111 5.2.2.9, 5.2.2.10).
fn is_shared(head: &[u8], fields: &[Field]) -> bool {
    let is_control = |field: &&Field| {
        field.known == Known::Other && field.name.of(head).eq_ignore_ascii_case(b"cache-control")
    };
    let directives = fields
        .iter()
        .filter(is_control)
        .flat_map(|field| field.value.of(head).split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    let is_shared = |directive: &[u8]| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
    };
    directives.into_iter().any(is_shared)
}

/// What a response has to say of the binding.
#[derive(Clone, Copy, Debug)]
pub(super) enum SetCookie<'a> {
    /// Nothing.
    None,
    /// The cookie of that name is ours: a backend that sets it does so in vain, for
    /// the client would lose its binding. With a token we set it.
    Insert { name: &'a str, token: Option<InsertToken>, attributes: &'a str },
    /// A token in the application's cookie of that name, wherever it sets it.
    Rewrite { name: &'a str, token: RewriteToken },
}

impl SetCookie<'_> {
    /// Our own cookie, in the parts that make it up.
    pub(super) fn inserted(&self) -> Option<[&[u8]; 4]> {
        match self {
            SetCookie::Insert { name, token: Some(token), attributes } => {
                Some([name.as_bytes(), b"=", token.as_bytes(), attributes.as_bytes()])
            }
            _ => None,
        }
    }

    /// What becomes of a field of the response.
    #[inline]
    pub(super) fn line(&self, head: &[u8], field: &Field) -> Line {
        if field.known != Known::SetCookie {
            return Line::Keep;
        }
        let value = field.value.of(head);
        match self {
            SetCookie::None => Line::Keep,
            SetCookie::Insert { name, .. } => match token_place(value, name.as_bytes()) {
                Some(_) => Line::Drop,
                None => Line::Keep,
            },
            SetCookie::Rewrite { name, token } => {
                let place = token_place(value, name.as_bytes());
                match place.and_then(|place| value.split_at_checked(place)) {
                    Some((before, after)) => {
                        Line::Instead([before, token.as_bytes(), after].concat())
                    }
                    None => Line::Keep,
                }
            }
        }
    }
}

/// What the sticky cookies of requests were worth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CookieCounts {
    /// Requests without one.
    pub(crate) absent: u64,
    /// Those that named a backend.
    pub(crate) good: u64,
    /// By [`Reject`]'s number.
    pub(crate) rejected: [u64; Reject::ALL.len()],
}

impl CookieCounts {
    /// Counts those of another worker too.
    pub(crate) fn add(&mut self, other: &CookieCounts) {
        self.absent += other.absent;
        self.good += other.good;
        for (count, more) in self.rejected.iter_mut().zip(other.rejected) {
            *count += more;
        }
    }
}

/// A worker's.
#[derive(Debug, Default)]
pub(super) struct StickyCounts(Cell<CookieCounts>);

impl StickyCounts {
    fn note(&self, verdict: Option<Result<Bound, Reject>>) {
        let mut counts = self.0.get();
        let count = match verdict {
            None => Some(&mut counts.absent),
            Some(Ok(_)) => Some(&mut counts.good),
            Some(Err(reject)) => counts.rejected.get_mut(reject as usize),
        };
        if let Some(count) = count {
            *count += 1;
        }
        self.0.set(counts);
    }

    /// All of them so far.
    pub(super) fn get(&self) -> CookieCounts {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeadLimits, Method, parse_response};

    fn shared(lines: &str) -> bool {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let mut fields = Vec::new();
        let limits = HeadLimits::default();
        parse_response(head.as_bytes(), &limits, Method::Get, &mut fields).unwrap();
        is_shared(head.as_bytes(), &fields)
    }

    #[test]
    fn what_a_shared_cache_may_keep() {
        for lines in [
            "Cache-Control: public\r\n",
            "cache-control: max-age=5 , PUBLIC\r\n",
            "Cache-Control: s-maxage=10\r\n",
            "Cache-Control: max-age=1\r\nCache-Control: S-MaxAge = 1\r\n",
        ] {
            assert!(shared(lines), "{lines}");
        }
        for lines in [
            "",
            "Cache-Control: max-age=60\r\n",
            "Cache-Control: private, max-age=60\r\n",
            "X-Cache-Control: public\r\n",
            "Cache-Control: x-public, publicity, x=public\r\n",
        ] {
            assert!(!shared(lines), "{lines}");
        }
    }
}
