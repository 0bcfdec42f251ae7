//! Options: the table against libzmq's names, numbers and defaults, every way to set one, and that each takes effect.

#[macro_use]
mod common;
#[path = "common/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Net, until};
use raw::Raw;
use wiremesh::options::{Effect, ReconnectStop, RouterNotify, table};
use wiremesh::protocol::ProtocolError;
use wiremesh::{
    AnySocket, Cause, Context, Dealer, Error, EventKind, Monitor, Profile, Pull, Push, RecvError, Req, Router,
    SendFailure, Setting, SocketKind, Sub, XPub, XSub,
};

over!([tcp ipc inproc]:
    the_timeouts_are_what_plain_calls_wait
    a_timeout_changes_at_once
    spinning_changes_nothing_but_time
    an_endpoint_keeps_the_options_it_was_made_with
    a_byte_mark_bounds_what_waits
);

over!([tcp ipc]:
    a_connection_is_refused_once_where_retries_stop_at_refusal
    a_failed_handshake_ends_the_endpoint_where_that_is_asked_for
);

/// libzmq's options as far as this library has them: number, name, default, and our own default where it differs. Typed
/// from libzmq's documentation, not made from our table.
const LIBZMQ: &[(u16, &str, &str, Option<&str>)] = &[
    (4, "ZMQ_AFFINITY", "0", None),
    (5, "ZMQ_ROUTING_ID", "empty", None),
    (11, "ZMQ_SNDBUF", "none", None),
    (12, "ZMQ_RCVBUF", "none", None),
    (17, "ZMQ_LINGER", "none (zero for SUB and XSUB)", None),
    (18, "ZMQ_RECONNECT_IVL", "100 ms", None),
    (19, "ZMQ_BACKLOG", "100", Some("1024")),
    (21, "ZMQ_RECONNECT_IVL_MAX", "0", Some("5 s")),
    (22, "ZMQ_MAXMSGSIZE", "none", Some("1 GiB")),
    (23, "ZMQ_SNDHWM", "1000", Some("16384")),
    (24, "ZMQ_RCVHWM", "1000", Some("16384")),
    (27, "ZMQ_RCVTIMEO", "none", None),
    (28, "ZMQ_SNDTIMEO", "none", None),
    (33, "ZMQ_ROUTER_MANDATORY", "false", None),
    (34, "ZMQ_TCP_KEEPALIVE", "none", None),
    (35, "ZMQ_TCP_KEEPALIVE_CNT", "none", None),
    (36, "ZMQ_TCP_KEEPALIVE_IDLE", "none", None),
    (37, "ZMQ_TCP_KEEPALIVE_INTVL", "none", None),
    (39, "ZMQ_IMMEDIATE", "false", None),
    (40, "ZMQ_XPUB_VERBOSE", "false", None),
    (42, "ZMQ_IPV6", "false", Some("true")),
    (51, "ZMQ_PROBE_ROUTER", "false", None),
    (52, "ZMQ_REQ_CORRELATE", "false", None),
    (53, "ZMQ_REQ_RELAXED", "false", None),
    (54, "ZMQ_CONFLATE", "false", None),
    (56, "ZMQ_ROUTER_HANDOVER", "false", None),
    (57, "ZMQ_TOS", "none", None),
    (61, "ZMQ_CONNECT_ROUTING_ID", "empty", None),
    (66, "ZMQ_HANDSHAKE_IVL", "30 s", None),
    (69, "ZMQ_XPUB_NODROP", "false", None),
    (71, "ZMQ_XPUB_MANUAL", "false", None),
    (72, "ZMQ_XPUB_WELCOME_MSG", "empty, which sends none", None),
    (74, "ZMQ_INVERT_MATCHING", "false", None),
    (75, "ZMQ_HEARTBEAT_IVL", "0", None),
    (76, "ZMQ_HEARTBEAT_TTL", "0", None),
    (77, "ZMQ_HEARTBEAT_TIMEOUT", "none", None),
    (78, "ZMQ_XPUB_VERBOSER", "false", None),
    (79, "ZMQ_CONNECT_TIMEOUT", "none", None),
    (80, "ZMQ_TCP_MAXRT", "none", None),
    (92, "ZMQ_BINDTODEVICE", "none", None),
    (95, "ZMQ_METADATA", "none", None),
    (97, "ZMQ_ROUTER_NOTIFY", "nothing", None),
    (98, "ZMQ_XPUB_MANUAL_LAST_VALUE", "false", None),
    (108, "ZMQ_ONLY_FIRST_SUBSCRIBE", "false", None),
    (109, "ZMQ_RECONNECT_STOP", "never", None),
    (110, "ZMQ_HELLO_MSG", "empty, which sends none", None),
    (111, "ZMQ_DISCONNECT_MSG", "empty, which delivers none", None),
    (112, "ZMQ_PRIORITY", "none", None),
    (113, "ZMQ_BUSY_POLL", "none", None),
    (114, "ZMQ_HICCUP_MSG", "empty, which delivers none", None),
    (115, "ZMQ_XSUB_VERBOSE_UNSUBSCRIBE", "false", None),
];

