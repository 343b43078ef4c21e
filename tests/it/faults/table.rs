//! The faults a connected backend can have. Each is met by GET and POST, by
//! clients of HTTP/1.1 and HTTP/2, alone and beside a backup.

use super::faulty::{After, Deed, Faulty, Got, Line, Speaks, ask};
use crate::support::{Backend, Site, SiteBuilder};

/// One row: a backend's fault and what comes of it.
struct Fault {
    name: &'static str,
    deed: Deed,
    then: Then,
    /// What the log calls it.
    cause: &'static str,
    phase: &'static str,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// A GET goes to the next backend; a POST, and without another backend a GET
    /// too, gets this status.
    Repeat(u16),
    /// The same, but nobody knows whether any of it was sent: a POST may go on.
    MayRepeat(u16),
    /// This status, whoever else is there.
    Stop(u16),
    /// 200, this much of the body and maybe more, and no end.
    Cut(&'static str),
    /// 200 and this body, although something is wrong.
    Whole(&'static str),
}

const fn fault(name: &'static str, deed: Deed, then: Then, said: &'static str) -> Fault {
    let phase = if let Then::Cut(_) = then { "body" } else { "response" };
    Fault { name, deed, then, cause: said, phase }
}

const SIZED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
const UNSIZED: &str = "HTTP/1.1 200 OK\r\n\r\nhalf";
const HALF: Then = Then::Cut("half");
const CLOSED: &str = "closed_before_header";
const SILENT: &str = "header_timeout";
const INVALID: &str = "invalid_header";
const BROKEN: &str = "body_closed";
const STALLED: &str = "body_timeout";

fn ends(line: &mut Line<'_>, bytes: &str) -> After {
    line.say(bytes);
    After::Ends
}

fn resets(line: &mut Line<'_>, bytes: &str) -> After {
    line.say(bytes);
    line.reset()
}

fn hangs(line: &mut Line<'_>, bytes: &str) -> After {
    line.say(bytes);
    line.hang()
}

fn stays(line: &mut Line<'_>, bytes: &str) -> After {
    line.say(bytes);
    After::Stays
}

/// These, and once the client has them the others.
fn seen<'a, 'b>(line: &'a mut Line<'b>, bytes: &str) -> &'a mut Line<'b> {
    line.say(bytes);
    line.until_seen();
    line
}

/// The same again and again, for as long as somebody takes it.
fn for_ever(line: &mut Line<'_>, bytes: &str, millis: u64) -> After {
    while line.say(bytes) {
        line.pause(millis);
    }
    After::Ends
}

/// No header comes.
const BEFORE: [Fault; 14] = {
    use Deed::{Accepted, Asked};
    use Then::{MayRepeat, Repeat};
    [
        fault("reset at once", Accepted(|l| l.reset()), MayRepeat(502), CLOSED),
        fault("closed at once", Accepted(|_| After::Ends), MayRepeat(502), CLOSED),
        fault("silent at once", Accepted(|l| l.hang()), Repeat(504), SILENT),
        fault("reset", Asked(|l| l.reset()), Repeat(502), CLOSED),
        fault("closed", Asked(|_| After::Ends), Repeat(502), CLOSED),
        fault("silent", Asked(|l| l.hang()), Repeat(504), SILENT),
        fault("head reset", Asked(|l| resets(l, "HTTP/1.1 200 OK\r\nA:")), Repeat(502), CLOSED),
        fault("head closed", Asked(|l| ends(l, "HTTP/1.1 200 OK\r\nA:")), Repeat(502), CLOSED),
        fault("head silent", Asked(|l| hangs(l, "HTTP/1.1 200 OK\r\nA:")), Repeat(504), SILENT),
        fault("line closed", Asked(|l| ends(l, "HTTP/1.1")), Repeat(502), CLOSED),
        // Every byte is a sign of life, but not one of a header.
        fault(
            "head for ever",
            Asked(|l| {
                l.say("HTTP/1.1 200 OK\r\nX-Long: ");
                for_ever(l, "x", 50)
            }),
            Repeat(504),
            SILENT,
        ),
        fault("102 closed", Asked(|l| ends(l, "HTTP/1.1 102 P\r\n\r\n")), Repeat(502), CLOSED),
        fault("102 silent", Asked(|l| hangs(l, "HTTP/1.1 102 P\r\n\r\n")), Repeat(504), SILENT),
        fault("half 102", Asked(|l| hangs(l, "HTTP/1.1 102 P\r\n")), Repeat(504), SILENT),
    ]
};

/// What comes is no header.
const INSTEAD: [Fault; 9] = {
    use Deed::{Accepted, Asked};
    use Then::Stop;
    [
        fault("garbage", Asked(|l| ends(l, "garbage\r\n\r\n")), Stop(502), INVALID),
        fault("a banner", Accepted(|l| hangs(l, "SSH-2.0-OpenSSH_9.2\r\n")), Stop(502), INVALID),
        fault("a TLS alert", Asked(|l| stays(l, "\x15\x03\x03\0\x02\x02\x28")), Stop(502), INVALID),
        fault(
            "two lengths",
            Asked(|l| {
                stays(l, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk")
            }),
            Stop(502),
            INVALID,
        ),
        fault(
            "a length and chunks",
            Asked(|l| {
                let fields = "Content-Length: 5\r\nTransfer-Encoding: chunked";
                stays(l, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n0\r\n\r\n"))
            }),
            Stop(502),
            INVALID,
        ),
        fault(
            "a header of 200 KiB",
            Asked(|l| {
                let long = "x".repeat(200 << 10);
                stays(l, &format!("HTTP/1.1 200 OK\r\nX-Long: {long}\r\n\r\n"))
            }),
            Stop(502),
            INVALID,
        ),
        fault(
            "200 KiB of fields",
            Asked(|l| {
                let many = "X-Many: 1\r\n".repeat(200 << 10 >> 4);
                stays(l, &format!("HTTP/1.1 200 OK\r\n{many}\r\n"))
            }),
            Stop(502),
            INVALID,
        ),
        fault(
            "103 for ever",
            Asked(|l| for_ever(l, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0)),
            Stop(502),
            INVALID,
        ),
        fault(
            "100 for ever",
            Asked(|l| for_ever(l, "HTTP/1.1 100 Continue\r\n\r\n", 0)),
            Stop(502),
            INVALID,
        ),
    ]
};

/// The body has no good end.
const WITHIN: [Fault; 14] = {
    use Deed::Asked;
    [
        fault("length closed", Asked(|l| ends(seen(l, SIZED), "")), HALF, BROKEN),
        fault("length reset", Asked(|l| seen(l, SIZED).reset()), HALF, BROKEN),
        fault("length silent", Asked(|l| hangs(l, SIZED)), HALF, STALLED),
        fault("chunks closed", Asked(|l| ends(seen(l, CHUNKED), "")), HALF, BROKEN),
        fault("chunks reset", Asked(|l| seen(l, CHUNKED).reset()), HALF, BROKEN),
        fault("chunks silent", Asked(|l| hangs(l, CHUNKED)), HALF, STALLED),
        fault("chunk closed", Asked(|l| ends(seen(l, CHUNKED), "5\r\nha")), HALF, BROKEN),
        fault("no chunk size", Asked(|l| stays(seen(l, CHUNKED), "xyz\r\n")), HALF, BROKEN),
        fault("a negative size", Asked(|l| stays(seen(l, CHUNKED), "-1\r\nx\r\n")), HALF, BROKEN),
        fault(
            "a size beyond all",
            Asked(|l| stays(seen(l, CHUNKED), "fffffffffffffffff\r\nx\r\n")),
            HALF,
            BROKEN,
        ),
        fault(
            "more than its size",
            Asked(|l| stays(seen(l, CHUNKED), "2\r\nlonger\r\n0\r\n\r\n")),
            HALF,
            BROKEN,
        ),
        fault("last chunk closed", Asked(|l| ends(seen(l, CHUNKED), "0\r\n")), HALF, BROKEN),
        fault(
            "trailers without an end",
            Asked(|l| {
                let long = "x".repeat(64 << 10);
                stays(seen(l, CHUNKED), &format!("0\r\nX-Long: {long}"))
            }),
            HALF,
            BROKEN,
        ),
        fault("end by reset", Asked(|l| seen(l, UNSIZED).reset()), HALF, BROKEN),
    ]
};

/// What the client gets is right.
const RIGHT: [Fault; 5] = {
    use Deed::Asked;
    use Then::Whole;
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    [
        fault(
            "byte by byte",
            Asked(|l| {
                l.say("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n");
                for byte in b"alive all along" {
                    l.pause(50);
                    l.say([*byte]);
                }
                After::Ends
            }),
            Whole("alive all along"),
            "",
        ),
        fault("bytes behind it", Asked(|l| stays(l, &format!("{OK}more"))), Whole("ok"), ""),
        fault("an answer behind it", Asked(|l| stays(l, &OK.repeat(2))), Whole("ok"), ""),
        fault(
            "bytes behind the last chunk",
            Asked(|l| stays(l, &format!("{CHUNKED}0\r\n\r\nmore"))),
            Whole("half"),
            "",
        ),
        fault(
            "a late answer behind it",
            Asked(|l| {
                l.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                l.say("ok");
                l.until_seen();
                stays(l, OK)
            }),
            Whole("ok"),
            "",
        ),
    ]
};

/// Who waits for a timeout shall not wait long; the others have all the time.
fn site(fault: &Fault, b1: &Backend, keys: &str) -> SiteBuilder {
    let site = Site::https().backend_with(b1, keys);
    match fault.cause {
        SILENT | STALLED | "" => {
            site.rule("path = \"/fault\"\ngroup = \"web\"\nresponse_timeout = \"300ms\"")
        }
        _ => site,
    }
}

/// What the client must wait for before the fault goes on.
fn until(fault: &Fault) -> &'static [u8] {
    match fault.then {
        Then::Cut(part) | Then::Whole(part) => part.as_bytes(),
        _ => b"",
    }
}

/// The client's part of what must be; true if the request went to the backup.
fn check(fault: &Fault, asked: &str, got: &Got, post: bool, beside: bool) -> bool {
    let context = || format!("{} {asked}: {got:?}", fault.name);
    let text = String::from_utf8_lossy(&got.body).into_owned();
    let elsewhere = text.starts_with("B2\n");
    let failed = |status| {
        assert_eq!((got.status, got.whole), (Some(status), true), "{}", context());
        assert!(text.contains("request id"), "{}", context());
    };
    match fault.then {
        Then::Repeat(_) | Then::MayRepeat(_) if beside && (!post || elsewhere) => {
            assert_eq!((got.status, got.whole), (Some(200), true), "{}", context());
            assert!(elsewhere, "{}", context());
            assert!(!post || matches!(fault.then, Then::MayRepeat(_)), "{}", context());
        }
        Then::Repeat(status) | Then::MayRepeat(status) | Then::Stop(status) => failed(status),
        Then::Cut(part) => {
            assert_eq!((got.status, got.whole), (Some(200), false), "{}", context());
            assert!(text.starts_with(part) && text.len() <= 9, "{}", context());
        }
        Then::Whole(body) => {
            assert_eq!((got.status, got.whole), (Some(200), true), "{}", context());
            assert_eq!(text, body, "{}", context());
        }
    }
    elsewhere
}

/// The line names the fault as it must. A reset that comes at once may be seen
/// while the connection is made.
fn names(fault: &Fault, line: &str) -> bool {
    let is = |cause: &str, phase: &str| {
        line.contains(&format!("cause={cause} ")) && line.contains(&format!("phase={phase} "))
    };
    let early = matches!(fault.then, Then::MayRepeat(_));
    is(fault.cause, fault.phase) || (early && is("connect_error", "connect"))
}

/// One fault, all requests.
fn meet(fault: &Fault, beside: bool) {
    let b1 = Faulty::new(fault.deed);
    let b2 = Backend::named("B2");
    let mut site = match beside {
        true => site(fault, &b1.backend, "max_fails = 0").backend_with(&b2, "backup = true"),
        false => site(fault, &b1.backend, "max_fails = 0"),
    }
    .start();
    let (mut failed, mut moved) = (0, 0);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for method in ["GET", "POST"] {
            let before = b2.executions();
            let gate = b1.arm();
            let got = ask(&site, speaks, method, &gate, until(fault));
            let executed = b1.disarm() + b2.executions() - before;
            let asked = format!("{speaks:?} {method} beside: {beside}");
            let post = method == "POST";
            let elsewhere = check(fault, &asked, &got, post, beside);
            assert!(executed <= if post { 1 } else { 2 }, "{} {asked}: {executed}", fault.name);
            assert_eq!(b2.executions() - before, usize::from(elsewhere), "{} {asked}", fault.name);
            moved += usize::from(elsewhere);
            failed += usize::from(!elsewhere && !matches!(fault.then, Then::Whole(_)));
            // The next one meets nothing of it.
            let next = site.get("/next").expect(200);
            assert_eq!(next.text(), "B1 GET /next", "{} {asked}", fault.name);
        }
    }
    assert_eq!(b1.reused(), 0, "{}", fault.name);
    let log = site.lockgate.log_to_the_end();
    let lines = |what: &str| -> usize {
        let lines = log.lines().filter(|line| line.contains(what));
        lines.filter(|line| names(fault, line)).count()
    };
    let context = format!("{} beside: {beside}\n{log}", fault.name);
    assert_eq!((lines("request failed"), lines("attempt failed")), (failed, moved), "{context}");
}

/// A few at a time: some wait for a timeout most of theirs.
fn meet_all(faults: &'static [Fault]) {
    for some in faults.chunks(3) {
        std::thread::scope(|scope| {
            for fault in some {
                scope.spawn(|| meet(fault, false));
                scope.spawn(|| meet(fault, true));
            }
        });
    }
}

#[test]
fn without_a_header_a_get_moves_on_and_a_post_does_not() {
    meet_all(&BEFORE);
}

#[test]
fn what_is_no_header_is_502_and_its_connection_is_not_used_again() {
    meet_all(&INSTEAD);
}

#[test]
fn a_body_without_a_good_end_is_cut_for_every_client() {
    meet_all(&WITHIN);
}

#[test]
fn an_answer_is_right_however_slow_and_whatever_follows_it() {
    meet_all(&RIGHT);
}

/// One failure of a backend that may have one: the others never count.
#[test]
fn what_fails_before_the_head_counts_against_the_backend_and_nothing_else_does() {
    for fault in BEFORE.iter().chain(&INSTEAD).chain(&WITHIN).chain(&RIGHT) {
        let b1 = Faulty::new(fault.deed);
        let b2 = Backend::named("B2");
        let site = site(fault, &b1.backend, "fail_timeout = \"1h\"");
        let mut site = site.backend_with(&b2, "backup = true").start();
        let gate = b1.arm();
        ask(&site, Speaks::Http1, "GET", &gate, until(fault));
        b1.disarm();
        let ejected = site.get("/next").expect(200).backend() == "B2";
        let counts = !matches!(fault.then, Then::Cut(_) | Then::Whole(_));
        assert_eq!(ejected, counts, "{}", fault.name);
        let log = site.lockgate.log_to_the_end();
        assert_eq!(log.matches("backend ejected").count(), usize::from(counts), "{log}");
        let told = log.lines().filter(|line| line.contains("attempt failed"));
        assert!(told.clone().count() == 0 || told.clone().any(|line| names(fault, line)), "{log}");
    }
}
