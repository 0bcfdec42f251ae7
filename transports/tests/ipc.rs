//! What `ipc` adds to the contract: its addresses, and whose a socket file is.

#![cfg(unix)]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wiremesh_transports::{Ipc, LinkOptions, Listener, Purpose, Stream, Transport, adopt_unix};

#[test]
fn good_forms_pass_the_check() {
    let longest = "x".repeat(107);
    for good in ["/tmp/x.sock", "relative", "./@not-abstract", "with space and ünïcode", "a:b;c", &longest] {
        for purpose in [Purpose::Bind, Purpose::Connect] {
            assert_eq!(Ipc.check(good, purpose), Ok(()));
        }
    }
    assert_eq!(Ipc.check("*", Purpose::Bind), Ok(()));
    #[cfg(target_os = "linux")]
    assert_eq!(Ipc.check("@name", Purpose::Connect), Ok(()));
}

#[test]
fn wrong_forms_are_refused_with_the_reason() {
    let too_long = "x".repeat(108);
    let far_too_long = "x".repeat(1 << 20);
    for (wrong, reason) in [
        ("", "missing"),
        ("@", "missing"),
        ("a\0b", "NUL"),
        ("@a\0b", "NUL"),
        (&too_long, "108 bytes, at most 107"),
        (&far_too_long, "1048576 bytes"),
    ] {
        for purpose in [Purpose::Bind, Purpose::Connect] {
            let error = Ipc.check(wrong, purpose).unwrap_err();
            assert!(error.problem().contains(reason), "{error}");
            assert!(error.to_string().len() < 1000);
        }
        assert_eq!(bind(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Ipc.connect(wrong, &LinkOptions::default()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(Ipc.check("*", Purpose::Connect).unwrap_err().problem().contains("only be bound"));
}

#[test]
fn the_longest_path_can_be_bound() {
    let folder = TempDir::new().unwrap();
    let path = format!("{}/", folder.path().display());
    let path = path.clone() + &"x".repeat(107 - path.len());
    let listener = bind(&path).unwrap();
    marry(&*listener);
}

#[test]
fn closing_removes_the_file() {
    let (_folder, path) = place();
    let listener = bind(&path).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    listener.close();
    assert!(!exists(&path));
    drop(bind(&path).unwrap());
    assert!(!exists(&path));
}

#[test]
fn a_live_listener_is_never_displaced() {
    let (_folder, path) = place();
    let foreign = UnixListener::bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&path), "{error}");
    foreign.accept().unwrap();
    UnixStream::connect(&path).unwrap();
    foreign.accept().unwrap();
}

#[test]
fn a_listener_with_a_full_backlog_is_alive() {
    let (_folder, path) = place();
    let mut options = LinkOptions::default();
    options.backlog = 1;
    let listener = Ipc.bind(&path, &options).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match Ipc.connect(&path, &options) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 1000, "the backlog has no end");
    };
    #[cfg(target_os = "linux")]
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert_eq!(bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse, "{full}");
    while listener.accept().is_ok() {}
    Ipc.connect(&path, &options).unwrap();
}

