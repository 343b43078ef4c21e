//! Tests of the access log: its buffers, and who writes them.

use std::sync::atomic::Ordering;

use std::path::Path;

use super::*;

#[test]
fn what_the_writer_cannot_keep_up_with_is_counted() {
    let log = Arc::new(AccessLog::default());
    let sink = Arc::new(Sink::open(Some(Path::new("/dev/null")), Format::Json).unwrap());
    // Nobody writes: the thread begins with the first sink.
    for _ in 0..WAITING + 3 {
        log.put(&sink, b"one\ntwo\n".to_vec());
    }
    assert_eq!(log.lost(), 6);
    assert_eq!(log.waiting.load(Ordering::Relaxed), WAITING);
}

#[test]
fn what_a_full_disk_does_not_take_is_counted() {
    let sink = Sink::open(Some(Path::new("/dev/full")), Format::Json).unwrap();
    assert_eq!(sink.write(b"one\ntwo\n"), 2);
    assert_eq!(sink.write(b"three\n"), 1);
}

#[test]
fn buffers_are_handed_over_whole_and_in_order() {
    use tokio::runtime::{Builder, LocalOptions};
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(in_order());
}

async fn in_order() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let log = Arc::new(AccessLog::default());
    let buffer = Rc::new(AccessBuffer::new(Arc::clone(&log)));
    let say = |text: &str| {
        buffer.write(|_, out, _| {
            out.extend_from_slice(text.as_bytes());
            true
        });
    };
    say("nobody listens");
    assert!(!buffer.is_on());
    log.switch(Some(Sink::open(Some(&first), Format::Json).unwrap())).unwrap();
    assert!(buffer.is_on());
    let long = "x".repeat(FULL / 2);
    for _ in 0..5 {
        say(&long);
    }
    log.switch(Some(Sink::open(Some(&second), Format::Combined).unwrap())).unwrap();
    say("second");
    log.switch(None).unwrap();
    say("nobody");
    log.end().await;
    let read = |path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&first), format!("{long}\n").repeat(5));
    assert_eq!(read(&second), "second\n");
    assert_eq!(log.lost(), 0);
}

/// A pipe that two processes write to has whole lines.
#[test]
fn a_pipe_gets_pieces_that_the_system_keeps_together() {
    let (_reader, writer) = io::pipe().unwrap();
    let pipe = sink::Open::new(std::fs::File::from(std::os::fd::OwnedFd::from(writer)));
    let file = sink::Open::new(tempfile::tempfile().unwrap());
    let long = "y".repeat(5000) + "\n";
    let text = ("x".repeat(99) + "\n").repeat(100) + &long + &"z\n".repeat(10);
    assert_eq!(file.piece(text.as_bytes()), text.as_bytes());
    let mut rest = text.as_bytes();
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let piece = pipe.piece(rest);
        assert_eq!(piece.last(), Some(&b'\n'));
        lengths.push(piece.len());
        rest = &rest[piece.len()..];
    }
    assert_eq!(lengths, [4000, 4000, 2000, 5001, 20]);
}

/// Else the space of a file that was removed would never be free.
#[test]
fn a_file_that_the_log_has_left_is_closed_by_who_has_nothing_to_say() {
    use tokio::runtime::{Builder, LocalOptions};
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(AccessLog::default());
        let buffer = Rc::new(AccessBuffer::new(Arc::clone(&log)));
        let path = folder.path().join("log");
        log.switch(Some(Sink::open(Some(&path), Format::Json).unwrap())).unwrap();
        let sink = Arc::downgrade(locked(&log.sink).as_ref().unwrap());
        buffer.write(|_, out, _| {
            out.push(b'1');
            true
        });
        log.switch(None).unwrap();
        let end = std::time::Instant::now() + AGE * 20;
        while sink.strong_count() > 0 {
            assert!(std::time::Instant::now() < end, "it is open still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    });
}
