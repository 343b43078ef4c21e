//! The last addresses of names, kept in the state directory: a process that
//! starts while the name servers are silent goes on with them (HAProxy's
//! `init-addr last`).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::draft;

type Names = BTreeMap<String, Vec<IpAddr>>;

/// What changes within this time is written at once.
const GATHER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct LastAddresses {
    path: PathBuf,
    names: Rc<RefCell<Names>>,
    changed: Rc<Notify>,
}

impl LastAddresses {
    /// What an earlier process kept. A file that is not good is as if it were not
    /// there.
    pub(super) fn load(state_dir: &Path) -> LastAddresses {
        let path = state_dir.join("names").join("last.json");
        let names = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!(file = %path.display(), %error, "not good: no last addresses of names");
                Names::new()
            }),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    warn!(file = %path.display(), %error, "no last addresses of names");
                }
                Names::new()
            }
        };
        LastAddresses { path, names: Rc::new(RefCell::new(names)), changed: Rc::default() }
    }

    pub(super) fn of(&self, name: &str) -> Vec<IpAddr> {
        self.names.borrow().get(name).cloned().unwrap_or_default()
    }

    /// What a name server said.
    pub(super) fn note(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut names = self.names.borrow_mut();
        if names.get(name).map_or(&[][..], Vec::as_slice) == addresses {
            return;
        }
        if addresses.is_empty() {
            names.remove(name);
        } else {
            names.insert(name.to_owned(), addresses);
        }
        self.changed.notify_one();
    }

    /// Forgets all names but these.
    pub(super) fn retain(&self, used: &HashSet<&str>) {
        let mut names = self.names.borrow_mut();
        let before = names.len();
        names.retain(|name, _| used.contains(&**name));
        if names.len() != before {
            self.changed.notify_one();
        }
    }

    /// Writes what changes, for as long as it is polled.
    pub(super) async fn keep(self) {
        loop {
            self.changed.notified().await;
            sleep(GATHER).await;
            let text = serde_json::to_vec_pretty(&*self.names.borrow()).unwrap_or_default();
            let path = self.path.clone();
            let written = spawn_blocking(move || {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                draft::put(&path, &text)
            });
            if let Ok(Err(error)) = written.await {
                warn!(file = %self.path.display(), %error, "the last addresses of names cannot be kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_file_that_is_not_good_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("names")).unwrap();
        for text in ["", "{", "[1]", "{\"a\": [\"no address\"]}"] {
            fs::write(dir.path().join("names/last.json"), text).unwrap();
            assert!(LastAddresses::load(dir.path()).of("a").is_empty());
        }
        fs::write(dir.path().join("names/last.json"), "{\"a\": [\"127.0.0.1\"]}").unwrap();
        assert_eq!(LastAddresses::load(dir.path()).of("a"), [HERE]);
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let last = LastAddresses::load(dir.path());
        last.note("a", vec![HERE]);
        last.note("b", vec![HERE]);
        last.retain(&["b"].into());
        assert_eq!((last.of("a"), last.of("b")), (Vec::new(), vec![HERE]));
        last.note("b", Vec::new());
        assert!(last.names.borrow().is_empty());
    }
}
