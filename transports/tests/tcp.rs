//! What `tcp` adds to the contract: its addresses, look-ups and adopted listeners.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use wiremesh_transports::{LinkOptions, Listener, Purpose, Stream, Tcp, Transport, adopt_tcp};

#[test]
fn good_forms_to_bind_pass_the_check() {
    for good in [
        "127.0.0.1:5555",
        "0.0.0.0:0",
        "*:*",
        "*:0",
        "*:65535",
        "[::]:5555",
        "[::1]:*",
        "[fe80::1%eth0]:1",
        "[fe80::1%2]:1",
        "[::ffff:127.0.0.1]:80",
        "eth0:5555",
        "br-3f_1.20:5555",
        "localhost:80",
        "host-1.example.org:80",
        "host.example.org.:00080",
    ] {
        assert_eq!(Tcp.check(good, Purpose::Bind), Ok(()));
    }
}

#[test]
fn good_forms_to_connect_pass_the_check() {
    for good in [
        "127.0.0.1:1",
        "localhost:65535",
        "[::1]:5555",
        "[fe80::1%eth0]:5555",
        "10.0.0.1;127.0.0.1:5555",
        "10.0.0.1:0;127.0.0.1:5555",
        "10.0.0.1:*;127.0.0.1:5555",
        "*;127.0.0.1:5555",
        "*:7000;127.0.0.1:5555",
        "eth0;server.example.org:5555",
        "eth0:7000;server.example.org:5555",
        "[::1];[::1]:5555",
        "[::1]:7000;[::1]:5555",
    ] {
        assert_eq!(Tcp.check(good, Purpose::Connect), Ok(()));
    }
}

/// Wrong for both purposes, and a word the error must contain.
const WRONG: &[(&str, &str)] = &[
    ("", "port is missing"),
    (":", "host is missing"),
    (":5555", "host is missing"),
    ("localhost", "port is missing"),
    ("[::1]", "port is missing"),
    ("localhost:", "port \"\""),
    ("localhost:http", "\"http\""),
    ("localhost:+80", "\"+80\""),
    ("localhost:-1", "\"-1\""),
    ("localhost: 80", "\" 80\""),
    ("localhost:80 ", "\"80 \""),
    ("localhost:0x50", "\"0x50\""),
    ("localhost:65536", "0 to 65535"),
    ("localhost:4294967376", "0 to 65535"),
    ("localhost:000080", "0 to 65535"),
    ("localhost:٣٣", "0 to 65535"),
    ("localhost:80:90", "brackets"),
    ("::1:5555", "brackets"),
    ("fe80::1%eth0:5555", "brackets"),
    ("[::1:5555", "']'"),
    ("[::1]5555", "follows"),
    ("[::1] :5555", "follows"),
    ("[]:5555", "not an IPv6"),
    ("[*]:5555", "not an IPv6"),
    ("[127.0.0.1]:5555", "not an IPv6"),
    ("[::1%]:5555", "zone"),
    ("[fe80::1%a b]:5555", "zone"),
    ("[fe80::1%a%b]:5555", "zone"),
    ("256.0.0.1:5555", "not an IPv4"),
    ("1.2.3:5555", "not an IPv4"),
    ("127.1:5555", "not an IPv4"),
    ("2130706433:5555", "not an IPv4"),
    ("a b:5555", "' '"),
    ("a/b:5555", "'/'"),
    ("hôte:5555", "'ô'"),
    ("a\0b:5555", "cannot stand in a host"),
    ("**:5555", "'*'"),
    ("127.0.0.1:5555/path", "5555/path"),
];

