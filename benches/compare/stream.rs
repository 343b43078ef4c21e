//! A connection to the proxy, plain or over TLS, for the generators that are ours.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{local, server_name};

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Over TLS when a configuration is given.
    pub(crate) async fn connect(
        port: u16,
        tls: Option<Arc<ClientConfig>>,
    ) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(local(port)).await?;
        tcp.set_nodelay(true)?;
        let Some(config) = tls else { return Ok(Self::Plain(tcp)) };
        let stream = TlsConnector::from(config).connect(server_name(), tcp).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// True when the other side has ended the connection. What it sent is lost.
    pub(crate) fn closed(&self) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        };
        match tcp.try_read(&mut [0; 64]) {
            Ok(got) => got == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
