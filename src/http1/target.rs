//! The request target's form and the syntax of a host (RFC 9112 3.2, RFC 3986 3.2).

use std::net::Ipv6Addr;
use std::str;

use super::fields::Span;
use super::head::{HeadError, Method, Target};

/// Which form `target` (a range of the request line) has; each form belongs to certain methods.
pub(super) fn target_form(line: &[u8], target: Span, method: Method) -> Result<Target, HeadError> {
    let bytes = target.of(line);
    match (method, bytes) {
        (Method::Connect, _) if valid_tunnel(bytes) => Ok(Target::Authority),
        (Method::Connect, _) => Err(HeadError::Malformed("CONNECT without host:port")),
        (_, [b'/', ..]) => Ok(Target::Origin),
        (Method::Options, b"*") => Ok(Target::Asterisk),
        _ => absolute_form(line, bytes),
    }
}

/// RFC 9112 3.2.2, for the schemes we serve.
fn absolute_form(line: &[u8], target: &[u8]) -> Result<Target, HeadError> {
    let (https, rest) = strip_scheme(target).ok_or(HeadError::Malformed("invalid target form"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or_default();
    if !valid_host(authority) {
        return Err(HeadError::Malformed("invalid authority in target"));
    }
    Ok(Target::Absolute {
        https,
        authority: Span::within(line, authority),
        path: Span::within(line, path),
    })
}

fn strip_scheme(target: &[u8]) -> Option<(bool, &[u8])> {
    [(false, b"http://".as_slice()), (true, b"https://")].into_iter().find_map(|(https, scheme)| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some((https, rest))
    })
}

/// `uri-host ":" port` of CONNECT (RFC 9112 3.2.3): there the port must stand.
fn valid_tunnel(authority: &[u8]) -> bool {
    valid_host(authority)
        && authority.last().is_some_and(u8::is_ascii_digit)
        && authority.iter().rposition(|&byte| byte == b':')
            > authority.iter().rposition(|&byte| byte == b']')
}

/// `uri-host [ ":" port ]` (RFC 9110 7.2), neither empty nor with user information.
pub(super) fn valid_host(value: &[u8]) -> bool {
    if let [b'[', rest @ ..] = value {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, port) = rest.split_at_checked(end).unwrap_or_default();
        // `port` starts with the bracket.
        return valid_ipv6(address) && valid_port(port.get(1..).unwrap_or_default());
    }
    let len = name_len(value);
    let (name, port) = value.split_at_checked(len).unwrap_or_default();
    !name.is_empty() && valid_port(port)
}

/// Nothing, or a colon and at most five digits up to 65535.
fn valid_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let add = |number: u32, digit: &u8| {
                digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
            };
            digits.len() <= 5
                && digits.iter().try_fold(0, add).is_some_and(|port| port <= u32::from(u16::MAX))
        }
        _ => false,
    }
}

fn valid_ipv6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Bytes before the first that can't be in a `reg-name` (RFC 3986 3.2.2), which IPv4 addresses are
/// too; no comma, which would make two hosts of one for whoever reads lists.
fn name_len(value: &[u8]) -> usize {
    let mut rest = value;
    loop {
        let plain = rest.iter().position(|&byte| !is_name_byte(byte)).unwrap_or(rest.len());
        rest = rest.get(plain..).unwrap_or_default();
        match rest {
            [b'%', high, low, behind @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest = behind;
            }
            _ => return value.len() - rest.len(),
        }
    }
}

/// `unreserved` and `sub-delims` without the comma.
#[allow(clippy::indexing_slicing, reason = "the table is built by the compiler")]
fn is_name_byte(byte: u8) -> bool {
    // Looked up: this runs for every byte of every Host.
    const NAME_BYTES: [bool; 256] = {
        let mut table = [false; 256];
        let mut names: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\
            -._~!$&'()*+;=";
        while let [byte, rest @ ..] = names {
            table[*byte as usize] = true;
            names = rest;
        }
        table
    };
    NAME_BYTES.get(usize::from(byte)).copied().unwrap_or_default()
}
