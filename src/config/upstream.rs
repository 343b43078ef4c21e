//! How a group's backends are spoken to: `protocol` and `tls`.

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::address::Host;
use super::certificate::{Certificates, system_authorities};
use super::credential::{authorities, pair, problem_of_dates};
use super::diagnostic::shown;
use super::keys;
use super::model::{Upstream, UpstreamTls};
use super::settings::unknown_name;
use super::table::{Item, Table};

/// Reads `protocol` and `tls` of a group.
pub(super) fn read(group: &Table<'_>, certificates: &Certificates) -> Upstream {
    let without_tls = match group.get("protocol") {
        // What cannot be read may have been meant to be `https`.
        None if group.has_any(&["protocol"]) => None,
        None => Some(Upstream::Http),
        Some(item) => match item.string() {
            Some("http") => Some(Upstream::Http),
            Some("h2c") => Some(Upstream::H2c),
            Some("https") | None => None,
            Some(other) => {
                unknown_name(&item, other, &["http", "https", "h2c"]);
                None
            }
        },
    };
    let tls = group.get("tls");
    let Some(without_tls) = without_tls else {
        let names_some = tls.as_ref().is_some_and(names_authorities);
        let tls = tls.and_then(|item| read_tls(&item, certificates)).unwrap_or_default();
        if tls.verify
            && !names_some
            && let Err(why) = system_authorities()
            && let Some(item) = group.get("protocol")
        {
            item.error(why, "install them, or name a file as `ca` in the group's `tls`");
        }
        return Upstream::Https(tls);
    };
    if let Some(tls) = tls {
        let hint = "write `protocol = \"https\"` beside it, or remove `tls`";
        tls.misplaced("`tls` is used only with `protocol = \"https\"`", hint);
    }
    without_tls
}

/// Whether they are good is not asked.
fn names_authorities(tls: &Item<'_>) -> bool {
    matches!(tls.value.get_ref(), DeValue::Table(table) if table.contains_key("ca"))
}

fn read_tls(item: &Item<'_>, certificates: &Certificates) -> Option<UpstreamTls> {
    let table = item.table(&keys::UPSTREAM_TLS)?;
    let roots = table.get("ca").and_then(|item| authorities(&item, certificates));
    let server_name = table.get("server_name").and_then(|item| server_name(&item));
    let client = table.get("client_certificate").and_then(|item| {
        let client = pair(&item, &keys::CLIENT_CERTIFICATE, certificates)?;
        if let Some(problem) = problem_of_dates(&client) {
            let hint = "backends will refuse it: put a renewed one in its place";
            item.notes.warning(&item.span(), format!("`{}` {problem}", item.name), hint);
        }
        Some(client)
    });
    let verify = table.get("verify").and_then(|item| verify(&item)).unwrap_or(true);
    Some(UpstreamTls { roots, server_name, client, verify })
}

fn verify(item: &Item<'_>) -> Option<bool> {
    let verify = item.boolean()?;
    if !verify {
        item.notes.warning(
            &item.span(),
            "the backends' certificates are not checked: whoever answers in their place is believed",
            "name the authority that signed them as `ca`, and remove `verify`",
        );
    }
    Some(verify)
}

fn server_name(item: &Item<'_>) -> Option<ServerName<'static>> {
    let text = item.string()?;
    let parsed = Host::parse(text).and_then(|host| match host {
        Host::Ip(ip) => Ok(ip.into()),
        Host::Name(name) => {
            ServerName::try_from(name.into_string()).map_err(|error| error.to_string())
        }
    });
    let told = |problem: String| {
        let hint = "write the name in the backends' certificate, such as `\"web.internal\"`, or an IP address";
        item.error(format!("`server_name` {}: {problem}", shown(text)), hint);
    };
    parsed.map_err(told).ok()
}
