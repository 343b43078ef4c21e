//! What an upgrade moves from the old process to the new one, over a Unix
//! socket: the state lock, the admin listener and all listening sockets, as
//! descriptors. The very same sockets, so that no client that waits in one of
//! their queues is lost.
//!
//! 1. The new one connects; the old one sends a header and the descriptors.
//! 2. The new one reads its files, builds everything, starts its workers, and
//!    says that it is ready, or why not.
//! 3. The old one says `go`. The new one accepts, takes over the admin socket
//!    and the lock's signature, and says that it serves.
//! 4. The old one stops accepting. Until then it does what it always did.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::lock::StateLock;
use super::sockets::{self, Received};
use crate::config::{Diagnostic, Reading};
use crate::proxy::{Message, Socket};

/// Of this conversation; a new one for every change that the other side has to
/// know.
const VERSION: u32 = 1;
/// Names the socket to the new process.
pub(super) const VARIABLE: &str = "LOCKGATE_UPGRADE";
/// The kernel takes no more descriptors in one message.
const BATCH: usize = 253;
/// The longest line that is read.
const LONGEST_LINE: usize = 1 << 20;
/// How long a process waits for the other's next words where it has nothing to do
/// but to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The admin listener and the lock are first.
const BEFORE_SOCKETS: usize = 2;

/// A line of JSON, then a byte for every [`BATCH`] descriptors, which go with it.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    /// How many come: the lock, the admin listener, the listening sockets.
    descriptors: usize,
}

/// Of the header of any version.
#[derive(Deserialize)]
struct AnyHeader {
    version: u32,
}

/// What the new process says, a line of JSON each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    /// Everything that can fail is done.
    Ready,
    /// It accepts, and answers on the admin socket.
    Serving,
    /// It ends, because of this.
    Failed(String),
}

/// Gives all of it, and waits until the new process is ready.
///
/// # Errors
/// Why it is not.
pub(super) fn offer(
    stream: &UnixStream,
    descriptors: &[OwnedFd],
    within: Duration,
) -> Result<(), String> {
    let give = || -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(within))?;
        give(stream, VERSION, descriptors)
    };
    // One that ended meanwhile may have said why.
    let given = give();
    let said = listen(stream)?;
    given.map_err(|error| format!("it did not take the sockets: {error}"))?;
    match said {
        Said::Ready => Ok(()),
        other => Err(format!("it answered {other:?} where it should be ready")),
    }
}

/// Lets it serve, and waits until it does.
///
/// # Errors
/// Why it does not.
pub(super) fn go(stream: &UnixStream) -> Result<(), String> {
    let mut out = stream;
    let told = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| out.write_all(b"go\n"));
    told.map_err(|error| format!("it left before it served: {error}"))?;
    match listen(stream)? {
        Said::Serving => Ok(()),
        other => Err(format!("it answered {other:?} where it should serve")),
    }
}

fn give(stream: &UnixStream, version: u32, descriptors: &[OwnedFd]) -> io::Result<()> {
    let header = Header { version, descriptors: descriptors.len() };
    let mut out = stream;
    out.write_all(format!("{}\n", serde_json::to_string(&header)?).as_bytes())?;
    for batch in descriptors.chunks(BATCH) {
        let batch: Vec<BorrowedFd<'_>> = batch.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&batch));
        retry_on_intr(|| {
            sendmsg(stream, &[IoSlice::new(b".")], &mut control, SendFlags::NOSIGNAL)
        })?;
    }
    Ok(())
}

/// What the new process says next, unless that is that it failed.
fn listen(stream: &UnixStream) -> Result<Said, String> {
    let line = line(stream).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => "it did not report in time".to_owned(),
        _ => format!("it ended before it served: {error}"),
    })?;
    match serde_json::from_str(&line) {
        Ok(Said::Failed(why)) => Err(why),
        Ok(said) => Ok(said),
        Err(_) => Err("it says what this lockgate does not understand".to_owned()),
    }
}

