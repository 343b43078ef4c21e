//! An upgrade, seen from the old process: starts the new one, hands it what it
//! has, and steps aside once the new one serves. Whatever goes wrong before that
//! ends the new process, and this one goes on as if nothing had happened.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info, warn};

use super::admin::Status;
use super::commands::{Answer, SocketFile};
use super::crew::Crew;
use super::handover::{self, VARIABLE};
use super::lock::StateLock;
use super::notify::Notifier;
use super::reload::{Options, Running};
use super::server::Ended;
use super::signals::{Asked, Signals};
use crate::proxy::{Message, Order, Shared};

/// How often a process that was started is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// A worker gives handles of its sockets between two requests.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a process that handed over says what it still holds.
const TELL: Duration = Duration::from_secs(10);

/// What this process has besides what its workers have, and how it was started.
#[derive(Debug)]
pub(super) struct Upgrader {
    /// The path it was started from: there the new binary is put.
    pub(super) binary: Result<PathBuf, String>,
    pub(super) config_dir: PathBuf,
    /// Until the new process serves, which has a handle of its own: if it ends
    /// before this one does, the next must be able to begin.
    pub(super) lock: Option<StateLock>,
    /// A second handle of the admin listener.
    pub(super) admin: io::Result<OwnedFd>,
    /// What the new process does in this one's place: answers on the admin
    /// listener, and tells the watchdog that it lives.
    pub(super) tasks: Vec<JoinHandle<()>>,
    pub(super) socket: Option<SocketFile>,
    pub(super) notifier: Rc<Notifier>,
    /// The process that took over.
    pub(super) heir: Option<Started>,
}

/// The path of the running binary, as it is at the start: once the file is
/// replaced, the system tells of the old one.
pub(super) fn own_binary(upgrades: bool) -> Result<PathBuf, String> {
    if !upgrades {
        return Err("the demo has backends of its own, and is not upgraded".to_owned());
    }
    std::env::current_exe().map_err(|error| format!("this process's own binary: {error}"))
}