/// Options libzmq does not have.
const OURS: &[(&str, &str)] = &[
    ("send_byte_mark", "64 MiB"),
    ("receive_byte_mark", "64 MiB"),
    ("max_message_frames", "16777216"),
    ("give_up_after", "3"),
    ("max_subscriptions", "1000000"),
    ("profile", "wiremesh"),
    ("spin", "0"),
    ("adaptive_spin", "true"),
    ("linger_patience", "30 s"),
    ("max_connections", "0"),
    ("half_open_limit", "1024"),
    ("announce", "true"),
    ("tcp_congestion_control", "none"),
];

#[test]
fn the_table_has_libzmqs_names_numbers_and_defaults_or_says_otherwise() {
    let mut found: BTreeMap<u16, _> =
        table().iter().filter(|row| row.zmq_number != 0).map(|row| (row.zmq_number, row)).collect();
    for (number, name, default, ours) in LIBZMQ {
        let row = found.remove(number).unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(row.zmq_name, *name);
        assert_eq!(row.default, ours.unwrap_or(default), "{name}");
    }
    assert!(found.is_empty(), "not in the list of this test: {:?}", found.values());
    let ours: Vec<(&str, &str)> =
        table().iter().filter(|row| row.zmq_number == 0).map(|row| (row.name, row.default)).collect();
    assert_eq!(ours, OURS);
    assert!(table().iter().all(|row| (row.zmq_number == 0) == row.zmq_name.is_empty()));
}