/// The next line; nothing is read beyond it.
fn line(mut stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LONGEST_LINE {
        stream.read_exact(&mut byte)?;
        let [byte] = byte;
        if byte == b'\n' {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// How a process was started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// By an old process, which is told of this one.
    pub heir: Option<&'a Heir>,
    /// A new process could do what this one does.
    pub upgrades: bool,
    /// Nobody but this machine is served where no address is asked for.
    pub loopback: bool,
}

impl Launch<'_> {
    /// A process that is to take over takes over everything, or nothing: what is
    /// wrong here may be right in the old one.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn strict(
        self,
        problems: impl IntoIterator<Item = impl ToString>,
    ) -> Result<(), String> {
        let problem = problems.into_iter().next().filter(|_| self.heir.is_some());
        problem.map_or(Ok(()), |problem| Err(problem.to_string()))
    }

    /// Tells the old process that this one serves.
    pub(super) fn serving(self) {
        if let Some(heir) = self.heir {
            heir.say(&Said::Serving);
        }
    }

    /// What the workers begin with: nothing, as long as the old process serves.
    pub(super) fn at_first(self, sockets: &mut Vec<Vec<Socket>>) -> Vec<Vec<Socket>> {
        let none = sockets.iter().map(|_| Vec::new()).collect();
        if self.heir.is_some() { none } else { mem::replace(sockets, none) }
    }

    /// When all else is done: has the workers accept, if the old process lets them.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn take_over(
        self,
        workers: &[mpsc::UnboundedSender<Message>],
        mut sockets: Vec<Vec<Socket>>,
        lock: &StateLock,
    ) -> Result<(), String> {
        let Some(heir) = self.heir else { return Ok(()) };
        if workers.len() < sockets.len() {
            return Err("a worker's thread cannot be started".to_owned());
        }
        for worker in workers {
            // Whoever answers runs.
            let (reply, answer) = oneshot::channel();
            let _ = worker.send(Message::Census(reply));
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            answer.ok().and_then(Result::ok).ok_or("a worker does not run; see the log")?;
        }
        // The old one signs it again, should it go on after all.
        lock.sign().map_err(|error| format!("state lock: {error}"))?;
        heir.ready()?;
        sockets::fill(&mut sockets);
        for (worker, sockets) in workers.iter().zip(sockets) {
            // A worker that has ended is noticed by the crew.
            let _ = worker.send(Message::Listen(sockets));
        }
        Ok(())
    }
}

/// What keeps a new process from taking over with these files. A drop-in that is
/// bad does not: its last good version serves in both.
pub(super) fn objection(reading: &Reading) -> Option<String> {
    let errors: Vec<String> =
        reading.diagnostics.iter().filter(|one| one.is_error()).map(Diagnostic::brief).collect();
    (!errors.is_empty()).then(|| format!("the configuration is not good: {}", errors.join("; ")))
}

/// What the new process got.
#[derive(Debug)]
pub(super) struct Estate {
    pub(super) lock: StateLock,
    /// `None`: there is no old process.
    pub(super) admin: Option<TcpListener>,
    pub(super) sockets: Received,
}

impl Estate {
    /// A start's: what the old process gave, else the lock and what systemd passed.
    ///
    /// # Errors
    /// Another process has the lock.
    pub(super) fn of(launch: Launch<'_>, state_dir: &Path) -> Result<Estate, String> {
        match launch.heir.and_then(|heir| heir.estate.take()) {
            Some(estate) => Ok(estate),
            None => Ok(Estate {
                lock: StateLock::take(state_dir)?,
                admin: None,
                sockets: super::activation::passed(),
            }),
        }
    }

    /// The admin listener, if it is where it is wanted now.
    pub(super) fn admin_at(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        self.admin.take().filter(|admin| {
            admin.local_addr().is_ok_and(|address| {
                address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
            })
        })
    }