/// A process this one started; ended with this.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    /// It serves: it is not ours to end.
    released: bool,
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.released {
            // Both fail when it has ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Started {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Where the new process finds the old one; gone with this.
struct Door(PathBuf);

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Upgrader {
    /// Tries it, hearing signals meanwhile. An order: that is what this process
    /// does now.
    pub(super) async fn upgrade(
        &mut self,
        running: &mut Running,
        signals: &mut Signals,
        binary: Option<PathBuf>,
        reply: Option<oneshot::Sender<Answer>>,
    ) -> Option<Order> {
        let process = running.shared.live.load().process.clone();
        // The new process reads what is kept of games.
        running.keeper.finish().await;
        let mut reload = false;
        let result = {
            let mut attempt =
                std::pin::pin!(self.attempt(running, binary, process.upgrade_timeout));
            loop {
                tokio::select! {
                    result = &mut attempt => break result.map(Ok),
                    asked = signals.next(process.shutdown_deadline) => match asked {
                        Asked::End(order) => break Ok(Err(order)),
                        Asked::Reload => reload = true,
                        Asked::Upgrade => warn!("an upgrade is under way already"),
                    },
                }
            }
        };
        let (answer, order) = match result {
            Ok(Ok(heir)) => {
                let pid = heir.pid();
                self.heir = Some(heir);
                self.notifier.handed_over(pid);
                if reload {
                    // It may have read the files before they changed.
                    pass_on_reload(pid);
                }
                info!(pid, "the new process serves; this one finishes what it holds");
                let held = held(&running.shared);
                let said = format!(
                    "process {pid} serves; process {} finishes what it holds: {held}\n",
                    std::process::id()
                );
                (Ok(said), Some(Order::HandOver { within: process.upgrade_deadline }))
            }
            Ok(Err(order)) => {
                self.come_back();
                (Err("lockgate is stopping".to_owned()), Some(order))
            }
            Err(why) => {
                self.come_back();
                error!(%why, "not upgraded: this process goes on");
                (Err(format!("not upgraded, the running process goes on: {why}")), None)
            }
        };
        // Who asked may have given up.
        let _ = reply.map(|reply| reply.send(answer));
        if order.is_none() && reload {
            running.reload_and_tell(Options::default(), &self.notifier).await;
        }
        order
    }

    async fn attempt(
        &mut self,
        running: &Running,
        binary: Option<PathBuf>,
        within: Duration,
    ) -> Result<Started, String> {
        let binary = match (binary, &self.binary) {
            (Some(binary), Ok(_)) => binary,
            (_, own) => own.clone()?,
        };
        let mut descriptors = Vec::new();
        let lock = self.lock.as_ref().ok_or("a new process serves already")?.second_handle();
        descriptors.push(lock.map_err(|error| format!("state lock: {error}"))?);
        let admin = self.admin.as_ref().map_err(|error| format!("admin listener: {error}"))?;
        descriptors.push(admin.try_clone().map_err(|error| format!("admin listener: {error}"))?);
        descriptors.extend(sockets(&running.workers).await?);

        let path = running.state_dir.join("upgrade.sock");
        let (_door, listener) =
            open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut heir = start(&binary, &self.config_dir, &running.state_dir, &path)?;
        info!(binary = %binary.display(), pid = heir.pid(), "upgrade: started the new process");
        let end = tokio::time::Instant::now() + within;
        let stream = accept(&listener, &mut heir, end, within).await?;
        let pid = heir.pid();
        let (stream, offered) = answered(&mut heir, end, within, move || {
            let offered = handover::offer(&stream, &descriptors, within);
            (stream, offered)
        })
        .await?;
        offered?;
        if let Some(socket) = &mut self.socket {
            let aside = running.state_dir.join(format!("old-{}.sock", std::process::id()));
            socket.step_aside(aside).map_err(|error| format!("admin socket: {error}"))?;
        }
        info!(pid, "upgrade: the new process is ready");
        // All that can take long is done: whoever accepts must not be ended for it.
        let end = tokio::time::Instant::now() + PATIENCE;
        let (_stream, served) = answered(&mut heir, end, within, move || {
            let served = handover::go(&stream);
            (stream, served)
        })
        .await?;
        served?;
        heir.released = true;
        Ok(heir)
    }

    /// Takes back what a new process may have taken over before it failed.
    fn come_back(&mut self) {
        if let Some(socket) = &mut self.socket
            && let Err(error) = socket.come_back()
        {
            error!(%error, "the admin socket is lost: signals still work");
        }
        if let Some(Err(error)) = self.lock.as_ref().map(StateLock::sign) {
            warn!(%error, "cannot write this process's number into the lock");
        }
        // The new one may have told otherwise.
        self.notifier.ready();
    }

    /// The rest of a process that handed over: until its last connection ends.
    pub(super) async fn finish(
        &mut self,
        within: Option<Duration>,
        crew: &mut Crew,
        signals: &mut Signals,
        shared: &Shared,
        status: &Status,
    ) -> Ended {
        // The new process has its own handles of these.
        self.tasks.iter().for_each(JoinHandle::abort);
        self.admin = Err(io::ErrorKind::NotConnected.into());
        self.lock = None;
        if let Some(asker) = status.asker.get() {
            asker.hand_over();
        }
        let deadline = shared.live.load().process.shutdown_deadline;
        let mut told = None;
        crew.hand_over(within, signals, deadline, || self.look(shared, &mut told)).await
    }

    /// Waits, but not for long, for those who are still to get their answers.
    pub(super) async fn answered(&self) {
        if let Some(socket) = &self.socket {
            socket.answered().await;
        }
    }

    /// Looks after the new process, and says now and then what is still here.
    fn look(&mut self, shared: &Shared, told: &mut Option<Instant>) {
        if told.is_none_or(|at| at.elapsed() >= TELL) {
            *told = Some(Instant::now());
            info!(held = held(shared), "this process finishes what it holds");
        }
        if let Some(heir) = &mut self.heir
            && let Ok(Some(status)) = heir.child.try_wait()
        {
            error!(pid = heir.pid(), %status, "the process that took over has ended");
            self.notifier.lost();
            self.heir = None;
        }
    }
}

fn pass_on_reload(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It fails when it has ended, which is noticed.
    let _ = pid.map(|pid| kill_process(pid, Signal::HUP));
}

/// What is still here, in words.
fn held(shared: &Shared) -> String {
    let connections = shared.connections.load(Ordering::Relaxed);
    let tunnels = shared.tunnels.load(Ordering::Relaxed);
    format!("connections: {connections}, WebSockets: {tunnels}")
}

/// Second handles of all workers' listening sockets.
async fn sockets(workers: &[mpsc::UnboundedSender<Message>]) -> Result<Vec<OwnedFd>, String> {
    let mut all = Vec::new();
    for worker in workers {
        let (reply, answer) = oneshot::channel();
        let _ = worker.send(Message::Sockets(reply));
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let handles = answer.ok().and_then(Result::ok).flatten();
        all.extend(handles.ok_or("a worker does not give its sockets; see `ulimit -n`")?);
    }
    Ok(all)
}

/// A socket for the new process alone.
fn open(path: &Path) -> io::Result<(Door, UnixListener)> {
    // The state directory is ours alone; an earlier process left it.
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    let door = Door(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok((door, listener))
}

fn start(binary: &Path, config: &Path, state: &Path, door: &Path) -> Result<Started, String> {
    let child = Command::new(binary)
        .arg("run")
        .arg("--config")
        .arg(config)
        .arg("--state")
        .arg(state)
        .env(VARIABLE, door)
        // It names this process, and the new one is to be watched instead.
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
    Ok(Started { child, released: false })
}

/// Waits for the new process to come.
async fn accept(
    listener: &UnixListener,
    heir: &mut Started,
    end: tokio::time::Instant,
    within: Duration,
) -> Result<BlockingStream, String> {
    let pid = i32::try_from(heir.pid()).ok();
    let come = async {
        loop {
            let (stream, _) = listener.accept().await?;
            // Nobody else gets the sockets.
            if stream.peer_cred()?.pid() == pid {
                let stream = stream.into_std()?;
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
    };
    tokio::select! {
        stream = come => stream.map_err(|error: io::Error| format!("upgrade socket: {error}")),
        status = heir.ended() => Err(early(status)),
        () = tokio::time::sleep_until(end) => Err(late(within)),
    }
}

/// Speaks with the new process, on a thread that may wait.
async fn answered<T: Send + 'static>(
    heir: &mut Started,
    end: tokio::time::Instant,
    within: Duration,
    speak: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let mut spoken = spawn_blocking(speak);
    let ended = tokio::select! {
        said = &mut spoken => return said.map_err(|error| format!("hand-over: {error}")),
        status = heir.ended() => status,
        () = tokio::time::sleep_until(end) => return Err(late(within)),
    };
    // It may have said why.
    match tokio::time::timeout(PATIENCE, spoken).await {
        Ok(Ok(said)) => Ok(said),
        _ => Err(early(ended)),
    }
}

fn early(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("the new process ended ({status}) before it took over; see the log"),
        Err(error) => format!("the new process was lost: {error}"),
    }
}

fn late(within: Duration) -> String {
    format!(
        "the new process did not report within {within:?} and was ended (`[upgrade] timeout` in \
         lockgate.toml)"
    )
}