#[test]
fn wrong_forms_are_refused_with_the_reason() {
    for (wrong, reason) in WRONG {
        for purpose in [Purpose::Bind, Purpose::Connect] {
            let error = Tcp.check(wrong, purpose).unwrap_err();
            assert!(error.problem().contains(reason), "{error}, where {reason:?} was expected");
            assert_eq!(error.address(), *wrong);
        }
        let options = LinkOptions::default();
        assert_eq!(Tcp.bind(wrong, &options).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Tcp.resolve(wrong, &options).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let long = format!("{}:80", "x".repeat(254));
    assert!(Tcp.check(&long, Purpose::Connect).unwrap_err().problem().contains("254"));
}

#[test]
fn forms_for_one_purpose_are_refused_for_the_other() {
    for (wrong, reason) in
        [("*:5555", "can only be bound"), ("localhost:*", "can only be bound"), ("localhost:0", "port 0")]
    {
        assert_eq!(Tcp.check(wrong, Purpose::Bind), Ok(()));
        assert!(Tcp.check(wrong, Purpose::Connect).unwrap_err().problem().contains(reason), "{wrong}");
    }
    for wrong in ["10.0.0.1;127.0.0.1:5555", "10.0.0.1:1;*:5555"] {
        assert!(Tcp.check(wrong, Purpose::Bind).unwrap_err().problem().contains("source"));
    }
    for wrong in [";127.0.0.1:5555", "a;b;127.0.0.1:5555", "1.2.3.4:99999;127.0.0.1:5555"] {
        assert!(Tcp.check(wrong, Purpose::Connect).is_err(), "{wrong}");
    }
}

#[test]
fn no_text_makes_the_parser_panic_and_what_it_takes_resolves() {
    const PIECES: &[&str] = &[
        "127.0.0.1",
        "10.0.0.",
        "[::1]",
        "[fe80::1%1]",
        "[",
        "]",
        "*",
        ";",
        ":",
        ":",
        ":0",
        ":80",
        ":65535",
        ":65536",
        "%",
        "1",
        ".",
        " ",
        "é",
        "\0",
        "-",
        "_",
        "::",
    ];
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut taken = 0;
    for _ in 0..50_000 {
        let text: String = (0..=random(6)).map(|_| PIECES[random(PIECES.len())]).collect();
        let _ = Tcp.check(&text, Purpose::Bind);
        let made_of_numbers = !text.contains(['-', '_']);
        if Tcp.check(&text, Purpose::Connect).is_ok() && made_of_numbers {
            taken += 1;
            match Tcp.resolve(&text, &LinkOptions::default()) {
                Ok(resolved) => assert!(resolved.iter().all(|one| Tcp.check(one, Purpose::Connect).is_ok()), "{text}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{text}: {error}"),
            }
        }
    }
    assert!(taken > 50, "only {taken} were taken");
}

#[test]
fn only_numeric_addresses_are_connected_to() {
    for wrong in ["localhost:5555", "127.0.0.1", "127.0.0.1:*", "lo;127.0.0.1:5555", ""] {
        let error = Tcp.connect(wrong, &LinkOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[test]
fn a_wildcard_port_is_filled_in() {
    for address in ["127.0.0.1:0", "127.0.0.1:*"] {
        let bound = Tcp.bind(address, &LinkOptions::default()).unwrap().local_address();
        let port = bound.strip_prefix("127.0.0.1:").unwrap().parse::<u16>().unwrap();
        assert_ne!(port, 0);
    }
}

#[test]
fn a_wildcard_host_takes_both_families_where_there_are_two() {
    let options = LinkOptions::default();
    let listener = Tcp.bind("*:*", &options).unwrap();
    let bound = listener.local_address();
    let port = bound.rsplit_once(':').unwrap().1;
    let (_client, server) = marry(&*listener, &format!("127.0.0.1:{port}"));
    assert!(server.peer_address().starts_with("127.0.0.1:"), "{} is not written as IPv4", server.peer_address());
    assert_eq!(server.local_address(), format!("127.0.0.1:{port}"));
    if bound.starts_with("[::]") {
        let (_client, server) = marry(&*listener, &format!("[::1]:{port}"));
        assert!(server.peer_address().starts_with("[::1]:"));
    }
}

#[test]
fn without_ipv6_there_is_only_ipv4() {
    let mut options = LinkOptions::default();
    options.ipv6 = false;
    assert!(Tcp.bind("*:*", &options).unwrap().local_address().starts_with("0.0.0.0:"));
    for wrong in ["[::1]:5555", "[::]:5555"] {
        assert_eq!(Tcp.bind(wrong, &options).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Tcp.resolve(wrong, &options).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Tcp.connect(wrong, &options).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    for resolved in Tcp.resolve("localhost:5555", &options).unwrap() {
        assert_eq!(resolved, "127.0.0.1:5555");
    }
}

#[test]
fn a_host_name_resolves_to_addresses_that_connect_takes() {
    let options = LinkOptions::default();
    let listener = Tcp.bind("localhost:*", &options).unwrap();
    let port = listener.local_address().rsplit_once(':').unwrap().1.to_owned();
    assert!(listener.local_address().starts_with("127.0.0.1:"), "IPv4 is preferred to bind");
    let resolved = Tcp.resolve(&format!("localhost:{port}"), &options).unwrap();
    assert!(resolved.contains(&format!("127.0.0.1:{port}")), "{resolved:?}");
    assert_eq!(resolved.iter().filter(|address| address.starts_with("127.")).count(), 1, "each once");
    for address in resolved {
        // Refused at one address, perhaps, but understood at each.
        if let Err(error) = Tcp.connect(&address, &options) {
            assert_ne!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn a_name_nobody_has_is_an_error_that_says_so() {
    let error = Tcp.resolve("no-such-host.invalid:5555", &LinkOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    let error = Tcp.bind("no-such-interface0:5555", &LinkOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-interface0"), "{error}");
    let error = Tcp.resolve("no-such-interface0;127.0.0.1:5555", &LinkOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-interface0"), "{error}");
}

#[test]
fn an_address_of_somebody_else_cannot_be_bound() {
    let error = Tcp.bind("192.0.2.1:0", &LinkOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_name_binds_its_address() {
    let listener = Tcp.bind("lo:*", &LinkOptions::default()).unwrap();
    assert!(listener.local_address().starts_with("127.0.0.1:"));
    marry(&*listener, &listener.local_address());
}

#[cfg(target_os = "linux")]
#[test]
fn a_zone_becomes_a_number() {
    let options = LinkOptions::default();
    let resolved = Tcp.resolve("[fe80::1%lo]:5555", &options).unwrap();
    assert_eq!(resolved, ["[fe80::1%1]:5555"]);
    assert_eq!(Tcp.resolve("[fe80::1%7]:5555", &options).unwrap(), ["[fe80::1%7]:5555"]);
    let error = Tcp.resolve("[fe80::1%nope]:5555", &options).unwrap_err();
    assert!(error.to_string().contains("nope"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_source_is_kept_and_used() {
    let options = LinkOptions::default();
    let listener = Tcp.bind("127.0.0.1:*", &options).unwrap();
    let target = listener.local_address();
    for source in ["127.0.0.2", "127.0.0.2:0", "127.0.0.2:*"] {
        let resolved = Tcp.resolve(&format!("{source};{target}"), &options).unwrap();
        assert_eq!(resolved, [format!("127.0.0.2:0;{target}")]);
        let (client, server) = marry(&*listener, &resolved[0]);
        assert!(server.peer_address().starts_with("127.0.0.2:"));
        assert_eq!(server.peer_address(), client.local_address());
    }
    assert_eq!(Tcp.resolve(&format!("lo;{target}"), &options).unwrap(), [format!("127.0.0.1:0;{target}")]);
    assert_eq!(Tcp.resolve(&format!("*:7;{target}"), &options).unwrap(), [format!("0.0.0.0:7;{target}")]);
    let error = Tcp.resolve(&format!("[::1];{target}"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "the families differ");
}

#[cfg(target_os = "linux")]
#[test]
fn a_source_port_is_used() {
    let options = LinkOptions::default();
    let listener = Tcp.bind("127.0.0.1:*", &options).unwrap();
    let free = Tcp.bind("127.0.0.1:*", &options).unwrap().local_address();
    let other = Tcp.bind("127.0.0.1:*", &options).unwrap();
    for listener in [listener, other] {
        let (_client, server) = marry(&*listener, &format!("{free};{}", listener.local_address()));
        assert_eq!(server.peer_address(), free);
        // The server's end closes last, so the port lingers at ours.
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_meets_itself_counts_as_refused() {
    let options = LinkOptions::default();
    let free = Tcp.bind("127.0.0.1:*", &options).unwrap().local_address();
    let error = match Tcp.connect(&format!("{free};{free}"), &options) {
        Ok(stream) => outcome(&*stream).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// The system leaves the zone out of an address that needs none.
#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_meets_itself_counts_as_refused_whatever_zone_was_written() {
    let options = LinkOptions::default();
    let free = Tcp.bind("[::1]:*", &options).unwrap().local_address();
    let zoned = free.replace("::1]", "::1%1]");
    let error = match Tcp.connect(&format!("{free};{zoned}"), &options) {
        Ok(stream) => outcome(&*stream).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn an_adopted_listener_accepts() {
    let ours = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ours.local_addr().unwrap().to_string();
    let listener = adopt_tcp(ours).unwrap();
    assert_eq!(listener.local_address(), address);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    marry(&*listener, &address);
}

#[test]
fn a_refused_option_is_named() {
    let mut options = LinkOptions::default();
    options.keepalive = Some(true);
    options.keepalive_idle = Some(Duration::from_secs(1_000_000));
    let mut device = LinkOptions::default();
    device.bind_to_device = Some("no-such-device".to_owned());
    for (options, name) in [(options, "keepalive_idle"), (device, "bind_to_device")] {
        for error in [Tcp.bind("127.0.0.1:0", &options).unwrap_err(), Tcp.connect("127.0.0.1:9", &options).unwrap_err()]
        {
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

/// That the kernel is asked at all shows where the device does not exist.
#[test]
#[cfg(target_os = "linux")]
fn ends_bound_to_the_loopback_device_meet_over_it() {
    let mut options = LinkOptions::default();
    options.bind_to_device = Some("lo".to_owned());
    let listener = Tcp.bind("127.0.0.1:0", &options).unwrap();
    let (client, server) = marry_with(&*listener, &listener.local_address(), &options);
    assert_eq!(client.local_address(), server.peer_address());
}

fn marry(listener: &dyn Listener, resolved: &str) -> (Box<dyn Stream>, Box<dyn Stream>) {
    marry_with(listener, resolved, &LinkOptions::default())
}

fn marry_with(listener: &dyn Listener, resolved: &str, options: &LinkOptions) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let client = Tcp.connect(resolved, options).unwrap();
    let server = eventually(|| match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        other => Some(other.unwrap()),
    });
    outcome(&*client).unwrap();
    (client, server)
}

fn outcome(stream: &dyn Stream) -> io::Result<bool> {
    eventually(|| match stream.connected() {
        Ok(false) => None,
        other => Some(other),
    })
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it has not come in time");
        std::thread::yield_now();
    }
}