    /// The admin listener: the old process's, else one of our own.
    ///
    /// # Errors
    /// There is none to be had.
    pub(super) async fn admin(
        &mut self,
        wanted: SocketAddr,
    ) -> Result<tokio::net::TcpListener, String> {
        let listener = match self.admin_at(wanted) {
            Some(admin) => tokio::net::TcpListener::from_std(admin),
            None => tokio::net::TcpListener::bind(wanted).await,
        };
        listener.map_err(|error| {
            format!(
                "cannot listen on the admin address {wanted}: {error}: set another one as \
                 `address` under `[admin]` in lockgate.toml (port 0 lets the system pick)"
            )
        })
    }
}

/// The new process's side.
#[derive(Debug)]
pub struct Heir {
    stream: UnixStream,
    estate: RefCell<Option<Estate>>,
}

impl Heir {
    /// Takes what the old process has, if an old process started this one.
    ///
    /// # Errors
    /// It can't be taken; what to do about it.
    pub fn from_env() -> Result<Option<Heir>, String> {
        let Some(path) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let stream = UnixStream::connect(Path::new(&path)).map_err(|error| {
            format!(
                "{VARIABLE} names `{}`, where no lockgate hands over: {error}: unset it; \
                 `lockgate upgrade` sets it itself",
                path.display()
            )
        })?;
        let received = stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(|error| error.to_string())
            .and_then(|()| receive(&stream));
        let heir = Heir { stream, estate: RefCell::default() };
        match received {
            Ok(estate) => *heir.estate.borrow_mut() = Some(estate),
            Err(why) => {
                heir.fail(&why);
                return Err(why);
            }
        }
        Ok(Some(heir))
    }

    /// Says why this process ends; the old one goes on then.
    pub fn fail(&self, why: &str) {
        self.say(&Said::Failed(why.to_owned()));
    }

    /// Says that nothing can fail any more, and waits for the old one's word.
    pub(super) fn ready(&self) -> Result<(), String> {
        self.say(&Said::Ready);
        match line(&self.stream).as_deref() {
            Ok("go") => Ok(()),
            _ => Err("the old process did not hand over: it goes on, or it ended".to_owned()),
        }
    }

    fn say(&self, said: &Said) {
        let text = serde_json::to_string(said).unwrap_or_default();
        // An old process that does not listen has ended, or ends this one.
        let _ = (&self.stream).write_all(format!("{text}\n").as_bytes());
    }
}

fn receive(stream: &UnixStream) -> Result<Estate, String> {
    let broken = || "the old process broke off".to_owned();
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    loop {
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            let AnyHeader { version } = serde_json::from_slice(line).map_err(|_| broken())?;
            if version != VERSION {
                return Err(format!(
                    "the running lockgate hands over as version {version}, and this binary \
                     takes over as version {VERSION}: stop the one, and start the other"
                ));
            }
            let header: Header = serde_json::from_slice(line).map_err(|_| broken())?;
            if rest.len() > header.descriptors.div_ceil(BATCH) {
                return estate(descriptors, header.descriptors).ok_or_else(broken);
            }
        }
        if receive_some(stream, &mut bytes, &mut descriptors).map_err(|error| error.to_string())?
            == 0
        {
            return Err(broken());
        }
    }
}

/// Reads what is there, with the descriptors that go with it.
fn receive_some(
    stream: &UnixStream,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut block = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(stream, &mut [IoSliceMut::new(&mut block)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("not all sockets fit under the descriptor limit (ulimit -n)"));
    }
    bytes.extend(block.iter().take(received.bytes));
    Ok(received.bytes)
}

fn estate(descriptors: Vec<OwnedFd>, expected: usize) -> Option<Estate> {
    if descriptors.len() != expected || expected < BEFORE_SOCKETS {
        return None;
    }
    let mut descriptors = descriptors.into_iter();
    let lock = StateLock::inherited(descriptors.next()?);
    let admin = TcpListener::from(descriptors.next()?);
    let mut sockets = Received::new();
    for descriptor in descriptors {
        let listener = TcpListener::from(descriptor);
        sockets.entry(listener.local_addr().ok()?).or_default().push(listener);
    }
    Some(Estate { lock, admin: Some(admin), sockets })
}

#[cfg(test)]
mod tests;
