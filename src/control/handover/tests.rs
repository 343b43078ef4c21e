//! Tests of what an upgrade hands over, and of what breaks off.

use super::*;

/// A lock, an admin listener, and so many listening sockets.
fn estate_of(sockets: usize) -> (tempfile::TempDir, Vec<OwnedFd>, TcpListener) {
    let dir = tempfile::tempdir().unwrap();
    let lock = StateLock::take(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let second = || OwnedFd::from(listener.try_clone().unwrap());
    let mut descriptors = vec![lock.second_handle().unwrap()];
    descriptors.extend((0..=sockets).map(|_| second()));
    (dir, descriptors, listener)
}

#[test]
fn everything_arrives_in_as_many_messages_as_it_needs() {
    for sockets in [0, 1, BATCH - BEFORE_SOCKETS, BATCH - 1, 2 * BATCH] {
        let (dir, descriptors, listener) = estate_of(sockets);
        let (old, new) = UnixStream::pair().unwrap();
        let taking = std::thread::spawn(move || receive(&new));
        give(&old, VERSION, &descriptors).unwrap();
        drop(descriptors);
        let mut estate = taking.join().unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let got = estate.sockets.get(&address).map_or(0, Vec::len);
        assert_eq!((got, estate.sockets.len()), (sockets, usize::from(sockets > 0)));
        // The lock came with it.
        assert!(StateLock::take(dir.path()).is_err());
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], 0));
        assert!(estate.admin_at(SocketAddr::from(([127, 0, 0, 1], 0))).is_some());
        assert!(estate.admin_at(elsewhere).is_none());
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let (_dir, descriptors, _listener) = estate_of(1);
    let (old, new) = UnixStream::pair().unwrap();
    give(&old, VERSION + 1, &descriptors).unwrap();
    let why = receive(&new).unwrap_err();
    assert!(why.contains("version 2") && why.contains("version 1"), "{why}");
}

#[test]
fn what_breaks_off_is_no_estate() {
    for sent in ["", "{\"version\":1}\n", "{\"version\":1,\"descriptors\":3}\n", "GET /\n"] {
        let (old, new) = UnixStream::pair().unwrap();
        (&old).write_all(sent.as_bytes()).unwrap();
        drop(old);
        assert!(receive(&new).is_err(), "{sent}");
    }
    let (old, new) = UnixStream::pair().unwrap();
    (&old).write_all(b"{\"version\":1,\"descriptors\":3}\n.").unwrap();
    // All lines, but no descriptors.
    drop(old);
    assert!(receive(&new).is_err());
}

#[test]
fn the_old_process_hears_why_the_new_one_fails() {
    let (_dir, descriptors, _listener) = estate_of(1);
    let (old, new) = UnixStream::pair().unwrap();
    let taking = std::thread::spawn(move || {
        let estate = RefCell::new(Some(receive(&new).unwrap()));
        Heir { stream: new, estate }.fail("no port is free");
    });
    let patience = Duration::from_secs(20);
    assert_eq!(offer(&old, &descriptors, patience), Err("no port is free".to_owned()));
    taking.join().unwrap();
    let error = go(&old).unwrap_err();
    assert!(error.contains("before it served"), "{error}");
}

#[test]
fn nothing_is_done_before_the_old_process_says_go() {
    let (_dir, descriptors, _listener) = estate_of(1);
    let (old, new) = UnixStream::pair().unwrap();
    let (sender, said_go) = std::sync::mpsc::channel();
    let taking = std::thread::spawn(move || {
        let estate = RefCell::new(Some(receive(&new).unwrap()));
        let heir = Heir { stream: new, estate };
        heir.ready().unwrap();
        assert!(said_go.try_recv().is_ok());
        heir.say(&Said::Serving);
    });
    offer(&old, &descriptors, Duration::from_secs(20)).unwrap();
    sender.send(()).unwrap();
    go(&old).unwrap();
    taking.join().unwrap();
    // One that never hears it does not serve.
    let (old, new) = UnixStream::pair().unwrap();
    drop(old);
    assert!(Heir { stream: new, estate: RefCell::default() }.ready().is_err());
}
