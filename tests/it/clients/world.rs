//! The backend most clients meet. Some of its paths wait for marks that other
//! requests set: what is under way at once is proved by who waits for whom.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::{Backend, DEADLINE, Exchange};

/// How long a page waits for what it hinted at.
const HINT: Duration = Duration::from_secs(2);

/// What has happened so far.
#[derive(Debug, Default)]
struct Marks(Mutex<BTreeSet<String>>, Condvar);

impl Marks {
    fn set(&self, mark: &str) {
        self.0.lock().unwrap().insert(mark.to_owned());
        self.1.notify_all();
    }

    /// False: it did not happen in time.
    fn wait(&self, mark: &str) -> bool {
        self.wait_for(mark, DEADLINE)
    }

    fn wait_for(&self, mark: &str, time: Duration) -> bool {
        let marks = self.0.lock().unwrap();
        let absent = |marks: &mut BTreeSet<String>| !marks.contains(mark);
        let (_marks, outcome) = self.1.wait_timeout_while(marks, time, absent).unwrap();
        !outcome.timed_out()
    }
}

/// A backend of these paths:
///
/// - `/mark/X` sets a mark, `/wait/X` answers once it is set: a long poll;
/// - `/mirror` answers with the body it was sent;
/// - `/parts` sends `part 1`, and each next one after the mark `part-1` …;
/// - `/events` the same as Server-Sent Events;
/// - `/pieces` expects `first`, sets the mark `first`, expects `second`;
/// - `/cookie` sets a cookie, `/whoami` says which one came;
/// - `/hints` hints at `/hinted.css` (103), and waits some time for it to be
///   asked for: the title says whether it was;
/// - others: the method and the target.
pub(super) fn world() -> Backend {
    let marks = Arc::<Marks>::default();
    Backend::scripted("world", move |exchange| serve(exchange, &marks))
}

fn serve(exchange: &mut Exchange<'_>, marks: &Marks) {
    let request = exchange.request();
    let target = request.target();
    match target.split('/').skip(1).collect::<Vec<_>>()[..] {
        ["mark", mark] => {
            marks.set(mark);
            exchange.reply("marked");
        }
        ["wait", mark] => reply_after(exchange, marks, mark, "it happened"),
        ["mirror"] => {
            let body = exchange.read_body();
            let length = body.len();
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            exchange.send(body);
        }
        ["parts"] => parts(exchange, marks, "text/plain", |number| format!("part {number}")),
        ["events"] => {
            let event = |number| format!("id: {number}\ndata: part {number}\n\n");
            parts(exchange, marks, "text/event-stream", event);
        }
        ["pieces"] => pieces(exchange, marks),
        ["cookie"] => exchange.send(
            "HTTP/1.1 200 OK\r\nSet-Cookie: session=abc; Path=/; Secure; HttpOnly\r\n\
             Set-Cookie: taste=sweet; Path=/\r\nContent-Length: 3\r\n\r\nset",
        ),
        ["whoami"] => {
            let cookies = request.values("cookie");
            exchange.reply(&format!("{cookies:?}"));
        }
        ["hints"] => {
            exchange.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </hinted.css>; rel=preload; as=style\r\n\r\n",
            );
            let hinted = marks.wait_for("hinted.css", HINT);
            let title = if hinted { "hinted" } else { "not hinted" };
            page(exchange, "text/html", &format!("<!DOCTYPE html><title>{title}</title>"));
        }
        ["hinted.css"] => {
            marks.set("hinted.css");
            page(exchange, "text/css", "body { color: green }");
        }
        ["page"] => page(exchange, "text/html", "<!DOCTYPE html><title>a page</title><p>text"),
        _ => exchange.reply(&format!("{} {target}", request.method())),
    }
}

fn page(exchange: &mut Exchange<'_>, kind: &str, text: &str) {
    let length = text.len();
    exchange.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}"
    ));
}

fn reply_after(exchange: &mut Exchange<'_>, marks: &Marks, mark: &str, text: &str) {
    if marks.wait(mark) {
        exchange.reply(text);
    } else {
        // The client has its own way to say that this failed.
        exchange.close();
    }
}

fn parts(exchange: &mut Exchange<'_>, marks: &Marks, kind: &str, text: impl Fn(usize) -> String) {
    exchange.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nCache-Control: no-cache\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    ));
    for number in 1..=3 {
        let text = text(number);
        exchange.send(format!("{:x}\r\n{text}\r\n", text.len()));
        if !marks.wait(&format!("part-{number}")) {
            return exchange.close();
        }
    }
    exchange.send("0\r\n\r\n");
}

/// Reads a chunked body: its second piece is sent only after the first has
/// been seen here.
fn pieces(exchange: &mut Exchange<'_>, marks: &Marks) {
    let first = exchange.read_raw("5\r\nfirst".len());
    if first != b"5\r\nfirst" {
        exchange.reply(&format!("first came {:?}", String::from_utf8_lossy(&first)));
        return exchange.close();
    }
    marks.set("first");
    let second = exchange.read_raw("\r\n6\r\nsecond\r\n0\r\n\r\n".len());
    exchange.reply(&format!("then came {:?}", String::from_utf8_lossy(&second)));
    exchange.close();
}
