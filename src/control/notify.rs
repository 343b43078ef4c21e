//! Tells systemd how we are (`sd_notify`): one datagram to the socket that it
//! named. Without one, nothing is said. The protocol is small enough to need
//! no library.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// Where it is told.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that we live.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn from_env() -> Notifier {
        let of = std::env::var_os;
        let Some(name) = of("NOTIFY_SOCKET") else { return Notifier::default() };
        let pid = of("WATCHDOG_PID").is_none_or(|pid| *pid == *std::process::id().to_string());
        let watchdog = of("WATCHDOG_USEC").filter(|_| pid);
        match Notifier::new(&name, watchdog.as_deref()) {
            Ok(notifier) => notifier,
            Err(error) => {
                warn!(socket = %name.display(), %error, "systemd cannot be told how we are");
                Notifier::default()
            }
        }
    }

    fn new(name: &OsStr, watchdog: Option<&OsStr>) -> io::Result<Notifier> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A systemd that does not read must not stop us.
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let micros = watchdog.and_then(OsStr::to_str).and_then(|text| text.parse().ok());
        let watchdog = micros.filter(|micros| *micros > 0).map(Duration::from_micros);
        Ok(Notifier { socket: Some(socket), watchdog })
    }

    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            warn!(%error, text, "systemd was not told");
        }
    }

    /// We serve.
    pub(super) fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}\n", std::process::id()));
    }

    /// A reload begins; [`Notifier::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// From now on that process is the service.
    pub(super) fn handed_over(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}\n"));
    }

    /// The process that took over is gone, and systemd may not see that: it is not
    /// its child.
    pub(super) fn lost(&self) {
        self.tell("WATCHDOG=trigger\n");
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    /// Says that we live, as often as that is wanted, for as long as it is polled:
    /// in the loop that does everything else, so that it ends when that hangs.
    pub(super) async fn watch(self: Rc<Self>) {
        let Some(every) = self.watchdog else { return std::future::pending().await };
        loop {
            self.tell("WATCHDOG=1\n");
            tokio::time::sleep(every / 2).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    fn all_is_told(systemd: &UnixDatagram, name: &OsStr) {
        let notifier = Notifier::new(name, None).unwrap();
        let pid = std::process::id();
        notifier.ready();
        assert_eq!(heard(systemd), format!("READY=1\nMAINPID={pid}\n"));
        notifier.reloading();
        let told = heard(systemd);
        let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim();
        assert!(micros.parse::<u64>().unwrap() > 0, "{told}");
        notifier.handed_over(7);
        assert_eq!(heard(systemd), "MAINPID=7\n");
        notifier.lost();
        assert_eq!(heard(systemd), "WATCHDOG=trigger\n");
        notifier.stopping();
        assert_eq!(heard(systemd), "STOPPING=1\n");
    }

    #[test]
    fn systemd_hears_it_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        all_is_told(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        let name = format!("lockgate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        all_is_told(&systemd, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn the_watchdog_hears_twice_in_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier =
            Rc::new(Notifier::new(path.as_os_str(), Some(OsStr::new("4000000"))).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let time = Duration::from_millis(4001);
        let ended = runtime.block_on(async { tokio::time::timeout(time, notifier.watch()).await });
        assert!(ended.is_err());
        systemd.set_nonblocking(true).unwrap();
        let mut bytes = [0; 64];
        let told = std::iter::from_fn(|| systemd.recv(&mut bytes).ok()).count();
        assert_eq!(told, 3, "at the beginning, at 2 s and at 4 s");
        let silent = Notifier::new(path.as_os_str(), Some(OsStr::new("0"))).unwrap();
        assert!(silent.watchdog.is_none());
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert!(Notifier::new(OsStr::new("/nowhere/notify"), None).is_err());
    }
}
