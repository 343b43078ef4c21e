//! The keys that sign: a ring of secrets, and what each group derives of them.

use std::fmt;

use super::Seconds;

/// How long a retired secret still verifies what it signed, in seconds: 30 days.
pub const VERIFIES_FOR: Seconds = 30 * 24 * 60 * 60;

/// What a secret's keys are derived for; another use is another context.
const GROUP: &str = "lockgate 2026 sticky cookies: the key of a group";
const BACKEND: &str = "lockgate 2026 sticky cookies: the names of backends";
const FINGERPRINT: &str = "lockgate 2026 sticky cookies: what a secret is called";
const KEY_ID: &str = "lockgate 2026 sticky cookies: the number of a key";

/// One secret of the ring.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// At best 32 random bytes.
    pub material: Vec<u8>,
    /// It signs from then on, until a later one does. Before, it verifies only,
    /// so that all instances know it before the first signs with it.
    pub signs_from: Seconds,
    /// When its successor replaced it; it verifies for [`VERIFIES_FOR`] longer.
    /// `None`: as long as it stands in the ring.
    pub retired: Option<Seconds>,
}

impl Secret {
    /// By which a person may tell it from others; nothing of it can be found out
    /// from this.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let [a, b, c, d, ..] = blake3::derive_key(FINGERPRINT, &self.material);
        format!("{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("signs_from", &self.signs_from)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

/// All secrets of this installation; the same on all its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    secrets: Vec<Secret>,
}

impl KeyRing {
    /// A ring of these, in any order. Without any, nothing is signed and
    /// nothing verifies.
    #[must_use]
    pub fn new(mut secrets: Vec<Secret>) -> KeyRing {
        // Of several that may sign the latest does; of equals the first named.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.signs_from));
        KeyRing { secrets }
    }

    /// The secrets, the latest first.
    #[must_use]
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }
}

/// One group's keys, derived once: of its file and name, so that a cookie is
/// worth nothing in another group.
#[derive(Clone)]
pub struct GroupKeys {
    keys: Vec<GroupKey>,
}

impl fmt::Debug for GroupKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What one secret is to one group.
#[derive(Clone)]
pub(super) struct GroupKey {
    /// Stands in the token, so that the right key is tried first.
    pub(super) id: u8,
    pub(super) key: [u8; 32],
    signs_from: Seconds,
    retired: Seconds,
    verifies_until: Seconds,
    /// What a token calls each backend, by its place.
    names: Vec<u64>,
    /// The same by name, sorted.
    places: Vec<(u64, usize)>,
}

impl GroupKeys {
    /// The keys of a group, whose backends are called like this.
    #[must_use]
    pub fn derive(ring: &KeyRing, file: &str, group: &str, backends: &[&str]) -> GroupKeys {
        let keys = ring.secrets.iter().map(|secret| {
            let names_key = derive(BACKEND, &secret.material, &[file, group]);
            let name = |backend: &str| {
                let hash = blake3::keyed_hash(&names_key, backend.as_bytes());
                u64::from_le_bytes(first(hash.as_bytes()))
            };
            let names: Vec<u64> = backends.iter().copied().map(name).collect();
            let mut places: Vec<(u64, usize)> =
                names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
            places.sort_unstable();
            GroupKey {
                id: first::<1>(&derive(KEY_ID, &secret.material, &[]))[0],
                key: derive(GROUP, &secret.material, &[file, group]),
                signs_from: secret.signs_from,
                retired: secret.retired.unwrap_or(Seconds::MAX),
                verifies_until: secret
                    .retired
                    .map_or(Seconds::MAX, |retired| retired.saturating_add(VERIFIES_FOR)),
                names,
                places,
            }
        });
        GroupKeys { keys: keys.collect() }
    }

    /// The key that signs now.
    pub(super) fn signing(&self, now: Seconds) -> Option<&GroupKey> {
        let is_due = |key: &&GroupKey| key.signs_from <= now && now < key.retired;
        // A clock that is wrong must not leave the group without.
        self.keys.iter().find(is_due).or(self.keys.first())
    }

    /// The keys of this number that still verify.
    pub(super) fn verifying(&self, id: u8, now: Seconds) -> impl Iterator<Item = &GroupKey> {
        self.keys.iter().filter(move |key| key.id == id && now <= key.verifies_until)
    }
}

impl GroupKey {
    /// What a token calls the backend at this place.
    pub(super) fn name(&self, place: usize) -> Option<u64> {
        self.names.get(place).copied()
    }

    /// The place of the backend a token calls like this.
    pub(super) fn place(&self, name: u64) -> Option<usize> {
        let at = self.places.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        self.places.get(at).map(|(_, place)| *place)
    }
}

/// A key for one use. Every part is preceded by its length, so that no two
/// lists of parts read the same.
fn derive(context: &str, secret: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    let parts = parts.iter().map(|part| part.as_bytes());
    for part in std::iter::once(secret).chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = *from;
    }
    bytes
}
