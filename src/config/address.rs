//! Where a backend is: `IP:PORT` or `HOST:PORT`. And the hosts in them, which
//! `server_name` names too.

use std::net::{IpAddr, SocketAddr};

use super::diagnostic::shown;
use super::model::BackendAddress;
use super::table::Item;
use crate::policy::route::{Domain, DomainError};

/// Reads a backend's address.
pub(super) fn address(item: &Item<'_>) -> Option<BackendAddress> {
    let text = item.string()?;
    let address = match text.parse() {
        Ok(socket) => BackendAddress::Ip(socket),
        Err(_) => match named(text) {
            Ok(address) => address,
            Err((problem, hint)) => {
                item.error(format!("backend {}{problem}", shown(text)), hint);
                return None;
            }
        },
    };
    let ip = address.socket().map(|socket| socket.ip());
    let problem = if address.port() == 0 {
        "port 0 is no port to connect to"
    } else if ip.is_some_and(|ip| ip.is_unspecified()) {
        "this address means all of a machine's own"
    } else if ip.is_some_and(|ip| ip.is_multicast()) {
        "a multicast address takes no connections"
    } else {
        return Some(address);
    };
    let hint = "write the address and port the backend listens on, such as `\"127.0.0.1:9030\"`";
    item.error(format!("backend {}: {problem}", shown(text)), hint);
    None
}

/// `HOST:PORT`. Else which part of it is wrong, and what to write.
fn named(text: &str) -> Result<BackendAddress, (String, String)> {
    let fault = |problem: &str, hint: String| Err((format!(" {problem}"), hint));
    if let Some((scheme, _)) = text.split_once("://") {
        let tls = if scheme == "https" { ", and `protocol = \"https\"` in the group" } else { "" };
        let hint = format!("write `\"HOST:PORT\"`, such as `\"10.0.0.21:9030\"`{tls}");
        return fault("is a URL, not an address", hint);
    }
    if let Some(ip) = ip(text) {
        let hint = match ip {
            IpAddr::V4(ip) => format!("write `\"{ip}:PORT\"`"),
            IpAddr::V6(ip) => format!("write `\"[{ip}]:PORT\"`"),
        };
        return fault("has no port", hint);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let host = match ip(host) {
        Some(ip) => Host::Ip(ip),
        None => Host::parse(host).map_err(|problem| {
            let hint = "write such as `\"10.0.0.21:9030\"` or `\"web.internal:9030\"`";
            (format!(": {problem}"), hint.to_owned())
        })?,
    };
    let Some(port) = port else {
        return fault("has no port", format!("write {}", shown(&format!("\"{text}:PORT\""))));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let Some(port_number) = port.parse::<u16>().ok().filter(|_| digits) else {
        let hint = format!("write a port from 1 to 65535, not {}", shown(port));
        return fault("has no valid port", hint);
    };
    match host {
        Host::Name(host) => Ok(BackendAddress::Name { host: host.into(), port: port_number }),
        // Brackets around IPv4, or but one of them: told, not mended.
        Host::Ip(ip) => {
            let meant = SocketAddr::new(ip, port_number);
            fault("is not `IP:PORT`", format!("write `\"{meant}\"`"))
        }
    }
}

fn ip(text: &str) -> Option<IpAddr> {
    text.trim_matches(['[', ']']).parse().ok()
}

/// A host as DNS and certificates have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A name: lower case, without a dot at its end, none that could be taken
    /// for an address.
    Name(Box<str>),
}

impl Host {
    /// Reads a host; the names are those that listeners may have, but for
    /// wildcards. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Host, String> {
        match Domain::parse(text) {
            Ok(Domain::Exact(name)) => Ok(ip(&name).map_or(Host::Name(name), Host::Ip)),
            Ok(Domain::Wildcard(_))
            | Err(DomainError::OnlyWildcard | DomainError::WildcardPlace) => {
                Err("one host is meant here, so there is no `*`".to_owned())
            }
            Err(DomainError::Empty) => Err("there is no host".to_owned()),
            Err(DomainError::Scheme | DomainError::Path) => Err("a host has no `/`".to_owned()),
            Err(DomainError::Port) => Err("a host has no port".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_lower_case_and_has_no_dot_at_its_end() {
        for (text, shown) in [
            ("web:80", "web:80"),
            ("Web.Internal.:9030", "web.internal:9030"),
            ("game_1.xn--55qx5d:65535", "game_1.xn--55qx5d:65535"),
            ("0x7f.a:1", "0x7f.a:1"),
        ] {
            let address = named(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!((address.socket(), address.to_string()), (None, shown.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        let says = |text: &str| named(text).unwrap_err();
        for (text, problem) in [
            ("", ": there is no host"),
            (":80", ": there is no host"),
            ("web", " has no port"),
            ("web:", " has no valid port"),
            ("web:+80", " has no valid port"),
            ("web:65536", " has no valid port"),
            ("web:80:80", ": a host has no port"),
            ("*.web:80", ": one host is meant here, so there is no `*`"),
            ("*:80", ": one host is meant here, so there is no `*`"),
            ("web/a:80", ": a host has no `/`"),
            ("游戏:80", ": a domain outside ASCII is given in punycode, as `xn--…`"),
            ("a..b:80", ": a domain has something between its dots"),
            ("1.2.3:80", ": this looks like an IP address, but it is none"),
            ("010.0.0.1:80", ": this looks like an IP address, but it is none"),
            ("8080:80", ": this looks like an IP address, but it is none"),
            ("[fd00::g]:80", ": this looks like an IP address, but it is none"),
            ("10.0.0.1.:80", " is not `IP:PORT`"),
            ("[10.0.0.1]:80", " is not `IP:PORT`"),
            ("http://web:80", " is a URL, not an address"),
        ] {
            assert_eq!(says(text).0, problem, "{text}");
        }
        assert_eq!(says("10.0.0.1.:80").1, "write `\"10.0.0.1:80\"`");
        assert_eq!(says("fd00::1]:80").1, "write `\"[fd00::1]:80\"`");
        assert!(says("https://web:80").1.ends_with("and `protocol = \"https\"` in the group"));
    }

    proptest! {
        /// So a backend that is reached by TLS always has a name to ask for.
        #[test]
        fn a_backend_has_a_name_for_tls(text in "[a-zA-Z0-9._\\-]{1,12}:[0-9]{1,5}|[0-9.:\\[\\]a-f]{1,20}") {
            if let Ok(address) = text.parse().map(BackendAddress::Ip).or_else(|_| named(&text)) {
                prop_assert!(address.server_name().is_some(), "{}", text);
            }
        }

        #[test]
        fn what_is_shown_reads_the_same(text in "[a-zA-Z0-9._\\-]{1,12}:[0-9]{1,5}") {
            if let Ok(address) = named(&text) {
                prop_assert_eq!(named(&address.to_string()), Ok(address));
            }
        }
    }
}
