//! Certificates as a drop-in names them: its own with their keys, and the
//! authorities that others' must chain to. For listeners and for groups.

use std::ops::Range;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use toml::de::DeValue;

use super::certificate::{CertificateError, Certificates};
use super::diagnostic::shown;
use super::drop_in::DropIn;
use super::keys::Keys;
use super::model::{Game, Listener};
use super::notes::Notes;
use super::table::Item;
use super::validity::validity;

/// A certificate with its key: a name in `certs/`, or the two files.
pub(super) fn pair(
    item: &Item<'_>,
    keys: &'static Keys,
    certificates: &Certificates,
) -> Option<Arc<CertifiedKey>> {
    let told = |faults: Vec<CertificateError>| tell(item.notes, &item.span(), &faults);
    let key = item.name;
    if let DeValue::Table(_) = item.value.get_ref() {
        let files = item.table(keys)?;
        let hint = format!("write `{key} = {{ chain = \"FILE\", key = \"FILE\" }}`");
        let chain = files.require("chain", &hint).and_then(|item| item.string());
        let key = files.require("key", &hint).and_then(|item| item.string());
        return certificates.files(chain?, key?).map_err(told).ok();
    }
    let DeValue::String(name) = item.value.get_ref() else {
        return item.wrong_type("a name or a table", format!("write `{key} = \"youxia.com\"`"));
    };
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let hint = "write the NAME of `certs/NAME.crt`, or `{ chain = \"FILE\", key = \"FILE\" }`";
        item.error(format!("`{key}`: {} is not a name in `certs/`", shown(name)), hint);
        return None;
    }
    let name = name.strip_suffix(".crt").unwrap_or(name);
    certificates.named(name).map_err(told).ok()
}

/// The authorities in a PEM file.
pub(super) fn authorities(
    item: &Item<'_>,
    certificates: &Certificates,
) -> Option<Arc<RootCertStore>> {
    let read = certificates.authorities(item.string()?);
    let told = |fault: CertificateError| {
        item.error(format!("`{}`: {fault}", item.name), fault.hint());
    };
    read.map_err(told).ok()
}

pub(super) fn tell(notes: &Notes, span: &Range<usize>, faults: &[CertificateError]) {
    for fault in faults {
        notes.error(span, fault.to_string(), fault.hint());
    }
}

/// The last moment at which a certificate is valid; `None` when it cannot be
/// read.
#[must_use]
pub fn certificate_end(certificate: &CertifiedKey) -> Option<OffsetDateTime> {
    let (_, until) = validity(certificate.end_entity_cert().ok()?)?;
    Some(until)
}

/// What is wrong with a certificate's dates today. It may still be used, since
/// no certificate is worse.
pub(super) fn problem_of_dates(certificate: &CertifiedKey) -> Option<String> {
    let (from, until) = certificate.end_entity_cert().ok().and_then(|der| validity(der))?;
    let now = OffsetDateTime::now_utc();
    if now > until {
        Some(format!("expired on {}", until.date()))
    } else if now < from {
        Some(format!("is not valid before {}", from.date()))
    } else {
        None
    }
}

/// Until when a listener's certificate is valid.
fn valid_until(listener: &Listener) -> Option<OffsetDateTime> {
    let certificate = &listener.tls.as_ref()?.certificate;
    Some(certificate.end_entity_cert().ok().and_then(|der| validity(der))?.1)
}

/// An expired certificate is better than none, but not than a valid one: notes
/// where a new version of a game would take that away.
pub(super) fn check_replacement(drop_in: &DropIn, before: &Game) {
    let now = OffsetDateTime::now_utc();
    for (listener, claims) in drop_in.game.listeners.iter().zip(&drop_in.claims) {
        if valid_until(listener).is_none_or(|until| now <= until) {
            continue;
        }
        let same = |other: &&Arc<Listener>| {
            let port = other.ports.iter().any(|port| listener.ports.contains(port));
            let domain = other.domains.iter().any(|domain| listener.domains.contains(domain));
            port && (domain || listener.default && other.default)
        };
        let untils = before.listeners.iter().filter(same).filter_map(|other| valid_until(other));
        if let Some(until) = untils.max().filter(|until| now <= *until) {
            drop_in.notes.error(
                &claims.certificate_span,
                format!("this would replace a certificate that is valid until {}", until.date()),
                "put the valid certificate back, or a renewed one in its place",
            );
        }
    }
}
