//! Options that show on the wire, on either side: identities, metadata, heartbeats, ROUTER and XPUB modes, requests.

use super::body::{Body, given, hex};
use super::ends::{End, LONG, Ours, Theirs};
use super::peer::Peer;
use std::time::{Duration, Instant};
use wiremesh::SendFailure;
use wiremesh::SocketKind::*;
use wiremesh::options::RouterNotify;

const TCP: &str = "tcp://127.0.0.1:*";

#[test]
fn they_see_our_kind_our_routing_id_and_our_metadata() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "router", Router);
    let us = Ours::with(Dealer, |builder| {
        builder.routing_id("us").metadata(vec![("X-Colour".to_owned(), bytes::Bytes::from_static(b"blue"))])
    });
    us.connect(&them.bind(TCP));
    us.send(&given(["hello"]));
    let seen = them.tell("about", "Socket-Type Identity X-Colour X-Size");
    assert_eq!(seen, format!("={} ={} ={} -", hex(b"DEALER"), hex(b"us"), hex(b"blue")));
}

#[test]
fn we_see_their_kind_and_their_routing_id() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "dealer", Dealer);
    them.set("ROUTING_ID", Body::from("them"));
    let us = Ours::new(Router);
    them.connect(&us.bind(TCP));
    them.send(&given(["hello"]));
    us.expect(&given(["them", "hello"]));
    let [info] = &us.peers()[..] else { panic!("one peer") };
    assert_eq!((info.kind, &info.routing_id[..]), (Some(Dealer), &b"them"[..]));
    assert!(info.address.starts_with("127.0.0.1:"), "{}", info.address);
}

/// In milliseconds: how often a sign of life is asked for, how long it is waited for, and how long the other side is to
/// wait for the next question.
const BEAT: u32 = 30;
const SILENCE: u32 = 300;
const TO_LIVE: u32 = 400;
/// Several times as long: only answers keep a connection.
const LIFE: u32 = 1400;

/// Tells a story that goes well in one of five attempts. A busy machine may keep one of two processes from running for
/// so long that the other gives it up with reason; without answers that happens every time.
#[track_caller]
fn goes_well(mut story: impl FnMut() -> Result<String, String>) {
    let mut why = Vec::new();
    while let Err(failure) = story() {
        why.push(failure);
        assert!(why.len() < 5, "{why:?}");
    }
}

#[test]
fn our_listener_survives_their_heartbeats_and_answers_them() {
    let Some(peer) = Peer::start() else { return };
    for (ours, theirs) in [(Pull, Push), (Pub, Sub), (Router, Dealer)] {
        goes_well(|| {
            let them = Theirs::new(&peer, "them", theirs);
            them.set("HEARTBEAT_IVL", BEAT);
            them.set("HEARTBEAT_TIMEOUT", SILENCE);
            them.set("HEARTBEAT_TTL", TO_LIVE);
            them.tell("watch", "");
            let us = Ours::new(ours);
            them.connect(&us.bind(TCP));
            them.tell("event", "HANDSHAKE_SUCCEEDED");
            them.attempt("steady", &LIFE.to_string())
        });
    }
}

#[test]
fn they_answer_our_heartbeats() {
    let Some(peer) = Peer::start() else { return };
    goes_well(|| {
        let them = Theirs::new(&peer, "them", Push);
        them.tell("watch", "");
        let [beat, silence, to_live] = [BEAT, SILENCE, TO_LIVE].map(|time| Duration::from_millis(time.into()));
        let us = Ours::with(Pull, |builder| {
            builder.heartbeat_interval(beat).heartbeat_timeout(silence).heartbeat_ttl(to_live)
        });
        them.connect(&us.bind(TCP));
        them.tell("event", "HANDSHAKE_SUCCEEDED");
        them.attempt("steady", &LIFE.to_string())?;
        them.send(&given(["still here"]));
        us.expect(&given(["still here"]));
        Ok(String::new())
    });
}