#[test]
fn each_row_of_the_table_is_complete_and_there_is_one_for_each_name() {
    let mut names: Vec<&str> = table().iter().map(|row| row.name).collect();
    for row in table() {
        assert!(!row.unit.is_empty() && !row.range.is_empty() && !row.default.is_empty(), "{row:?}");
        assert!(!row.kinds.is_empty(), "{row:?}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table().len());
}

#[test]
fn the_defaults_are_what_the_table_says() {
    for kind in SocketKind::ALL {
        let options = format!("{:?}", AnySocket::new(kind).options());
        let fields = options.strip_prefix("Options { ").and_then(|rest| rest.strip_suffix(" }")).expect("a structure");
        let values: Vec<(&str, String)> = fields
            .split(", ")
            .map(|field| field.split_once(": ").expect("a name and a value"))
            .map(|(name, value)| (name, plain(value)))
            .collect();
        let promised: Vec<(&str, String)> = table()
            .iter()
            .map(|row| match row.name {
                // What its row says in parentheses.
                "linger" if kind.subscribes() => (row.name, plain("0")),
                _ => (row.name, plain(row.default)),
            })
            .collect();
        assert_eq!(values, promised, "{kind}");
    }
}

/// A value without the ways in which the table and `Debug` write it differently.
fn plain(value: &str) -> String {
    // What follows explains the value.
    let value = value.split([',', '(']).next().filter(|_| !value.starts_with("Some(")).unwrap_or(value).trim();
    let value = value.strip_prefix("Some(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(value);
    let number = |text: &str| text.parse::<u64>().expect("a number before its unit");
    match (value, value.split_once(' ')) {
        ("None" | "[]", _) => "none".to_owned(),
        ("b\"\"", _) => "empty".to_owned(),
        ("0ns", _) => "0".to_owned(),
        (_, Some((count, "MiB"))) => (number(count) << 20).to_string(),
        (_, Some((count, "GiB"))) => (number(count) << 30).to_string(),
        _ => value.replace(' ', "").to_lowercase(),
    }
}

#[test]
fn every_option_has_a_builder_method() {
    let second = Duration::from_secs(1);
    let context = Context::builder().engine_threads(3).build();
    let options = Push::builder()
        .context(&context)
        .send_mark(1u32)
        .send_byte_mark(2u64)
        .max_message_size(5u64)
        .max_message_frames(6u32)
        .give_up_after(8u32)
        .conflate(true)
        .affinity(6u64)
        .profile(Profile::Libzmq)
        .send_timeout(second)
        .spin(second / 2)
        .adaptive_spin(false)
        .linger(second * 3)
        .linger_patience(second * 16)
        .reconnect_interval(second * 4)
        .reconnect_max(second * 5)
        .reconnect_stop(ReconnectStop::Either)
        .connect_timeout(second * 6)
        .immediate(true)
        .handshake_timeout(second * 7)
        .max_connections(17u32)
        .half_open_limit(8u32)
        .heartbeat_interval(second * 8)
        .heartbeat_timeout(second * 9)
        .heartbeat_ttl(second * 10)
        .announce(false)
        .metadata(vec![("X-a".to_owned(), "b".into())])
        .tcp_keepalive(true)
        .tcp_keepalive_count(9u32)
        .tcp_keepalive_idle(second * 11)
        .tcp_keepalive_interval(second * 12)
        .tcp_max_retransmit(second * 13)
        .tcp_congestion_control("reno")
        .send_buffer(10usize)
        .receive_buffer(11usize)
        .type_of_service(12u8)
        .priority(13u32)
        .busy_poll(second * 14)
        .bind_to_device("lo")
        .backlog(14u32)
        .ipv6(false)
        .build()
        .unwrap()
        .options();
    assert_eq!((options.send_mark, options.send_byte_mark, options.affinity), (1, 2, 6));
    assert_eq!((options.max_message_size, options.max_message_frames, options.give_up_after), (5, 6, 8));
    assert_eq!(options.send_timeout, Some(second));
    assert_eq!((options.spin, options.linger), (second / 2, Some(second * 3)));
    assert_eq!((options.linger_patience, options.max_connections), (Some(second * 16), 17));
    assert_eq!((options.reconnect_interval, options.reconnect_max), (Some(second * 4), second * 5));
    assert_eq!((options.reconnect_stop, options.connect_timeout), (ReconnectStop::Either, Some(second * 6)));
    assert_eq!((options.handshake_timeout, options.half_open_limit), (Some(second * 7), 8));
    assert_eq!((options.heartbeat_interval, options.heartbeat_timeout), (second * 8, Some(second * 9)));
    assert_eq!(options.heartbeat_ttl, second * 10);
    assert_eq!(options.metadata, [("X-a".to_owned(), "b".into())]);
    assert!(options.conflate && options.immediate && !options.ipv6 && !options.adaptive_spin && !options.announce);
    assert_eq!(options.profile, Profile::Libzmq);
    assert_eq!((options.tcp_keepalive, options.tcp_keepalive_count), (Some(true), Some(9)));
    assert_eq!((options.tcp_keepalive_idle, options.tcp_keepalive_interval), (Some(second * 11), Some(second * 12)));
    assert_eq!((options.tcp_max_retransmit, options.busy_poll), (Some(second * 13), Some(second * 14)));
    assert_eq!((options.send_buffer, options.receive_buffer), (Some(10), Some(11)));
    assert_eq!(options.tcp_congestion_control.as_deref(), Some("reno"));
    assert_eq!((options.type_of_service, options.priority), (Some(12), Some(13)));
    assert_eq!((options.bind_to_device.as_deref(), options.backlog), (Some("lo"), 14));
}

#[test]
fn every_option_of_some_kinds_has_a_builder_method() {
    let second = Duration::from_secs(1);
    let router = Router::builder()
        .receive_mark(3u32)
        .receive_byte_mark(4u64)
        .receive_timeout(second * 2)
        .routing_id("id")
        .mandatory(true)
        .handover(true)
        .connect_routing_id(vec![1, 2])
        .probe_router(true)
        .router_notify(RouterNotify::Both)
        .hello_message("hello")
        .disconnect_message("gone")
        .build()
        .unwrap()
        .options();
    assert_eq!((router.receive_mark, router.receive_byte_mark), (3, 4));
    assert_eq!((router.receive_timeout, router.router_notify), (Some(second * 2), RouterNotify::Both));
    assert_eq!((&router.routing_id[..], &router.connect_routing_id[..]), (&b"id"[..], &[1, 2][..]));
    assert_eq!((&router.hello_message[..], &router.disconnect_message[..]), (&b"hello"[..], &b"gone"[..]));
    assert!(router.mandatory && router.handover && router.probe_router);
    assert_eq!(Dealer::builder().hiccup_message("lost").build().unwrap().options().hiccup_message, "lost");
    let req = Req::builder().correlate(true).relaxed(true).build().unwrap().options();
    assert!(req.correlate && req.relaxed);
    let xpub = XPub::builder()
        .max_subscriptions(7u32)
        .verbose(true)
        .verboser(true)
        .nodrop(true)
        .manual(true)
        .manual_last_value(true)
        .welcome_message("welcome")
        .invert_matching(true)
        .only_first_subscribe(true)
        .build()
        .unwrap()
        .options();
    assert_eq!((xpub.max_subscriptions, &xpub.welcome_message[..]), (7, &b"welcome"[..]));
    for switch in [
        xpub.verbose,
        xpub.verboser,
        xpub.nodrop,
        xpub.manual,
        xpub.manual_last_value,
        xpub.invert_matching,
        xpub.only_first_subscribe,
        XSub::builder().verbose_unsubscribe(true).build().unwrap().options().verbose_unsubscribe,
    ] {
        assert!(switch);
    }
}

/// One value for each option, a permissible one.
fn one_of_each() -> Vec<Setting> {
    let second = Duration::from_secs(1);
    vec![
        Setting::SendMark(1),
        Setting::SendByteMark(1),
        Setting::ReceiveMark(1),
        Setting::ReceiveByteMark(1),
        Setting::MaxMessageSize(1),
        Setting::MaxMessageFrames(1),
        Setting::GiveUpAfter(1),
        Setting::MaxSubscriptions(1),
        Setting::Conflate(true),
        Setting::Affinity(1),
        Setting::Profile(Profile::Libzmq),
        Setting::SendTimeout(Some(second)),
        Setting::ReceiveTimeout(Some(second)),
        Setting::Spin(Duration::from_micros(1)),
        Setting::AdaptiveSpin(true),
        Setting::Linger(Some(Duration::ZERO)),
        Setting::LingerPatience(None),
        Setting::ReconnectInterval(None),
        Setting::ReconnectMax(second),
        Setting::ReconnectStop(ReconnectStop::Refused),
        Setting::ConnectTimeout(Some(second)),
        Setting::Immediate(true),
        Setting::HandshakeTimeout(None),
        Setting::MaxConnections(1),
        Setting::HalfOpenLimit(1),
        Setting::HeartbeatInterval(second),
        Setting::HeartbeatTimeout(Some(second)),
        Setting::HeartbeatTtl(second),
        Setting::Announce(false),
        Setting::Metadata(vec![("X-a".to_owned(), "b".into())]),
        Setting::RoutingId("id".into()),
        Setting::Mandatory(true),
        Setting::RouterNotify(RouterNotify::Both),
        Setting::HelloMessage("hello".into()),
        Setting::DisconnectMessage("gone".into()),
        Setting::HiccupMessage("lost".into()),
        Setting::Handover(true),
        Setting::ConnectRoutingId("id".into()),
        Setting::ProbeRouter(true),
        Setting::Correlate(true),
        Setting::Relaxed(true),
        Setting::Verbose(true),
        Setting::Verboser(true),
        Setting::Nodrop(true),
        Setting::Manual(true),
        Setting::ManualLastValue(true),
        Setting::WelcomeMessage("welcome".into()),
        Setting::InvertMatching(true),
        Setting::OnlyFirstSubscribe(true),
        Setting::VerboseUnsubscribe(true),
        Setting::TcpKeepalive(Some(true)),
        Setting::TcpKeepaliveCount(Some(1)),
        Setting::TcpKeepaliveIdle(Some(second)),
        Setting::TcpKeepaliveInterval(Some(second)),
        Setting::TcpMaxRetransmit(Some(second)),
        Setting::TcpCongestionControl(Some("reno".to_owned())),
        Setting::SendBuffer(Some(1)),
        Setting::ReceiveBuffer(Some(1)),
        Setting::TypeOfService(Some(1)),
        Setting::Priority(Some(1)),
        Setting::BusyPoll(Some(second)),
        Setting::BindToDevice(Some("lo".to_owned())),
        Setting::Backlog(1),
        Setting::Ipv6(false),
    ]
}

#[test]
fn a_socket_takes_the_options_that_mean_something_to_it_and_refuses_the_others() {
    let settings = one_of_each();
    let names: Vec<&str> = settings.iter().map(|setting| setting.row().name).collect();
    assert_eq!(names, table().iter().map(|row| row.name).collect::<Vec<_>>());
    for kind in SocketKind::ALL {
        let socket = AnySocket::new(kind);
        socket.bind("tcp://127.0.0.1:*").unwrap();
        for setting in one_of_each() {
            let row = setting.row();
            let made = AnySocket::builder(kind).set(setting.clone()).build().map(drop);
            let changed = socket.set(setting);
            if !row.kinds.contains(&kind) {
                for error in [made.unwrap_err(), changed.unwrap_err()] {
                    assert!(matches!(error, Error::Option { option, .. } if option == row.name), "{error:?}");
                    let text = error.to_string();
                    assert!(text.contains(&format!("nothing to a {kind};")), "{text}");
                    assert!(row.kinds.iter().all(|kind| text.contains(kind.name())), "{text}");
                }
                continue;
            }
            made.unwrap();
            match row.effect {
                Effect::Live | Effect::NewEndpoints => changed.unwrap(),
                Effect::WhenMade => {
                    let error = changed.unwrap_err();
                    assert!(matches!(error, Error::Option { option, .. } if option == row.name), "{error:?}");
                    assert!(error.to_string().contains("builder"), "{error}");
                }
            }
        }
    }
    let router = Router::new();
    router.set(Setting::Handover(true)).unwrap();
    router.set(Setting::Backlog(1)).unwrap();
    assert!(router.options().handover && router.options().backlog == 1);
}

#[test]
fn an_affinity_for_engine_threads_that_are_not_there_is_refused() {
    let context = Context::builder().engine_threads(2).build();
    for affinity in [4u64, 1 << 63, 0xff00] {
        let error = Push::builder().context(&context).affinity(affinity).build().map(drop).unwrap_err();
        assert!(matches!(error, Error::Option { option: "affinity", .. }), "{error:?}");
        assert!(error.to_string().contains("the context has 2"), "{error}");
    }
    Push::builder().context(&context).affinity(6u64).build().unwrap();
    let context = Context::builder().engine_threads(64).build();
    Push::builder().context(&context).affinity(1u64 << 63).build().unwrap();
    let context = Context::builder().engine_threads(63).build();
    Push::builder().context(&context).affinity(1u64 << 63).build().map(drop).unwrap_err();
}

#[test]
#[cfg(target_os = "linux")]
fn only_the_engine_threads_of_its_affinity_drive_a_socket() {
    // Only engine threads drive here, so what they have used of the processor tells who did the work.
    let name = format!("af{}", std::process::id() % 10_000);
    let context = Context::builder().engine_threads(3).thread_name(&name).engine_only(true).build();
    let chosen = |kind| AnySocket::builder(kind).context(&context).affinity(4u64).build().unwrap();
    let pairs: Vec<(AnySocket, AnySocket)> =
        (0..4).map(|_| (chosen(SocketKind::Push), chosen(SocketKind::Pull))).collect();
    for (push, pull) in &pairs {
        push.connect(pull.bind("tcp://127.0.0.1:*").unwrap()).unwrap();
        push.wait_for_peers(1, LONG).unwrap();
    }
    // The first two have gone to sleep once since they were made, and nobody has reason to wake them again.
    let threads = [0, 1, 2].map(|index| thread_named(&format!("{name}-{index}")));
    until("the threads without sockets sleep", || threads[..2].iter().all(|thread| is_asleep(thread)));
    let used = || threads.each_ref().map(|thread| processor_time(thread));
    let before = used();
    for (push, pull) in pairs.iter().cycle().take(100) {
        push.send("x").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "x");
    }
    let after = used();
    assert_eq!((before[0], before[1]), (after[0], after[1]), "the first two have slept all the time");
    assert!(after[2] > before[2], "{before:?} {after:?}");
}

/// The folder of a thread of this process, as soon as it has given itself its name.
#[cfg(target_os = "linux")]
fn thread_named(name: &str) -> PathBuf {
    let mut found = None;
    until("the thread has its name", || {
        let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        found = tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
        found.is_some()
    });
    found.unwrap()
}

#[cfg(target_os = "linux")]
fn is_asleep(thread: &Path) -> bool {
    // The state follows the name, which stands in parentheses.
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

/// How many nanoseconds a thread has used of a processor.
#[cfg(target_os = "linux")]
fn processor_time(thread: &Path) -> u64 {
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_value_out_of_range_is_an_error_that_names_it_and_what_is_allowed() {
    let socket = Router::new();
    for (setting, named) in [
        (Setting::MaxMessageFrames(0), "max_message_frames"),
        (Setting::Spin(Duration::from_secs(2)), "spin"),
        (Setting::HalfOpenLimit(0), "half_open_limit"),
        (Setting::HeartbeatTtl(Duration::from_secs(6554)), "heartbeat_ttl"),
        (Setting::RoutingId(vec![1; 256].into()), "routing_id"),
        (Setting::RoutingId(vec![0, 1].into()), "routing_id"),
        (Setting::ConnectRoutingId(vec![1; 256].into()), "connect_routing_id"),
        (Setting::ConnectRoutingId(vec![0].into()), "connect_routing_id"),
        (Setting::Metadata(vec![("no-x".to_owned(), "v".into())]), "metadata"),
        (Setting::Metadata(vec![("X-no spaces".to_owned(), "v".into())]), "metadata"),
        (Setting::Metadata(vec![("X-".to_owned() + &"a".repeat(300), "v".into())]), "metadata"),
        (Setting::Metadata(vec![("X-large".to_owned(), vec![0; 1 << 20].into())]), "metadata"),
        (Setting::Backlog(0), "backlog"),
    ] {
        for error in [
            socket.set(setting.clone()).unwrap_err(),
            Router::builder().set(setting.clone()).build().map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Option { option, .. } if option == named), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(named) && text.len() < 2000, "{text}");
            assert!(text.contains(setting.row().range) || named == "metadata", "{text}");
        }
    }
    let extremes = [
        Setting::HeartbeatTtl(Duration::from_millis(6_553_500)),
        Setting::RoutingId(vec![1; 255].into()),
        Setting::SendTimeout(Some(Duration::MAX)),
        Setting::ReconnectInterval(Some(Duration::MAX)),
        Setting::Linger(Some(Duration::MAX)),
    ];
    for setting in extremes {
        socket.set(setting).unwrap();
    }
}

#[test]
fn the_first_wrong_option_of_a_builder_is_what_it_reports() {
    let error = Push::builder().send_mark(1u32).backlog(0u32).half_open_limit(0u32).build().map(drop).unwrap_err();
    assert!(matches!(error, Error::Option { option: "backlog", .. }), "{error:?}");
}

fn the_timeouts_are_what_plain_calls_wait(net: &Net) {
    let wait = Duration::from_millis(30);
    let dealer = Dealer::builder().context(&net.context).send_timeout(wait).receive_timeout(wait).build().unwrap();
    dealer.bind(net.fresh()).unwrap();
    let start = Instant::now();
    assert_eq!(dealer.recv().unwrap_err(), RecvError::TimedOut);
    assert!(start.elapsed() >= wait);
    let start = Instant::now();
    assert_eq!(dealer.send("x").unwrap_err().reason, SendFailure::TimedOut);
    assert!(start.elapsed() >= wait);
}

fn a_timeout_changes_at_once(net: &Net) {
    let dealer = Dealer::in_context(&net.context);
    dealer.bind(net.fresh()).unwrap();
    dealer.set(Setting::ReceiveTimeout(Some(Duration::ZERO))).unwrap();
    dealer.set(Setting::SendTimeout(Some(Duration::ZERO))).unwrap();
    assert_eq!(dealer.recv().unwrap_err(), RecvError::TimedOut);
    assert_eq!(dealer.send("x").unwrap_err().reason, SendFailure::TimedOut);
}

fn spinning_changes_nothing_but_time(net: &Net) {
    let spin = Duration::from_millis(5);
    let left = Dealer::builder().context(&net.context).spin(spin).build().unwrap();
    let right = Dealer::builder().context(&net.context).spin(spin).build().unwrap();
    net.join(&left, &[&right]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..1000 {
                right.send(right.recv_timeout(LONG).unwrap()).unwrap();
            }
        });
        for round in 0..1000u32 {
            left.send(round.to_le_bytes()).unwrap();
            assert_eq!(left.recv_timeout(LONG).unwrap().first(), round.to_le_bytes());
        }
    });
    assert_eq!(left.recv_timeout(Duration::from_millis(20)).unwrap_err(), RecvError::TimedOut);
    left.close();
    assert_eq!(left.recv().unwrap_err(), RecvError::Closed);
}

