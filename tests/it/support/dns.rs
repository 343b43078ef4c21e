//! A small name server: what it answers can change at any time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Port, eventually};

/// A name server on a UDP port of its own. A name it was told nothing about
/// does not exist. Its TCP port refuses.
#[derive(Debug)]
pub(crate) struct NameServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Nobody else gets the TCP port.
    _tcp: Port,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    A,
    Aaaa,
}

/// What is said about a name.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// These of the kind that was asked for, for so many seconds. None of that
    /// kind: the name exists, and has none.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name. It may be asked again at once.
    NoSuchName,
    /// There is no such name, and its zone (SOA) says that this may be kept
    /// for so many seconds.
    NoSuchNameFor(u32),
    ServerFailure,
    /// Nothing at all.
    Silence,
}

#[derive(Debug, Default)]
struct Shared {
    answers: Mutex<HashMap<(String, Kind), Answer>>,
    asked: Mutex<HashMap<(String, Kind), usize>>,
    stopped: AtomicBool,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let (tcp, socket) = loop {
            let tcp = Port::reserve();
            if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, tcp.number())) {
                break (tcp, socket);
            }
        };
        let address = socket.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || serve(&socket, &of_thread));
        Self { shared, address, _tcp: tcp }
    }

    /// The table of `lockgate.toml` that names it.
    pub(crate) fn table(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.address)
    }

    /// From now on `name` has these IP addresses, for `ttl` seconds.
    pub(crate) fn points(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.says(name, &Answer::Addresses(addresses, ttl));
    }

    /// What to answer about `name` from now on.
    pub(crate) fn says(&self, name: &str, answer: &Answer) {
        self.says_of(name, Kind::A, answer.clone());
        self.says_of(name, Kind::Aaaa, answer.clone());
    }

    /// The same for one kind of address.
    pub(crate) fn says_of(&self, name: &str, kind: Kind, answer: Answer) {
        self.shared.answers.lock().unwrap().insert((name.to_owned(), kind), answer);
    }

    /// How often the IPv4 addresses of `name` were asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap();
        asked.get(&(name.to_owned(), Kind::A)).copied().unwrap_or(0)
    }

    /// Waits until it was asked about `name` again, `more` times.
    #[track_caller]
    pub(crate) fn wait_until_asked(&self, name: &str, more: usize) {
        let before = self.asked(name);
        eventually("the name is asked for again", || self.asked(name) >= before + more);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[0], self.address);
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0; 1500];
    while let Ok((count, from)) = socket.recv_from(&mut packet) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        if let Some(answer) = answer(&packet[..count], shared) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The answer to a query (RFC 1035 4.1).
fn answer(query: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let (name, end) = question(query)?;
    let kind = match query.get(end..end + 2)? {
        [0, 1] => Kind::A,
        [0, 28] => Kind::Aaaa,
        _ => return None,
    };
    *shared.asked.lock().unwrap().entry((name.clone(), kind)).or_default() += 1;
    let said = shared.answers.lock().unwrap().get(&(name, kind)).cloned();
    let mut zone = None;
    let (code, records, ttl) = match said.unwrap_or(Answer::NoSuchName) {
        Answer::Silence => return None,
        Answer::ServerFailure => (2, Vec::new(), 0),
        Answer::NoSuchName => (3, Vec::new(), 0),
        Answer::NoSuchNameFor(seconds) => {
            zone = Some(seconds);
            (3, Vec::new(), 0)
        }
        Answer::Addresses(addresses, ttl) => {
            let wanted = addresses.iter().filter(|ip| ip.is_ipv4() == (kind == Kind::A));
            (0, wanted.map(octets).collect::<Vec<_>>(), ttl)
        }
    };
    let mut out = query.get(..2)?.to_vec();
    // A response, recursion desired and available; one question; the answers.
    let count = u8::try_from(records.len()).ok()?;
    out.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, u8::from(zone.is_some()), 0, 0]);
    out.extend(query.get(12..end + 4)?);
    for record in records {
        // The name stands at offset 12.
        out.extend([0xc0, 12]);
        out.extend(query.get(end..end + 4)?);
        out.extend(ttl.to_be_bytes());
        out.extend([0, u8::try_from(record.len()).ok()?]);
        out.extend(record);
    }
    if let Some(seconds) = zone {
        // The root's SOA: two empty names and five numbers, the last of which
        // is meant (RFC 2308 4).
        out.extend([0, 0, 6, 0, 1]);
        out.extend(seconds.to_be_bytes());
        out.extend([0, 22, 0, 0]);
        out.extend([1, 1, 1, 1, seconds].map(u32::to_be_bytes).concat());
    }
    Some(out)
}

fn octets(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The name of the first question, in lower case, and where it ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
}
