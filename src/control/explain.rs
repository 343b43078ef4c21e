//! `lockgate explain`: asks the running process, or what the files would make
//! of one, what would become of a request; `proxy/explain.rs` knows.

mod text;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::admin_state::AdminStates;
use super::asker::Asker;
use super::{client, last_good, secret};
use crate::config::{self, Diagnostic, Directory, plain, plain_json};
use crate::policy::headers::{is_field_name, is_field_value};
use crate::policy::route::Url;
use crate::policy::sticky::{KeyRing, Secret};
use crate::proxy::document::Explanation;
use crate::proxy::{self, Ask, Shared};
use crate::state::{Live, Snapshot};

/// Where the admin socket takes questions.
pub(super) const TARGET: &str = "/explain";
/// Bytes of the longest question.
pub(super) const LONGEST: usize = 1 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question(Ask);

impl Question {
    /// From what was written: a URL; the client's cookies, its address, the
    /// method; fields as `NAME: VALUE`.
    ///
    /// # Errors
    /// What of it is none, and why.
    pub fn parse(
        url: &str,
        [cookie, client_ip, method]: [Option<&str>; 3],
        headers: &[String],
    ) -> Result<Question, String> {
        let wrong = |text: &str, why: &dyn fmt::Display| format!("`{}`: {why}", plain(text));
        Url::parse(url).map_err(|error| wrong(url, &error))?;
        if let Some(cookie) = cookie.filter(|cookie| !is_field_value(cookie)) {
            return Err(wrong(cookie, &"a `Cookie` field cannot say this"));
        }
        let is_method = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
        if let Some(method) = method.filter(|one| one.is_empty() || !one.bytes().all(is_method)) {
            return Err(wrong(method, &"this is no method, as GET and POST are"));
        }
        let client_ip = client_ip.map(|text| text.parse().map_err(|error| wrong(text, &error)));
        let field = |text: &String| {
            let (name, value) = text.split_once(':')?;
            let value = value.trim_matches([' ', '\t']);
            let is_field = is_field_name(name) && is_field_value(value);
            is_field.then(|| (name.to_owned(), value.to_owned()))
        };
        let fields = headers.iter().map(|text| {
            field(text).ok_or_else(|| wrong(text, &"this is no field, as `Name: value` is"))
        });
        Ok(Question(Ask {
            url: url.to_owned(),
            method: method.map(str::to_owned),
            cookie: cookie.map(str::to_owned),
            client_ip: client_ip.transpose()?,
            headers: fields.collect::<Result<_, _>>()?,
        }))
    }
}

/// Asks the running process.
///
/// # Errors
/// Nobody runs, or it does not answer; what to do about it.
pub fn running(state_dir: &Path, question: &Question) -> Result<Explanation, String> {
    let body = serde_json::to_vec(&question.0).map_err(|error| error.to_string())?;
    let answer = client::send(state_dir, "POST", TARGET, &body)
        .map_err(|why| format!("{why}; `--offline` asks the files"))?;
    serde_json::from_slice(&answer)
        .map_err(|error| format!("the running lockgate is of another version: {error}"))
}

/// Asks what a start would make of the files; with what is wrong with them.
/// Nothing is bound, written or remembered.
///
/// # Errors
/// Nothing could be served.
pub fn offline(
    config_dir: &Path,
    state_dir: &Path,
    question: &Question,
) -> (Vec<Diagnostic>, Result<Explanation, String>) {
    let mut directory = Directory::new(config_dir, last_good::load_all(state_dir));
    let reading = directory.read(config::Ask::default());
    let told = reading.all_diagnostics().cloned().collect();
    let Some(config) = reading.config else {
        return (told, Err("nothing can be served: correct what is said above".to_owned()));
    };
    let (secrets, without) = match &config.process.secrets {
        Some(secrets) => (secrets.clone(), None),
        None => kept_secrets(state_dir),
    };
    let (snapshot, errors) = Snapshot::build(config, secrets, None);
    let (states, problem) = AdminStates::read(state_dir);
    states.apply(&snapshot);
    let shared = Arc::new(Shared {
        access: Arc::default(),
        live: Live::new(snapshot),
        connections: AtomicUsize::new(0),
        doors: Default::default(),
        tunnels: AtomicUsize::new(0),
        max_connections: 0,
        workers: 0,
    });
    let explained = proxy::explain(&shared, &question.0, true).map_err(|error| error.to_string());
    let explained = explained.map(|found| {
        let has_cookie = found.sticky.as_ref().is_some_and(|sticky| sticky.verdict != "absent");
        let without = without.filter(|_| has_cookie);
        let said = errors.iter().map(ToString::to_string).chain(without);
        let notes = said.chain(problem).chain(of_operator(&states, &found)).collect();
        Explanation { notes, ..found }
    });
    (told, explained)
}

/// Where the states come from that are not the drop-in's.
fn of_operator(states: &AdminStates, found: &Explanation) -> Option<String> {
    let (game, group) = (&found.listener.as_ref()?.game, &found.group.as_ref()?.name);
    states.has(game, group).then(|| {
        let file = states.file().display();
        format!("what the operator says of backends is from `{file}`")
    })
}

/// The secret of the state directory; where there is none that can be read, one
/// that signed no client's cookie, and a word about that.
fn kept_secrets(state_dir: &Path) -> (KeyRing, Option<String>) {
    let without = match secret::load(state_dir) {
        Ok(Some(secrets)) => return (secrets, None),
        Ok(None) => "there is no secret yet: no cookie can be good".to_owned(),
        Err(why) => format!("no cookie can be judged: {why}"),
    };
    let material = b"signs what nobody is given".to_vec();
    (KeyRing::new(vec![Secret { material, signs_from: 0, retired: None }]), Some(without))
}

/// What the running process answers to a question on its admin socket.
pub(super) fn answer(asker: &Asker, question: &[u8]) -> Result<Vec<u8>, String> {
    let ask: Ask = serde_json::from_slice(question).map_err(|error| error.to_string())?;
    let explained =
        proxy::explain(asker.shared(), &ask, false).map_err(|error| error.to_string())?;
    serde_json::to_vec(&explained).map_err(|error| error.to_string())
}

/// For programs. What a terminal would act on is escaped, as JSON can.
#[must_use]
pub fn to_json(explanation: &Explanation) -> String {
    plain_json(&serde_json::to_string_pretty(explanation).unwrap_or_default())
}

/// For people.
#[must_use]
pub fn to_text(explanation: &Explanation) -> String {
    text::page(explanation)
}

#[cfg(test)]
mod tests;