#[test]
fn a_mandatory_router_knows_who_is_there() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(Router, |builder| builder.mandatory(true));
    let them = Theirs::new(&peer, "dealer", Dealer);
    them.set("ROUTING_ID", Body::from("them"));
    let endpoint = us.bind(TCP);
    assert_eq!(unroutable(&us, "them"), Some(SendFailure::Unroutable));
    them.connect(&endpoint);
    us.send_when_known(&given(["them", "hello"]));
    them.expect(&given(["hello"]));
    assert_eq!(unroutable(&us, "nobody"), Some(SendFailure::Unroutable));
    drop(them);
    let deadline = Instant::now() + LONG;
    while unroutable(&us, "them").is_none() {
        assert!(Instant::now() < deadline, "we still have their routing id");
        std::thread::yield_now();
    }
}

#[test]
fn their_mandatory_router_knows_whether_we_are_there() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "router", Router);
    them.set("ROUTER_MANDATORY", 1);
    let us = Ours::with(Dealer, |builder| builder.routing_id("us"));
    us.connect(&them.bind(TCP));
    them.send_when_known(&given(["us", "hello"]));
    us.expect(&given(["hello"]));
    drop(us);
    let deadline = Instant::now() + LONG;
    while them.attempt("send", &format!("{} =", Body::from("us"))).is_ok() {
        assert!(Instant::now() < deadline, "they still have our routing id");
    }
}

#[test]
fn the_router_that_connects_may_choose_the_name_it_uses() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "router", Router);
    let endpoint = them.bind(TCP);
    let us = Ours::with(Router, |builder| builder.routing_id("us").connect_routing_id("boss").mandatory(true));
    us.connect(&endpoint);
    us.send_when_known(&given(["boss", "ready"]));
    them.expect(&given(["us", "ready"]));
    them.send(&given(["us", "job"]));
    us.expect(&given(["boss", "job"]));
}

#[test]
fn handover_gives_a_taken_routing_id_to_the_newcomer() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(Router, |builder| builder.handover(true));
    let endpoint = us.bind(TCP);
    let [first, second] = ["first", "second"].map(|name| {
        let them = Theirs::new(&peer, name, Dealer);
        them.set("ROUTING_ID", Body::from("same"));
        them
    });
    first.connect(&endpoint);
    first.send(&given(["one"]));
    us.expect(&given(["same", "one"]));
    second.connect(&endpoint);
    second.send(&given(["two"]));
    us.expect(&given(["same", "two"]));
    us.send(&given(["same", "yours"]));
    second.expect(&given(["yours"]));
}

#[test]
fn a_taken_routing_id_is_refused_without_handover_until_its_holder_is_gone() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(Router);
    let endpoint = us.bind(TCP);
    let first = Theirs::new(&peer, "first", Dealer);
    first.set("ROUTING_ID", Body::from("same"));
    first.connect(&endpoint);
    first.send(&given(["one"]));
    us.expect(&given(["same", "one"]));
    let second = Theirs::new(&peer, "second", Dealer);
    second.set("ROUTING_ID", Body::from("same"));
    second.tell("watch", "");
    second.connect(&endpoint);
    second.send(&given(["kept"]));
    second.tell("event", "HANDSHAKE_FAILED_NO_DETAIL");
    us.send(&given(["same", "yours"]));
    first.expect(&given(["yours"]));
    drop(first);
    us.expect(&given(["same", "kept"]));
    us.send(&given(["same", "welcome"]));
    second.expect(&given(["welcome"]));
}

#[test]
fn a_probe_tells_the_router_of_us() {
    let Some(peer) = Peer::start() else { return };
    let router = Theirs::new(&peer, "router", Router);
    let us = Ours::with(Dealer, |builder| builder.probe_router(true).routing_id("us"));
    us.connect(&router.bind(TCP));
    router.expect(&given(["us", ""]));

    let ours = Ours::new(Router);
    let them = Theirs::new(&peer, "dealer", Dealer);
    them.set("PROBE_ROUTER", 1);
    them.set("ROUTING_ID", Body::from("them"));
    them.connect(&ours.bind(TCP));
    ours.expect(&given(["them", ""]));
}

