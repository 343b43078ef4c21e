//! A URL as a person writes it, and the request a client makes of it.

use std::fmt;
use std::net::Ipv4Addr;

use super::host::HostName;

/// What a URL asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Over TLS.
    pub https: bool,
    /// The host as routing compares it.
    pub host: HostName,
    /// The port, the scheme's own where the URL has none.
    pub port: u16,
    /// The path with its query, as a client sends it.
    pub target: String,
}

impl Url {
    /// Reads `https://HOST[:PORT][/PATH][?QUERY]`. What a request cannot carry is
    /// escaped, as browsers do; what stands behind a `#` is never sent.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if text.chars().any(char::is_control) {
            return Err(UrlError::Control);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(UrlError::Scheme) };
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or_default();
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        if !authority.is_ascii() {
            return Err(UrlError::NotAscii);
        }
        let host = HostName::parse(authority.as_bytes()).ok_or(UrlError::Host)?;
        let port = port_of(authority).unwrap_or_default();
        let port = match (port, https) {
            ("", true) => 443,
            ("", false) => 80,
            (port, _) => port.parse().ok().filter(|port| *port > 0).ok_or(UrlError::Host)?,
        };
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url { https, host, port, target: format!("{slash}{}", escaped(path)) })
    }

    /// What `Host` says: a port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.https { 443 } else { 80 };
        match self.port == own {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The name a client asks for in its TLS handshake: it asks for none where
    /// the host is an address (RFC 6066 3).
    #[must_use]
    pub fn tls_name(&self) -> Option<&HostName> {
        let name = self.host.as_str();
        let is_address = name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok();
        (self.https && !is_address).then_some(&self.host)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

/// What stands behind the colon of an authority.
fn port_of(authority: &str) -> Option<&str> {
    let behind = authority.rfind(']').map_or(0, |at| at + 1);
    authority.get(behind..)?.split_once(':').map(|(_, port)| port)
}

/// What a request target cannot carry, escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' => out.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Why a text is no [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// A control character.
    Control,
    /// It begins with neither `https://` nor `http://`.
    Scheme,
    /// `user@` before the host.
    User,
    /// A host that is not in punycode.
    NotAscii,
    /// No host, or none there can be, or such a port.
    Host,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Control => "a URL has no control characters",
            UrlError::Scheme => "a URL begins with `https://` or `http://`",
            UrlError::User => "clients send no `user@` of a URL: leave it out",
            UrlError::NotAscii => "a domain outside ASCII is given in punycode, as `xn--…`",
            UrlError::Host => "its host or port is none, as in `https://youxia.com:8030/`",
        })
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u16, Option<String>) {
        let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let name = url.tls_name().map(ToString::to_string);
        (url.to_string(), url.port, name)
    }

    #[test]
    fn a_url_is_what_a_client_makes_of_it() {
        let name = |name: &str| Some(name.to_owned());
        for (text, said, port, tls) in [
            ("https://youxia.com", "https://youxia.com/", 443, name("youxia.com")),
            ("HTTPS://YouXia.com:443/a", "https://youxia.com/a", 443, name("youxia.com")),
            ("https://a.b:8030/x?y#z", "https://a.b:8030/x?y", 8030, name("a.b")),
            ("http://a.b?q", "http://a.b/?q", 80, None),
            ("http://a.b:/", "http://a.b/", 80, None),
            ("https://a.b./", "https://a.b/", 443, name("a.b")),
            ("https://[::1]:8030/", "https://[::1]:8030/", 8030, None),
            ("https://10.0.0.1/", "https://10.0.0.1/", 443, None),
            ("https://a.b/游 <x>", "https://a.b/%E6%B8%B8%20%3Cx%3E", 443, name("a.b")),
            ("https://a.b/%2e%2E/", "https://a.b/%2e%2E/", 443, name("a.b")),
        ] {
            assert_eq!(read(text), (said.to_owned(), port, tls), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_told_why() {
        for (text, why) in [
            ("youxia.com", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("ftp://a.b/", UrlError::Scheme),
            ("https:/a.b/", UrlError::Scheme),
            ("https://", UrlError::Host),
            ("https:///x", UrlError::Host),
            ("https://a.b:0/", UrlError::Host),
            ("https://a.b:65536/", UrlError::Host),
            ("https://a.b:x/", UrlError::Host),
            ("https://a..b/", UrlError::Host),
            ("https://[::1/", UrlError::Host),
            ("https://u@a.b/", UrlError::User),
            ("https://游侠.com/", UrlError::NotAscii),
            ("https://a.b/\u{1b}[31m", UrlError::Control),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text}");
        }
    }
}
