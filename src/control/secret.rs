//! The file of keys that sign sticky cookies: made at the first start, and
//! rotated by command. Whoever reads it can forge cookies, so it is its
//! owner's alone, and nothing of it is ever said.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use tracing::{info, warn};

use crate::config::{SecretFault, parse_secrets, read_secret_file, rotate_secrets, show_time};
use crate::policy::sticky::{KeyRing, Seconds};

/// Bytes of a key that we make.
const KEY: usize = 32;

/// The file of the state directory.
#[must_use]
pub fn state_file(state_dir: &Path) -> PathBuf {
    state_dir.join("secret")
}

/// The keys of the state directory, made when there are none. One that cannot
/// be used is not replaced: every player would lose his backend.
pub(super) fn load_or_create(state_dir: &Path) -> Result<KeyRing, String> {
    let file = state_file(state_dir);
    let mut ring = load(state_dir)?;
    if ring.is_none() {
        let made = make(&file)?;
        info!(file = %file.display(), made, "there was no secret for sticky cookies");
        ring = load(state_dir)?;
    }
    let Some(ring) = ring else {
        return Err(format!("`{}` leads nowhere: remove it", file.display()));
    };
    if fs::metadata(&file).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        let file = file.display();
        warn!("others than its owner may read `{file}`, and forge cookies: `chmod 600 {file}`");
    }
    Ok(ring)
}

/// The keys of the state directory, if there are any.
pub(super) fn load(state_dir: &Path) -> Result<Option<KeyRing>, String> {
    let file = state_file(state_dir);
    let wrong = |fault: &SecretFault| {
        format!(
            "`{}`: {fault}: {}; or remove the file: a new secret is then made, and every client \
             is bound anew",
            file.display(),
            fault.hint()
        )
    };
    let text = read_secret_file(&file).map_err(|fault| wrong(&fault))?;
    text.map(|text| parse_secrets(&text).map_err(|fault| wrong(&fault))).transpose()
}

/// Writes a file with one new key. Says whether it did: one that somebody else
/// made meanwhile is left as it is.
fn make(file: &Path) -> Result<bool, String> {
    let text = new_key()? + "\n";
    let wrong = |error: io::Error| {
        format!("cannot write `{}`: {error}: let lockgate's user write there", file.display())
    };
    let draft = Draft::write(file, &text).map_err(wrong)?;
    // Unlike a rename a link replaces nothing.
    match fs::hard_link(&draft.path, file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(wrong(error)),
    }
    sync_folder(file).map_err(wrong)?;
    Ok(true)
}

/// 256 random bits of the operating system in hexadecimal digits.
fn new_key() -> Result<String, String> {
    let mut bytes = [0; KEY];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let filled = provider.secure_random.fill(&mut bytes);
    filled.map_err(|_| "the system gives no random numbers: try again".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Rotates the keys of a file, or makes it, and says what it did.
///
/// # Errors
/// What kept it from doing so; the file is then as it was.
pub fn rotate(file: &Path, after: Duration) -> Result<String, String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let wrong = |error: io::Error| {
        format!("cannot rotate `{}`: {error}: run this as a user who may write it", file.display())
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
    // Two rotations at once would lose one's key.
    let lock = File::open(folder).map_err(wrong)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| wrong(error.into()))?;
    let fault = |fault: SecretFault| format!("`{}`: {fault}: {}", file.display(), fault.hint());
    let Some(text) = read_secret_file(file).map_err(fault)? else {
        return match make(file)? {
            true => Ok(format!(
                "`{}`: made, with one key, for its owner alone\n{EVERYWHERE}",
                file.display()
            )),
            false => Err(format!(
                "`{}` was made by somebody else or leads nowhere: look, then try again",
                file.display()
            )),
        };
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |time: Duration| Seconds::try_from(time.as_secs()).unwrap_or(Seconds::MAX);
    let rotated =
        rotate_secrets(&text, &new_key()?, seconds(now), seconds(after)).map_err(fault)?;
    let kept_owner = replace(file, &rotated.text).map_err(wrong)?;

    let from = show_time(rotated.signs_from);
    let until = show_time(rotated.verifies_until);
    let mut said = format!(
        "`{}`: a new key signs from {from} on; the one before it verifies until {until}\n",
        file.display()
    );
    if rotated.dropped > 0 {
        let keys = if rotated.dropped == 1 { "key" } else { "keys" };
        said += &format!("{} {keys} dropped: retired more than 30 days ago\n", rotated.dropped);
    }
    if !kept_owner {
        said += "the file has another owner now: see that lockgate's user can read it\n";
    }
    said += EVERYWHERE;
    said += &if after.is_zero() {
        "; until then an instance does not know the new key (with `--after 1h` it would sign only in an hour)".to_owned()
    } else {
        format!(", before {from}")
    };
    Ok(said)
}

const EVERYWHERE: &str = "every instance needs this file: copy it to all and reload each one";

/// Puts a new text in the file's place, with its mode and, where that is
/// allowed, its owner. Says whether it was.
fn replace(file: &Path, text: &str) -> io::Result<bool> {
    // What a link leads to is replaced, not the link.
    let file = fs::canonicalize(file)?;
    let old = fs::metadata(&file)?;
    let draft = Draft::write(&file, text)?;
    let kept_owner = fchown(&draft.file, Some(old.uid()), Some(old.gid())).is_ok();
    draft.file.set_permissions(old.permissions())?;
    draft.file.sync_all()?;
    fs::rename(&draft.path, &file)?;
    sync_folder(&file)?;
    Ok(kept_owner)
}

/// A file beside the one that is meant, which goes when it is dropped (unless
/// it was renamed).
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    /// Writes it to the disk, for its owner alone; the owner is the folder's
    /// where that is allowed, so that root can make a file for lockgate's user.
    fn write(beside: &Path, text: &str) -> io::Result<Draft> {
        let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let path = folder.join(format!(".secret.{}.new", std::process::id()));
        // Left by a process of this number that was killed.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut draft = Draft { path, file };
        let owner = fs::metadata(folder)?;
        // Then it stays ours, who may read it.
        let _ = fchown(&draft.file, Some(owner.uid()), Some(owner.gid()));
        draft.file.write_all(text.as_bytes())?;
        draft.file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename it is not there.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new name is on the disk only with its folder.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
