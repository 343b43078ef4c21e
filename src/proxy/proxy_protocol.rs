//! The PROXY header (v1 and v2) of a load balancer in front of us: who the
//! client is. Believed, and demanded, from the peers that the operator named.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A v1 header has at most 107 bytes, a v2 header as many extensions as it
/// likes; these are enough for all that are known.
const MAX: usize = 4096;
/// Between two looks at a header that came in part.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes the header off the connection. `None`: the peer speaks for itself
/// (its own health check).
pub(super) async fn read(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut bytes = [0; MAX];
    let mut seen = 0;
    loop {
        // Looked at and left there: what follows the header is not ours to take.
        let n = tcp.peek(&mut bytes).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received = bytes.get(..n).unwrap_or_default();
        if let Some(length) = local(received) {
            tcp.read_exact(&mut vec![0; length]).await?;
            return Ok(None);
        }
        let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
        match ProxyHeader::parse(received, config) {
            Ok((header, length)) => {
                let client = header.proxied_address().map(|address| address.source);
                let mut header = vec![0; length];
                tcp.read_exact(&mut header).await?;
                return Ok(client);
            }
            Err(Error::BufferTooShort) if n < MAX => {
                // The socket stays readable: only time brings more.
                if n == seen {
                    tokio::time::sleep(PAUSE).await;
                }
                seen = n;
            }
            Err(_) => return Err(io::Error::other("no valid PROXY header")),
        }
    }
}

/// The length of a v2 LOCAL header that is there in full: whatever family and
/// addresses it gives are to be ignored (2.2), which the parser does not.
fn local(received: &[u8]) -> Option<usize> {
    let rest = received.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x20")?;
    let [_, high, low, ..] = rest else { return None };
    let length = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    (received.len() >= length).then_some(length)
}