#[test]
fn our_publisher_shows_their_subscriptions_as_its_mode_says() {
    let Some(peer) = Peer::start() else { return };
    let modes: [(bool, bool, &[&str]); 3] = [
        (false, false, &["\x01a", "\x01b", "\0a", "\x01c"]),
        (true, false, &["\x01a", "\x01a", "\x01b", "\0a", "\x01c"]),
        (false, true, &["\x01a", "\x01a", "\0a", "\x01b", "\0a", "\x01c"]),
    ];
    for (verbose, verboser, wanted) in modes {
        let us = Ours::with(XPub, |builder| builder.verbose(verbose).verboser(verboser));
        let endpoint = us.bind(TCP);
        let first = Theirs::new(&peer, "first", Sub);
        let second = Theirs::new(&peer, "second", Sub);
        for (number, them) in [&first, &second].into_iter().enumerate() {
            them.subscribe("a");
            them.connect(&endpoint);
            us.wait_for_subscribers(number + 1, LONG).expect("subscribed");
        }
        let mut seen = Vec::new();
        for (them, last) in [(&first, "b"), (&second, "c")] {
            them.unsubscribe("a");
            them.subscribe(last);
            while seen.last() != Some(&format!("\x01{last}").into_bytes()) {
                seen.extend(us.receive());
            }
        }
        let wanted: Vec<_> = wanted.iter().map(|text| text.as_bytes()).collect();
        assert_eq!(seen, wanted, "verbose {verbose}, verboser {verboser}");
    }
}

#[test]
fn their_verbose_publisher_sees_each_of_our_subscriptions() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "xpub", XPub);
    them.set("XPUB_VERBOSE", 1);
    let endpoint = them.bind(TCP);
    let (first, second) = (Ours::new(Sub), Ours::new(Sub));
    for us in [&first, &second] {
        us.subscribe("a");
        us.connect(&endpoint);
        them.expect(&given(["\x01a"]));
    }
    drop(first);
    second.unsubscribe("a");
    them.expect(&given(["\0a"]));
}

#[test]
fn a_subscriber_that_goes_takes_its_subscriptions_along() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(XPub);
    let them = Theirs::new(&peer, "sub", Sub);
    them.subscribe("a");
    them.connect(&us.bind(TCP));
    us.expect(&given(["\x01a"]));
    drop(them);
    us.expect(&given(["\0a"]));

    let them = Theirs::new(&peer, "xpub", XPub);
    let us = Ours::new(Sub);
    us.subscribe("b");
    us.connect(&them.bind(TCP));
    them.expect(&given(["\x01b"]));
    drop(us);
    them.expect(&given(["\0b"]));
}

#[test]
fn subscriptions_are_counted_by_the_subscriber() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(XPub);
    let them = Theirs::new(&peer, "sub", Sub);
    them.connect(&us.bind(TCP));
    them.subscribe("twice");
    them.subscribe("twice");
    us.expect(&given(["\x01twice"]));
    them.unsubscribe("twice");
    them.subscribe("other");
    us.expect(&given(["\x01other"]));
    us.send(&given(["twice: still"]));
    them.expect(&given(["twice: still"]));
    them.unsubscribe("twice");
    us.expect(&given(["\0twice"]));
}

#[test]
fn many_topics_of_any_length_reach_the_publisher() {
    let Some(peer) = Peer::start() else { return };
    // Around the lengths where a subscription becomes a long frame, and many of them in one go.
    const LENGTHS: [usize; 11] = [5, 244, 245, 246, 247, 248, 249, 254, 255, 256, 5000];
    let topics: Vec<_> = (0..3000).map(|number| format!("{number:0width$}", width = LENGTHS[number % 11])).collect();
    let mut wanted: Vec<_> = topics.iter().map(|topic| [b"\x01", topic.as_bytes()].concat()).collect();
    wanted.sort();

    let us = Ours::new(XPub);
    let them = Theirs::new(&peer, "sub", Sub);
    // libzmq drops subscriptions that exceed its mark.
    them.set("SNDHWM", 0);
    them.connect(&us.bind(TCP));
    topics.iter().for_each(|topic| them.subscribe(topic));
    let mut seen: Vec<_> = topics.iter().flat_map(|_| us.receive()).collect();
    seen.sort();
    assert!(seen == wanted, "theirs came whole");

    let us = Ours::new(Sub);
    let them = Theirs::new(&peer, "xpub", XPub);
    topics.iter().for_each(|topic| us.subscribe(topic));
    us.connect(&them.bind(TCP));
    let mut seen: Vec<_> = topics.iter().flat_map(|_| them.receive()).collect();
    seen.sort();
    assert!(seen == wanted, "ours came whole");
}

