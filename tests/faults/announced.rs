//! What our ends tell each other in READY, and what others make of it.

use crate::support::raw::{Raw, command, frame, greeting, property};
use crate::support::{Over, PATIENCE};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;
use wiremesh::{Context, Profile, Pull, Push};

/// The value of the property in the READY command that the peer at `endpoint` sends to a PUSH.
fn announced_at(endpoint: &str) -> Option<Vec<u8>> {
    announced_by(&mut Raw::connect(endpoint).expect("somebody listens"), "PUSH")
}

fn announced_by(raw: &mut Raw, kind: &str) -> Option<Vec<u8>> {
    raw.write_all(&greeting()).expect("writes");
    raw.read_exact(&mut [0; 64]).expect("a greeting");
    let mut ready = b"\x05READY".to_vec();
    property(&mut ready, "Socket-Type", kind.as_bytes());
    raw.write_all(&command(&ready)).expect("writes");
    let mut header = [0; 2];
    raw.read_exact(&mut header).expect("a header");
    let mut body = vec![0; header[1].into()];
    raw.read_exact(&mut body).expect("a command");
    let mut rest = body.strip_prefix(b"\x05READY").expect("READY");
    let mut found = None;
    while let [size, more @ ..] = rest {
        let (name, more) = more.split_at((*size).into());
        let (size, more) = more.split_at(4);
        let size = u32::from_be_bytes(size.try_into().expect("four octets"));
        let (value, more) = more.split_at(size as usize);
        if name == b"X-Wiremesh" {
            assert!(found.replace(value.to_vec()).is_none(), "once");
        }
        rest = more;
    }
    found
}

#[test]
fn one_property_says_what_helps_our_own_ends_and_only_if_wanted() {
    let context = Context::new();
    let pull = Pull::builder().context(&context).max_message_size(1_000_000u64).build().unwrap();
    let value = announced_at(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).expect("announced");
    assert_eq!(value.len(), 30);
    assert_eq!((value[0], &value[2..10]), (2, &1_000_000u64.to_be_bytes()[..]));
    assert_eq!(value[26..], (1u32 << 18).to_be_bytes(), "at least so many frames, unless the option says less");
    let pull = Pull::builder().context(&context).max_message_frames(300u32).build().unwrap();
    let value = announced_at(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).expect("announced");
    assert_eq!(value[26..], 300u32.to_be_bytes());
    let unlimited = Pull::builder().context(&context).max_message_size(0u64).max_message_frames(u32::MAX);
    let pull = unlimited.build().unwrap();
    let value = announced_at(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).expect("announced");
    assert_eq!((&value[2..10], &value[26..]), (&[0xFF; 8][..], &[0xFF; 4][..]));
    for silent in [
        Pull::builder().context(&context).announce(false).build().unwrap(),
        Pull::builder().context(&context).profile(Profile::Libzmq).build().unwrap(),
    ] {
        assert_eq!(announced_at(silent.bind("tcp://127.0.0.1:*").unwrap().as_str()), None);
    }
}

#[test]
fn a_token_belongs_to_one_endpoint_of_one_socket_and_comes_back_with_it() {
    let context = Context::new();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let push = Push::builder().context(&context).reconnect_interval(Duration::from_millis(1)).build().unwrap();
    let mut tokens = Vec::new();
    for listener in &listeners {
        push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        let token = || {
            let mut raw = Raw::accepted(listener.accept().unwrap().0);
            announced_by(&mut raw, "PULL").expect("announced")[10..26].to_vec()
        };
        tokens.push(token());
        assert_eq!(token(), tokens[tokens.len() - 1], "it connects again");
    }
    for _ in 0..2 {
        let pull = Pull::in_context(&context);
        for _ in 0..2 {
            tokens.push(
                announced_at(pull.bind("tcp://127.0.0.1:*").unwrap().as_str()).expect("announced")[10..26].to_vec(),
            );
        }
    }
    let count = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), count, "each endpoint has its own");
}

#[test]
fn properties_nobody_knows_and_spoilt_ones_of_ours_do_no_harm() {
    let pull = Pull::in_context(&Context::new());
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    for (name, value) in [("X-Other", &b"x"[..]), ("X-Wiremesh", b""), ("X-Wiremesh", b"\0"), ("x-wiremesh", &[9; 300])]
    {
        let mut raw = Raw::connect(endpoint.as_str()).unwrap();
        let mut ready = b"\x05READY".to_vec();
        property(&mut ready, "Socket-Type", b"PUSH");
        property(&mut ready, name, value);
        let mut long = vec![6];
        long.extend_from_slice(&(ready.len() as u64).to_be_bytes());
        long.extend_from_slice(&ready);
        raw.write_all(&[&greeting()[..], &long, &frame(false, name.as_bytes())].concat()).unwrap();
        assert_eq!(pull.recv_timeout(PATIENCE).unwrap(), name);
    }
}

#[test]
fn the_token_is_not_shown_to_the_application() {
    for over in Over::STREAMS {
        let context = Context::new();
        let (pull, push) = (Pull::in_context(&context), Push::in_context(&context));
        push.connect(pull.bind(over.wildcard()).unwrap().as_str()).unwrap();
        push.wait_for_peers(1, PATIENCE).unwrap();
        for peer in push.peers() {
            assert!(peer.properties.iter().all(|(name, _)| name == "Socket-Type"), "{peer:?}");
        }
    }
    let taken = Push::builder().metadata(vec![("X-wiremesh".to_owned(), "mine".into())]).build();
    assert!(taken.is_err(), "applications may not announce it");
}
