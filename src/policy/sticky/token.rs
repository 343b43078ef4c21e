//! What a cookie's value says, and its signature.
//!
//! | bytes | insert | rewrite |
//! |---|---|---|
//! | 1 | number of the key | the same |
//! | 8 | backend, by keyed hash of its name | the same |
//! | 4 | tag | tag |
//! | 4 | first request | - |
//! | 4 | last request | - |
//! | 15 / 11 | signature | signature |
//!
//! Both in URL-safe base64: 48 and 32 characters, whatever they say. Nothing of
//! the network can be read in it. The signature is BLAKE3's keyed hash, which is
//! made for that (BLAKE3 paper, 2.3 and 7.6) and costs a tenth of HMAC-SHA256's
//! instructions where the processor has none for SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::keys::{GroupKey, GroupKeys};
use super::{Bound, Reject, Seconds};

/// Length of an inserted cookie's value.
pub const INSERT_LEN: usize = 48;
/// Length of what stands before the application's value, with its `~`.
pub const PREFIX_LEN: usize = MARK.len() + REWRITE_TEXT + 1;

/// What a rewrite token begins with, so that an application's own value is not
/// taken for one.
const MARK: &[u8] = b"lg-";
const REWRITE_TEXT: usize = 32;

const INSERT_SAID: usize = 21;
const INSERT_BYTES: usize = 36;
const REWRITE_SAID: usize = 13;
const REWRITE_BYTES: usize = 24;

/// The value of an inserted cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsertToken([u8; INSERT_LEN]);

impl InsertToken {
    /// Signs a binding. `None` without a key, or where the group has no such
    /// backend.
    #[must_use]
    pub fn sign(keys: &GroupKeys, bound: Bound, now: Seconds) -> Option<InsertToken> {
        let key = keys.signing(now)?;
        let said = said(key, &bound)?;
        let mut bytes = [0; INSERT_BYTES];
        let (first, last) = (bound.first.to_le_bytes(), bound.last.to_le_bytes());
        fill(&mut bytes, [&said[..], &first, &last]);
        seal::<INSERT_SAID, INSERT_BYTES>(key, &mut bytes);
        let mut text = [0; INSERT_LEN];
        URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).ok()?;
        Some(InsertToken(text))
    }

    /// Reads a value. How old it is is not looked at.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn verify(keys: &GroupKeys, value: &[u8], now: Seconds) -> Result<Bound, Reject> {
        if value.len() != INSERT_LEN {
            return Err(Reject::Shape);
        }
        let mut bytes = [0; INSERT_BYTES];
        let decoded = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes);
        if decoded != Ok(INSERT_BYTES) {
            return Err(Reject::Shape);
        }
        let key = open::<INSERT_SAID, INSERT_BYTES>(keys, &bytes, now)?;
        let (backend, tag) = read_said(key, &bytes);
        let first = Seconds::from_le_bytes(part(&bytes, 13));
        let last = Seconds::from_le_bytes(part(&bytes, 17));
        Ok(Bound { backend, first, last, tag })
    }

    /// The value's bytes: letters, digits, `-` and `_`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What is put before the value of the application's cookie, its `~` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewriteToken([u8; PREFIX_LEN]);

impl RewriteToken {
    /// Signs a binding to the backend at `place`; see [`InsertToken::sign`].
    #[must_use]
    pub fn sign(keys: &GroupKeys, place: usize, tag: u32, now: Seconds) -> Option<RewriteToken> {
        let key = keys.signing(now)?;
        let bound = Bound { backend: Some(place), first: 0, last: 0, tag };
        let mut bytes = [0; REWRITE_BYTES];
        fill(&mut bytes, [&said(key, &bound)?[..], &[], &[]]);
        seal::<REWRITE_SAID, REWRITE_BYTES>(key, &mut bytes);
        let mut token = [b'~'; PREFIX_LEN];
        let (mark, rest) = token.split_at_mut_checked(MARK.len())?;
        mark.copy_from_slice(MARK);
        URL_SAFE_NO_PAD.encode_slice(bytes, rest).ok()?;
        Some(RewriteToken(token))
    }

    /// Reads a token that [`split_rewritten`] found. A binding of this mode has
    /// no times: the application owns its cookie's life.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn verify(keys: &GroupKeys, token: &[u8], now: Seconds) -> Result<Bound, Reject> {
        let text = token.get(MARK.len()..MARK.len() + REWRITE_TEXT).ok_or(Reject::Shape)?;
        let mut bytes = [0; REWRITE_BYTES];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if decoded != Ok(REWRITE_BYTES) {
            return Err(Reject::Shape);
        }
        let key = open::<REWRITE_SAID, REWRITE_BYTES>(keys, &bytes, now)?;
        let (backend, tag) = read_said(key, &bytes);
        Ok(Bound { backend, first: now, last: now, tag })
    }

    /// The token's bytes: letters, digits, `-`, `_`, and `~` at the end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The token at the beginning of a cookie's value and the application's own
/// behind it, by its shape alone: what has it was given out by some lockgate.
#[must_use]
pub fn split_rewritten(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (token, own) = value.split_at_checked(PREFIX_LEN)?;
    let text = token.strip_prefix(MARK)?.strip_suffix(b"~")?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.iter().all(fits).then_some((token, own))
}

/// What both modes say.
fn said(key: &GroupKey, bound: &Bound) -> Option<[u8; REWRITE_SAID]> {
    let mut said = [0; REWRITE_SAID];
    let name = key.name(bound.backend?)?.to_le_bytes();
    fill(&mut said, [&[key.id][..], &name, &bound.tag.to_le_bytes()]);
    Some(said)
}

fn read_said(key: &GroupKey, bytes: &[u8]) -> (Option<usize>, u32) {
    (key.place(u64::from_le_bytes(part(bytes, 1))), u32::from_le_bytes(part(bytes, 9)))
}

/// Signs the first `SAID` bytes into the rest.
fn seal<const SAID: usize, const ALL: usize>(key: &GroupKey, bytes: &mut [u8; ALL]) {
    let (said, signature) = bytes.split_at_mut(SAID);
    let hash = blake3::keyed_hash(&key.key, said);
    for (to, from) in signature.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
}

/// The key that signed this.
fn open<'a, const SAID: usize, const ALL: usize>(
    keys: &'a GroupKeys,
    bytes: &[u8; ALL],
    now: Seconds,
) -> Result<&'a GroupKey, Reject> {
    let (said, signature) = bytes.split_at(SAID);
    let [id, ..] = *said else { return Err(Reject::Shape) };
    let mut known = false;
    for key in keys.verifying(id, now) {
        known = true;
        let hash = blake3::keyed_hash(&key.key, said);
        // All bytes are compared, whatever the first ones say: how long it takes
        // must not tell a forger how far he got.
        let differ = hash.as_bytes().iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        if differ == 0 {
            return Ok(key);
        }
    }
    Err(if known { Reject::Forged } else { Reject::UnknownKey })
}

/// Writes the parts one after the other.
fn fill(bytes: &mut [u8], parts: [&[u8]; 3]) {
    let all = parts.into_iter().flatten();
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = *from;
    }
}

/// The `N` bytes at this offset.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    if let Some(from) = bytes.get(at..at + N) {
        part.copy_from_slice(from);
    }
    part
}