#[test]
fn a_welcome_message_comes_first() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(XPub, |builder| builder.welcome_message("hello"));
    let them = Theirs::new(&peer, "sub", Sub);
    them.subscribe("h");
    them.connect(&us.bind(TCP));
    us.expect(&given(["\x01h"]));
    us.send(&given(["h2"]));
    them.expect(&given(["hello"]));
    them.expect(&given(["h2"]));

    let them = Theirs::new(&peer, "xpub", XPub);
    them.set("XPUB_WELCOME_MSG", Body::from("hello"));
    let us = Ours::new(Sub);
    us.subscribe("h");
    us.connect(&them.bind(TCP));
    us.expect(&given(["hello"]));
}

#[test]
fn a_manual_publisher_decides_what_their_subscription_means() {
    let Some(peer) = Peer::start() else { return };
    let us = wiremesh::XPub::builder().manual(true).build().expect("good options");
    let them = Theirs::new(&peer, "sub", Sub);
    // Their own filter has to let through what we decide on.
    them.subscribe("");
    them.connect(us.bind(TCP).expect("bound").as_str());
    assert_eq!(us.recv_timeout(LONG).expect("a subscription"), b"\x01");
    assert!(us.subscribe_last("chosen").expect("manual"));
    us.send("other").expect("sent");
    us.send("chosen: yes").expect("sent");
    them.expect(&given(["chosen: yes"]));
}

#[test]
fn inverted_matching_delivers_the_rest() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(XPub, |builder| builder.invert_matching(true));
    let them = Theirs::new(&peer, "sub", Sub);
    them.set("INVERT_MATCHING", 1);
    them.subscribe("not");
    them.connect(&us.bind(TCP));
    us.expect(&given(["\x01not"]));
    us.send(&given(["not this"]));
    us.send(&given(["this"]));
    them.expect(&given(["this"]));
}

#[test]
fn requests_with_numbers_are_answered() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "rep", Rep);
    let us = Ours::with(Req, |builder| builder.correlate(true).relaxed(true));
    us.connect(&them.bind(TCP));
    us.send(&given(["first"]));
    them.expect(&given(["first"]));
    // A second question before the first answer: that answer must not pass for the second's.
    us.send(&given(["second"]));
    them.send(&given(["answer to first"]));
    them.expect(&given(["second"]));
    them.send(&given(["answer to second"]));
    us.expect(&given(["answer to second"]));

    let us = Ours::new(Rep);
    let them = Theirs::new(&peer, "req", Req);
    them.set("REQ_CORRELATE", 1);
    them.set("REQ_RELAXED", 1);
    them.connect(&us.bind(TCP));
    them.send(&given(["first"]));
    us.expect(&given(["first"]));
    them.send(&given(["second"]));
    us.send(&given(["answer to first"]));
    us.expect(&given(["second"]));
    us.send(&given(["answer to second"]));
    them.expect(&given(["answer to second"]));
}