fn an_endpoint_keeps_the_options_it_was_made_with(net: &Net) {
    let dealer = Dealer::builder().context(&net.context).routing_id("first").build().unwrap();
    let routers = [(); 2].map(|()| Router::in_context(&net.context));
    net.join(&routers[0], &[&dealer]);
    dealer.set(Setting::RoutingId("second".into())).unwrap();
    net.join(&routers[1], &[&dealer]);
    for (router, id) in routers.iter().zip(["first", "second"]) {
        router.send_to(id, id).unwrap();
        assert_eq!(dealer.recv_timeout(LONG).unwrap(), id);
    }
}

fn a_byte_mark_bounds_what_waits(net: &Net) {
    let push = Push::builder().context(&net.context).send_byte_mark(10_000u64).build().unwrap();
    push.connect(net.fresh()).unwrap();
    let sent = std::iter::from_fn(|| push.try_send(vec![0; 1000]).ok()).count();
    assert!((8..=10).contains(&sent), "{sent} messages of 1000 octets under a mark of 10,000");
    assert_eq!(push.try_send(vec![0; 1000]).unwrap_err().reason, SendFailure::WouldBlock);
}

/// The next event of which `wanted` says something.
fn event<T>(monitor: &Monitor, wanted: impl Fn(&EventKind) -> Option<T>) -> T {
    loop {
        let event = monitor.recv_timeout(LONG).expect("the event comes");
        if let Some(found) = wanted(&event.kind) {
            return found;
        }
    }
}