#[test]
fn a_dead_socket_file_is_replaced() {
    let (_folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    assert!(exists(&path), "the standard library leaves the file");
    let listener = bind(&path).unwrap();
    marry(&*listener);
    drop(listener);
    assert!(!exists(&path));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let (folder, path) = place();
    fs::write(&path, "precious").unwrap();
    let error = bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("a file that is not a socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

    let sub = folder.path().join("folder");
    fs::create_dir(&sub).unwrap();
    let error = bind(sub.to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("a directory that is not a socket"), "{error}");
    assert!(sub.is_dir());
}

#[test]
fn a_symbolic_link_is_left_alone_wherever_it_leads() {
    let (folder, path) = place();
    let link = folder.path().join("link");
    for made in [false, true] {
        if made {
            drop(UnixListener::bind(&path).unwrap());
        }
        symlink(&path, &link).unwrap();
        assert_eq!(bind(link.to_str().unwrap()).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(exists(&path), made);
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_live_datagram_socket_is_left_alone() {
    let (_folder, path) = place();
    let _foreign = UnixDatagram::bind(&path).unwrap();
    let refused = bind(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert!(refused.to_string().contains("not a stream socket"), "{refused}");
    assert!(exists(&path));
}

#[test]
fn a_file_that_somebody_else_put_in_our_place_is_left_alone() {
    let (_folder, path) = place();
    let listener = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let newer = UnixListener::bind(&path).unwrap();
    drop(listener);
    UnixStream::connect(&path).unwrap();
    newer.accept().unwrap();

    let listener = bind_again(&path, newer);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(listener);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

/// Closes a foreign listener, which leaves its file, and binds in its place.
fn bind_again(path: &str, foreign: UnixListener) -> Box<dyn Listener> {
    drop(foreign);
    bind(path).unwrap()
}

#[test]
fn a_file_that_has_gone_is_no_harm() {
    let (folder, path) = place();
    let listener = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(folder);
    drop(listener);
}

#[test]
fn of_many_binders_of_a_dead_file_one_wins() {
    for _ in 0..20 {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(4);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let binders: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        bind(&path)
                    })
                })
                .collect();
            binders.into_iter().map(|binder| binder.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert!(losers.iter().all(|outcome| outcome.as_ref().unwrap_err().kind() == ErrorKind::AddrInUse));
        let [Ok(winner)] = &winners[..] else { panic!("{} binders have won", winners.len()) };
        while winner.accept().is_ok() {}
        marry(&**winner);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_replaced_while_another_holds_the_folder() {
    use std::os::fd::AsRawFd;

    let (folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    let held = fs::File::open(folder.path()).unwrap();
    lock(held.as_raw_fd());
    let error = bind(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("lock"), "{error}");
    let other = folder.path().join("other");
    assert!(bind(other.to_str().unwrap()).is_ok(), "a free path needs no lock");
    drop(held);
    assert!(bind(&path).is_ok());
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library of this Rust version has no file locks")]
fn lock(descriptor: i32) {
    // SAFETY: the call has no preconditions in memory.
    assert_eq!(unsafe { libc::flock(descriptor, libc::LOCK_EX) }, 0);
}

#[test]
fn a_star_makes_a_private_folder_and_removes_it() {
    let listener = bind("*").unwrap();
    let path = listener.local_address();
    let folder = Path::new(&path).parent().unwrap().to_owned();
    assert!(folder.is_absolute());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    marry(&*listener);
    let another = bind("*").unwrap();
    assert_ne!(another.local_address(), path);
    listener.close();
    assert!(!folder.exists());
}

#[test]
fn what_others_put_into_the_folder_of_a_star_stays() {
    let listener = bind("*").unwrap();
    let path = listener.local_address();
    let folder = Path::new(&path).parent().unwrap().to_owned();
    fs::write(folder.join("note"), "precious").unwrap();
    drop(listener);
    assert!(!exists(&path));
    assert_eq!(fs::read_to_string(folder.join("note")).unwrap(), "precious");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let (folder, _) = place();
    let error = bind(folder.path().join("no/such").to_str().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Opening such a file waits until somebody writes to it.
#[test]
fn a_folder_that_is_a_pipe_is_an_error() {
    let (folder, _) = place();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = pipe.join("socket").to_str().unwrap().to_owned();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(bind(&path).map(drop)));
    let outcome = is_done.recv_timeout(Duration::from_secs(10)).expect("it does not wait");
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn connecting_to_a_path_without_a_listener_fails() {
    let (_folder, path) = place();
    let options = LinkOptions::default();
    assert_eq!(Ipc.connect(&path, &options).unwrap_err().kind(), ErrorKind::NotFound);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(Ipc.connect(&path, &options).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn the_peer_is_vouched_for() {
    let listener = bind("*").unwrap();
    let (client, server) = marry(&*listener);
    let owner = {
        use std::os::unix::fs::MetadataExt;
        let file = fs::metadata(listener.local_address()).unwrap();
        (file.uid(), file.gid())
    };
    for stream in [client, server] {
        let peer = stream.credentials().unwrap();
        assert_eq!((peer.uid, peer.gid), owner);
        #[cfg(target_os = "linux")]
        assert_eq!(peer.pid, Some(std::process::id()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_has_no_file_and_is_known_to_others() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("wiremesh-test-abstract-{}", std::process::id());
    let listener = bind(&format!("@{name}")).unwrap();
    assert_eq!(listener.local_address(), format!("@{name}"));
    assert!(!exists(&format!("@{name}")));
    // Exactly this name, without padding: that is what other programs connect to.
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(bind(&format!("@{name}")).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn an_adopted_listener_accepts_and_its_file_stays() {
    let (_folder, path) = place();
    let listener = adopt_unix(UnixListener::bind(&path).unwrap()).unwrap();
    assert_eq!(listener.local_address(), path);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    marry(&*listener);
    listener.close();
    assert!(exists(&path));
}

#[test]
#[cfg(target_os = "linux")]
fn a_stream_that_is_widened_takes_more_before_it_blocks_unless_an_option_says_how_much() {
    let (_folder, path) = place();
    let listener = bind(&path).unwrap();
    let taken = |options: &LinkOptions, times: usize| {
        let client = Ipc.connect(&path, options).unwrap();
        (0..times).for_each(|_| client.widen());
        fill(&*client)
    };
    let (plain, mut told) = (LinkOptions::default(), LinkOptions::default());
    told.send_buffer = Some(30_000);
    let narrow = taken(&plain, 0);
    let wide = taken(&plain, 1);
    assert!(wide > narrow + narrow / 2, "{wide} octets instead of {narrow}");
    assert_eq!(taken(&plain, 9), wide, "once is enough");
    assert_eq!(taken(&told, 1), taken(&told, 0));
    drop(listener);
}

/// How many octets a stream takes that nobody reads.
fn fill(stream: &dyn Stream) -> usize {
    let (body, mut taken) = ([7; 4096], 0);
    loop {
        match stream.write_vectored(&[std::io::IoSlice::new(&body)]) {
            Ok(octets) => taken += octets,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return taken;
            }
        }
    }
}

fn bind(address: &str) -> std::io::Result<Box<dyn Listener>> {
    Ipc.bind(address, &LinkOptions::default())
}

/// A folder of our own and a free path in it.
fn place() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket").to_str().unwrap().to_owned();
    (folder, path)
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn marry(listener: &dyn Listener) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let client = Ipc.connect(&listener.local_address(), &LinkOptions::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            other => return (client, other.unwrap()),
        }
    }
}