#[test]
fn work_is_shared_evenly_among_their_workers() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::new(Push);
    let endpoint = us.bind(TCP);
    let workers = ["one", "two", "three"].map(|name| Theirs::new(&peer, name, Pull));
    workers.iter().for_each(|worker| worker.connect(&endpoint));
    us.wait_for_peers(3, LONG).expect("three workers");
    (0..30).for_each(|number| us.send(&given([&number.to_string()])));
    let mut seen = Vec::new();
    for worker in &workers {
        (0..10).for_each(|_| seen.extend(worker.receive()));
    }
    let mut numbers: Vec<u32> =
        seen.iter().map(|text| String::from_utf8_lossy(text).parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_libzmq_proxy_stands_between_ours() {
    let Some(peer) = Peer::start() else { return };
    let (front, back) = (Theirs::new(&peer, "front", Router), Theirs::new(&peer, "back", Dealer));
    let (asked, served) = (front.bind(TCP), back.bind("ipc://*"));
    peer.tell("proxy front back");
    front.leave();
    back.leave();
    let client = Ours::new(Req);
    client.connect(&asked);
    let servers = [Ours::new(Rep), Ours::new(Rep)];
    for server in &servers {
        server.connect(&served);
    }
    for number in 0..20 {
        let question = [Body::MadeUp { size: number * 999, seed: number }];
        client.send(&question);
        let server =
            servers.iter().cycle().take(10_000).find(|server| server.has_message()).expect("a server is asked");
        server.expect(&question);
        server.send(&given(["answer", ""]));
        client.expect(&given(["answer", ""]));
    }
}

#[test]
fn subscriptions_pass_through_a_libzmq_forwarder() {
    let Some(peer) = Peer::start() else { return };
    let (front, back) = (Theirs::new(&peer, "front", XSub), Theirs::new(&peer, "back", XPub));
    let (publish, subscribe) = (front.bind(TCP), back.bind(TCP));
    peer.tell("proxy front back");
    front.leave();
    back.leave();
    let (publisher, subscriber) = (Ours::new(XPub), Ours::new(Sub));
    publisher.connect(&publish);
    subscriber.subscribe("news");
    subscriber.connect(&subscribe);
    publisher.expect(&given(["\x01news"]));
    publisher.send(&given(["sports", "none"]));
    publisher.send(&given(["news", "good"]));
    subscriber.expect(&given(["news", "good"]));
    drop(subscriber);
    publisher.expect(&given(["\0news"]));
}

/// What a send to that routing id says, if it fails.
fn unroutable(us: &Ours, id: &str) -> Option<SendFailure> {
    us.socket().try_send(wiremesh::Message::from_iter([id, "?"])).err().map(|error| error.reason)
}

#[test]
fn our_hello_message_is_the_first_that_they_receive() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(Router, |builder| builder.hello_message("welcome"));
    let dealer = Theirs::new(&peer, "dealer", Dealer);
    dealer.connect(&us.bind(TCP));
    dealer.expect(&given(["welcome"]));

    let router = Theirs::new(&peer, "router", Router);
    let us = Ours::with(Dealer, |builder| builder.hello_message("good day").routing_id("us"));
    us.connect(&router.bind(TCP));
    us.send(&given(["queued early"]));
    router.expect(&given(["us", "good day"]));
    router.expect(&given(["us", "queued early"]));
}

#[test]
fn our_router_is_told_when_their_dealer_comes_and_goes() {
    let Some(peer) = Peer::start() else { return };
    let us = Ours::with(Router, |builder| builder.router_notify(RouterNotify::Both).disconnect_message("gone"));
    let them = Theirs::new(&peer, "dealer", Dealer);
    them.set("ROUTING_ID", Body::from("them"));
    them.connect(&us.bind(TCP));
    us.expect(&given(["them", ""]));
    them.send(&given(["hello"]));
    us.expect(&given(["them", "hello"]));
    drop(them);
    us.expect(&given(["them", "gone"]));
    us.expect(&given(["them", ""]));
}

#[test]
fn our_dealer_is_told_when_their_router_is_lost() {
    let Some(peer) = Peer::start() else { return };
    let them = Theirs::new(&peer, "router", Router);
    let us = Ours::with(Dealer, |builder| builder.hiccup_message("hiccup").routing_id("us"));
    us.connect(&them.bind(TCP));
    us.send(&given(["question"]));
    them.expect(&given(["us", "question"]));
    them.send(&given(["us", "answer"]));
    us.expect(&given(["answer"]));
    drop(them);
    us.expect(&given(["hiccup"]));
}