fn lost(kind: &EventKind) -> Option<ProtocolError> {
    match kind {
        EventKind::Disconnected(Cause::Protocol(error)) => Some(error.clone()),
        EventKind::Disconnected(other) => panic!("{other:?}"),
        _ => None,
    }
}

fn a_connection_is_refused_once_where_retries_stop_at_refusal(net: &Net) {
    let push = Push::builder().context(&net.context).reconnect_stop(ReconnectStop::Refused).build().unwrap();
    let endpoint = net.fresh();
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        // A path that is not there is not refused: somebody may yet make it. A dead socket file refuses.
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    let monitor = push.monitor();
    push.connect(&endpoint).unwrap();
    event(&monitor, |kind| match kind {
        EventKind::Closed(Cause::System(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            Some(())
        }
        EventKind::ConnectRetried(_) => panic!("it tries again"),
        _ => None,
    });
    until("the endpoint has ended", || push.connected().is_empty());
    if let Some(path) = endpoint.strip_prefix("ipc://") {
        std::fs::remove_file(path).unwrap();
    }
}

fn a_failed_handshake_ends_the_endpoint_where_that_is_asked_for(net: &Net) {
    let sub = Sub::builder().context(&net.context).reconnect_stop(ReconnectStop::HandshakeFailed).build().unwrap();
    let pull = Pull::in_context(&net.context);
    let endpoint = net.fresh();
    pull.bind(&endpoint).unwrap();
    sub.connect(&endpoint).unwrap();
    until("the endpoint has ended", || sub.connected().is_empty());
}

/// How often a sign of life is asked for here, and how long it is waited for.
const BEAT: Duration = Duration::from_millis(20);
const SILENCE: Duration = Duration::from_millis(300);

/// Long enough for a peer to be given up several times.
const LIFE: Duration = Duration::from_millis(1200);

/// Whether a story goes well in one of five attempts. A busy machine may keep a peer from answering for so long that it
/// is given up with reason; without answers it is given up every time.
fn goes_well(mut story: impl FnMut() -> bool) -> bool {
    (0..5).any(|_| story())
}

#[test]
fn a_silent_peer_is_disconnected_when_heartbeats_are_on() {
    let pull = Pull::builder().heartbeat_interval(BEAT).heartbeat_timeout(SILENCE).build().unwrap();
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let begin = Instant::now();
    let mut peer = Raw::connect(endpoint.address());
    peer.shake_hands(1, "PUSH");
    let (flags, ping) = peer.read_frame();
    assert!(flags == 0x04 && ping.starts_with(b"\x04PING"), "{ping:?}");
    let error = event(&monitor, lost);
    assert!(matches!(error, ProtocolError::HeartbeatTimeout { .. }), "{error:?}");
    assert!(begin.elapsed() >= BEAT + SILENCE, "it is given its time");
    until("it is gone", || pull.stats().connections == 0);
}

#[test]
fn a_peer_that_answers_heartbeats_stays() {
    let pull = Pull::builder()
        .heartbeat_interval(BEAT)
        .heartbeat_timeout(SILENCE)
        .heartbeat_ttl(Duration::from_millis(6_553_500))
        .build()
        .unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    assert!(goes_well(|| {
        let mut peer = Raw::connect(endpoint.address());
        peer.shake_hands(1, "PUSH");
        let end = Instant::now() + LIFE;
        while Instant::now() < end {
            if answer_ping(&mut peer).is_err() {
                return false;
            }
        }
        peer.0.write_all(b"\0\x0astill here").is_ok()
            && pull.recv_timeout(SILENCE).is_ok_and(|message| message == "still here")
    }));
}

/// Waits for a PING that announces the longest time to live, and answers it.
fn answer_ping(peer: &mut Raw) -> std::io::Result<()> {
    let mut head = [0; 2];
    peer.0.read_exact(&mut head)?;
    let mut ping = vec![0; head[1].into()];
    peer.0.read_exact(&mut ping)?;
    assert_eq!((head[0], &ping[..5], &ping[5..7]), (0x04, &b"\x04PING"[..], &65535u16.to_be_bytes()[..]));
    let pong = [b"\x04PONG", &ping[7..]].concat();
    peer.0.write_all(&[&[0x04, pong.len() as u8][..], &pong].concat())
}

#[test]
fn sockets_of_this_library_keep_each_other_alive() {
    // One side asks, so that only answers keep the connection: where both ask, each other's questions would do.
    for asking in [SocketKind::Push, SocketKind::Pull] {
        assert!(
            goes_well(|| {
                let net = Net::new("tcp");
                let [push, pull] = [SocketKind::Push, SocketKind::Pull].map(|kind| {
                    let builder = AnySocket::builder(kind).context(&net.context);
                    let beat = if kind == asking { BEAT } else { Duration::ZERO };
                    builder.heartbeat_interval(beat).heartbeat_timeout(SILENCE).build().unwrap()
                });
                net.join(&pull, &[&push]);
                let monitor = push.monitor();
                if monitor.recv_timeout(LIFE).is_some() {
                    return false;
                }
                push.send("still here").unwrap();
                pull.recv_timeout(LONG).unwrap() == "still here"
            }),
            "nothing happens on a quiet connection where {asking} asks"
        );
    }
}

#[test]
fn a_ping_is_answered_with_its_context_and_its_time_to_live_is_kept() {
    let pull = Pull::new();
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut peer = Raw::connect(endpoint.address());
    peer.shake_hands(1, "PUSH");
    // A tenth of a second, and a context of four octets.
    peer.write_frame(0x04, b"\x04PING\x00\x01abcd");
    assert_eq!(peer.read_frame(), (0x04, b"\x04PONGabcd".to_vec()));
    let error = event(&monitor, lost);
    assert!(matches!(error, ProtocolError::TtlExpired { .. }), "{error:?}");
}

#[test]
fn a_peer_that_does_not_finish_its_handshake_in_time_is_closed() {
    let pull = Pull::builder().handshake_timeout(Duration::from_millis(50)).build().unwrap();
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut silent = Raw::connect(endpoint.address());
    let failed = |kind: &EventKind| match kind {
        EventKind::HandshakeFailed(cause) => Some(cause.clone()),
        EventKind::HandshakeSucceeded => panic!("it said nothing"),
        _ => None,
    };
    let cause = event(&monitor, failed);
    assert!(matches!(cause, Cause::Protocol(ProtocolError::HandshakeTimeout { .. })), "{cause:?}");
    silent.read_to_end();
    // A greeting is a sign of life, but no handshake.
    let mut slow = Raw::connect(endpoint.address());
    slow.greet(1);
    let cause = event(&monitor, failed);
    assert!(matches!(cause, Cause::Protocol(ProtocolError::HandshakeTimeout { .. })), "{cause:?}");
}

#[test]
fn a_server_that_does_not_finish_the_handshake_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::builder()
        .handshake_timeout(Duration::from_millis(30))
        .reconnect_interval(Duration::from_millis(1))
        .linger(Duration::ZERO)
        .build()
        .unwrap();
    push.connect(format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    push.send("hello").unwrap();
    let mut silent = Raw::accept(&listener);
    silent.read_to_end();
    push.set(Setting::HandshakeTimeout(None)).unwrap();
    // The endpoint keeps its options, so the next one has to be quick; some attempt will be.
    let mut peer = Raw::accept(&listener);
    peer.shake_hands(1, "PULL");
    assert_eq!(peer.read_frame(), (0, b"hello".to_vec()));
}

#[test]
fn a_message_beyond_the_largest_size_closes_the_connection() {
    let pull = Pull::builder().max_message_size(1000u64).build().unwrap();
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let long = |flags: u8, announced: u64, body: usize| {
        let mut frame = vec![flags | 0x02];
        frame.extend_from_slice(&announced.to_be_bytes());
        frame.resize(frame.len() + body, b'x');
        frame
    };
    for (octets, good) in [
        (long(0, 1000, 1000), true),
        ([long(1, 500, 500), long(0, 500, 500)].concat(), true),
        // Announced, not sent: nothing is waited for.
        (long(0, 1001, 0), false),
        (long(0, 1 << 62, 0), false),
        (long(0, u64::MAX, 0), false),
        // The frames of a message count together.
        ([long(1, 600, 600), long(0, 600, 0)].concat(), false),
    ] {
        let mut peer = Raw::connect(endpoint.address());
        peer.shake_hands(1, "PUSH");
        peer.write(&octets);
        if good {
            assert_eq!(pull.recv_timeout(LONG).unwrap().byte_len(), 1000);
        } else {
            event(&monitor, |kind| match kind {
                EventKind::Disconnected(Cause::Protocol(_)) => Some(()),
                _ => None,
            });
            peer.read_to_end();
        }
    }
    assert_eq!(pull.try_recv().unwrap_err(), RecvError::WouldBlock);
}

#[test]
fn a_message_of_too_many_frames_closes_the_connection() {
    let pull = Pull::builder().max_message_frames(3u32).build().unwrap();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut peer = Raw::connect(endpoint.address());
    peer.shake_hands(1, "PUSH");
    peer.write(b"\x01\x00\x01\x00\x00\x00");
    assert_eq!(pull.recv_timeout(LONG).unwrap().len(), 3);
    peer.write(b"\x01\x00\x01\x00\x01\x00");
    peer.write(b"\x01\x00");
    peer.read_to_end();
    assert_eq!(pull.try_recv().unwrap_err(), RecvError::WouldBlock);
}

#[test]
fn half_open_connections_beyond_the_limit_evict_one_another() {
    let pull = Pull::builder().half_open_limit(2u32).build().unwrap();
    let monitor = pull.monitor();
    let endpoint = pull.bind("tcp://127.0.0.1:*").unwrap();
    let strangers: Vec<Raw> = (0..10).map(|_| Raw::connect(endpoint.address())).collect();
    for _ in 0..8 {
        event(&monitor, |kind| matches!(kind, EventKind::HandshakeFailed(Cause::Replaced(_))).then_some(()));
    }
    // Who is up no longer counts.
    let pushes = [(); 4].map(|()| Push::new());
    for push in &pushes {
        push.connect(&endpoint).unwrap();
        push.send("hello").unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), "hello");
    }
    assert_eq!(pull.stats().connections, 4);
    drop(strangers);
}

#[test]
#[cfg(target_os = "linux")]
fn an_attempt_ends_after_the_connect_timeout() {
    // A listener that accepts nothing and whose queue is full leaves further attempts without an answer.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    let push = Push::builder().connect_timeout(Duration::from_millis(50)).build().unwrap();
    let monitor = push.monitor();
    push.connect(format!("tcp://{address}")).unwrap();
    event(&monitor, |kind| match kind {
        EventKind::Closed(Cause::System(error)) => {
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            Some(())
        }
        EventKind::Connected => panic!("the queue is not full"),
        _ => None,
    });
    drop(fillers);
}
