//! The rules of the grammar as tables, and what must hold for every input as properties.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod body;
mod fields;
mod lines;
mod properties;
mod receive;
mod request;
mod response;
mod scan;

use super::{
    Field, HeadError, HeadLimits, Method, RequestHead, ResponseHead, Scan, parse_request,
    parse_response,
};

/// Delimits and parses, as the proxy does.
fn request(bytes: &[u8]) -> Result<(RequestHead, Vec<Field>), HeadError> {
    let limits = HeadLimits::default();
    let range = Scan::request().advance(bytes, &limits)?.unwrap_or(0..bytes.len());
    parsed_request(&bytes[range])
}

/// Parses what nobody delimited.
fn parsed_request(head: &[u8]) -> Result<(RequestHead, Vec<Field>), HeadError> {
    let mut fields = Vec::new();
    let parsed = parse_request(head, &HeadLimits::default(), &mut fields)?;
    Ok((parsed, fields))
}

fn response_to(method: Method, bytes: &[u8]) -> Result<(ResponseHead, Vec<Field>), HeadError> {
    let limits = HeadLimits::default();
    let range = Scan::response().advance(bytes, &limits)?.unwrap_or(0..bytes.len());
    parsed_response(method, &bytes[range])
}

fn parsed_response(method: Method, head: &[u8]) -> Result<(ResponseHead, Vec<Field>), HeadError> {
    let mut fields = Vec::new();
    let parsed = parse_response(head, &HeadLimits::default(), method, &mut fields)?;
    Ok((parsed, fields))
}

/// Text of a test case, readable in a failure.
fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
