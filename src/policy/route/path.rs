//! Paths, and the rule that takes one.

use std::fmt;

/// Rules by path prefix; the longest prefix wins (SEMANTICS RT-08).
///
/// A prefix is a plain string, not a row of segments: `/admin` takes
/// `/administrator` (RT-10). Rules and paths are both compared in the form
/// [`normalize_path`] gives.
///
/// One binary search finds the last rule that sorts at or before the path.
/// Every rule that is a prefix of the path is also a prefix of that one, so
/// the way from rule to parent passes the answer.
#[derive(Clone)]
pub struct PathTable<T> {
    /// Sorted by prefix, no two alike.
    rules: Box<[Rule<T>]>,
}

#[derive(Clone)]
struct Rule<T> {
    prefix: Box<[u8]>,
    /// Place of the longest other rule that is a prefix of this one.
    parent: Option<usize>,
    value: T,
}

impl<T> PathTable<T> {
    /// Builds the table, or tells the place in `rules` of one whose prefix
    /// already stood before it.
    pub fn build(rules: Vec<(Vec<u8>, T)>) -> Result<Self, usize> {
        let mut sorted: Vec<(usize, (Vec<u8>, T))> = rules.into_iter().enumerate().collect();
        // Stable, so that of two alike the later one is to blame.
        sorted.sort_by(|(_, (a, _)), (_, (b, _))| a.cmp(b));

        let mut rules: Vec<Rule<T>> = Vec::with_capacity(sorted.len());
        // The rules that are prefixes of the last one, shortest first, and
        // that one itself.
        let mut open: Vec<usize> = Vec::new();
        for (given, (prefix, value)) in sorted {
            let is_open = |place: &usize| {
                let rule = rules.get(*place);
                rule.is_some_and(|rule| prefix.starts_with(&rule.prefix))
            };
            while open.last().is_some_and(|place| !is_open(place)) {
                open.pop();
            }
            let parent = open.last().copied();
            let above = parent.and_then(|place| rules.get(place));
            if above.is_some_and(|above| *above.prefix == *prefix) {
                return Err(given);
            }
            open.push(rules.len());
            let prefix = prefix.into();
            rules.push(Rule { prefix, parent, value });
        }
        Ok(Self { rules: rules.into() })
    }

    /// The rule with the longest prefix of `path`.
    pub fn find(&self, path: &[u8]) -> Option<&T> {
        let after = self.rules.partition_point(|rule| *rule.prefix <= *path);
        let mut rule = self.rules.get(after.checked_sub(1)?)?;
        let same = |(a, b): &(&u8, &u8)| a == b;
        let common = rule.prefix.iter().zip(path).take_while(same).count();
        // The parents are prefixes of the rule: length alone tells.
        while rule.prefix.len() > common {
            rule = self.rules.get(rule.parent?)?;
        }
        Some(&rule.value)
    }

    /// Prefixes and values, in the order of the prefixes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.rules.iter().map(|rule| (&*rule.prefix, &rule.value))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl<T: fmt::Debug> fmt::Debug for PathTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (prefix, value) in self.iter() {
            map.entry(&format_args!("{}", prefix.escape_ascii()), value);
        }
        map.finish()
    }
}

/// Why a request path cannot be routed. All of them are a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// More `..` than there are segments before them.
    ClimbsAboveRoot,
    /// A `%` without two hexadecimal digits after it.
    BadEscape,
    /// It does not start with `/`.
    NotAbsolute,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::ClimbsAboveRoot => "the path climbs above the root",
            PathError::BadEscape => "a `%` in the path is not followed by two hexadecimal digits",
            PathError::NotAbsolute => "the path does not start with `/`",
        })
    }
}

impl std::error::Error for PathError {}

/// The copy of a request path that rules are matched on.
///
/// From `?` on it is dropped (SEMANTICS RT-14). Escaped unreserved characters
/// are decoded, other escapes stay and get upper-case digits, so `%2F` never
/// becomes a separator. Then slashes are merged and, of what that leaves, dot
/// segments removed (RFC 3986 5.2.4), also where they were escaped. Merging
/// comes first, as in nginx: `/a//../b` is `/b`, and `//../b` climbs.
///
/// A path where nothing has to change is given back as it is, after one scan;
/// else `scratch` is overwritten and holds the copy.
pub fn normalize_path<'a>(
    path_and_query: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], PathError> {
    if path_and_query.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let mut end = path_and_query.len();
    for at in memchr::memchr3_iter(b'/', b'%', b'?', path_and_query) {
        let rest = path_and_query.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'?') {
            end = at;
            break;
        }
        if must_change(rest) {
            let path = path_and_query.split(|&byte| byte == b'?').next();
            rewrite(path.unwrap_or_default(), scratch)?;
            return Ok(scratch);
        }
    }
    Ok(path_and_query.get(..end).unwrap_or_default())
}

/// Whether the slash or escape at the start of `rest` keeps the path from
/// being its own normal form.
fn must_change(rest: &[u8]) -> bool {
    match rest {
        [b'/', after @ ..] => {
            let dots = after.strip_prefix(b"..").or(after.strip_prefix(b"."));
            matches!(after, [b'/', ..]) || matches!(dots, Some([] | [b'/' | b'?', ..]))
        }
        [b'%', high, low, ..] => match unhex(*high, *low) {
            Some(byte) => {
                is_unreserved(byte) || high.is_ascii_lowercase() || low.is_ascii_lowercase()
            }
            None => true,
        },
        _ => true,
    }
}

/// Writes the normal form of `path`, which starts with a slash and has no
/// query, into `out`.
fn rewrite(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    out.reserve(path.len());
    out.push(b'/');
    // Where the segment being written starts: just after a slash.
    let mut segment = 1;
    let mut rest = path.get(1..).unwrap_or_default();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'/' => segment = end_segment(out, segment, true)?,
            b'%' => {
                let [high, low, tail @ ..] = rest else {
                    return Err(PathError::BadEscape);
                };
                rest = tail;
                match unhex(*high, *low) {
                    Some(byte) if is_unreserved(byte) => out.push(byte),
                    Some(_) => {
                        let digits = [high.to_ascii_uppercase(), low.to_ascii_uppercase()];
                        out.push(b'%');
                        out.extend_from_slice(&digits);
                    }
                    None => return Err(PathError::BadEscape),
                }
            }
            &byte => out.push(byte),
        }
    }
    end_segment(out, segment, false)?;
    Ok(())
}

/// Closes the segment that starts at `segment`, with a slash if one follows
/// in the path. Gives back where the next one starts.
fn end_segment(out: &mut Vec<u8>, segment: usize, slash: bool) -> Result<usize, PathError> {
    match out.get(segment..).unwrap_or_default() {
        // Nothing between two slashes: they are merged.
        b"" => {}
        b"." => out.truncate(segment),
        b".." => {
            // Byte 0 is a slash, byte `segment - 1` too; the segment to remove
            // lies between that one and the slash before it.
            let above = out.get(..segment - 1).unwrap_or_default();
            let above = memchr::memrchr(b'/', above).ok_or(PathError::ClimbsAboveRoot)?;
            out.truncate(above + 1);
        }
        _ if slash => out.push(b'/'),
        _ => {}
    }
    Ok(out.len())
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn unhex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}
