//! One HTTP/2 request, and the connection it was made on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use crate::stream::Stream;

/// A connection that has had one answer. Dropping it closes it.
pub(crate) struct Connection {
    /// The connection lasts only while somebody could send on it.
    _requests: SendRequest<Bytes>,
    task: JoinHandle<()>,
}

impl Connection {
    pub(crate) fn closed(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a connection and asks for `path`: the connection, and the body of the answer.
pub(crate) async fn open(
    port: u16,
    tls: Arc<ClientConfig>,
    path: &str,
) -> Result<(Connection, Vec<u8>), String> {
    let stream = Stream::connect(port, Some(tls)).await.map_err(|error| error.to_string())?;
    let Stream::Tls(stream) = stream else { return Err("no TLS".to_owned()) };
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("HTTP/2 was not agreed on".to_owned());
    }
    let text = |error: h2::Error| format!("HTTP/2 {path}: {error}");
    let (mut requests, connection) = handshake(*stream).await.map_err(text)?;
    let task = tokio::spawn(async move {
        connection.await.ok(); // however it ends, it has ended
    });
    let open = |requests| Connection { _requests: requests, task };
    let request = http::Request::get(format!("https://127.0.0.1:{port}{path}")).body(());
    let request = request.map_err(|error| error.to_string())?;
    let (answer, _) = requests.send_request(request, true).map_err(text)?;
    let answer = answer.await.map_err(text)?;
    if answer.status() != 200 {
        return Err(format!("HTTP/2 {path}: {}", answer.status()));
    }
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.map_err(text)?;
        body.flow_control().release_capacity(data.len()).map_err(text)?;
        bytes.extend_from_slice(&data);
    }
    Ok((open(requests), bytes))
}

/// One request on its own connection: the body of the answer.
pub(crate) fn ask(port: u16, tls: &Arc<ClientConfig>, path: &str) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let limit = Duration::from_secs(5);
    runtime.block_on(async {
        let answer = tokio::time::timeout(limit, open(port, Arc::clone(tls), path)).await;
        let answer = answer.map_err(|_| format!("HTTP/2 {path}: no answer within {limit:?}"))?;
        answer.map(|(_, body)| body)
    })
}
