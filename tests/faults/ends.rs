//! Both ends of a link within a process that end at the same moment: what one counts as written has come to the other.

use crate::support::random::Random;
use crate::support::{Over, PATIENCE, times};
use std::sync::Barrier;
use std::thread;
use wiremesh::SocketKind::{self, Dealer, Pair, Pub, Pull, Push, Router, Sub, XPub, XSub};
use wiremesh::{AnySocket, Context, Endpoint, PeerId, Pull as Puller, Push as Pusher, RecvError};

const ROUNDS: usize = 10_000;

/// How one side ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    /// Of the side that is connected.
    Disconnect,
    /// Another peer takes over the routing id of the present one: of a ROUTER that is bound.
    Replace,
}

/// One side of a link, and what it knows the other by.
struct Side {
    socket: AnySocket,
    peer: PeerId,
    end: End,
}

impl Side {
    /// Sends a few messages, short ones and long ones.
    fn send(&self, random: &mut Random) {
        for _ in 0..random.below(200) {
            let body = vec![b'x'; if random.below(4) == 0 { 9000 } else { 10 }];
            // The other side may be gone.
            let _ = match self.socket.kind() {
                Router => self.socket.try_send_to(self.peer, body),
                _ => self.socket.try_send(body),
            };
        }
    }

    /// Receives for a while, and ends the link.
    fn end(&self, endpoint: &Endpoint, newcomer: &AnySocket, random: &mut Random) {
        (0..random.below(100)).for_each(|_| drop(self.socket.try_recv()));
        (0..random.below(2000)).for_each(|_| std::hint::spin_loop());
        match self.end {
            End::Close => self.socket.closer().close(),
            End::Disconnect => self.socket.disconnect(endpoint).expect("connected"),
            // The ROUTER may be closed by now.
            End::Replace => drop(newcomer.connect(endpoint)),
        }
    }

    /// How many messages of the other side have come, by what is known of it and of all.
    fn came(&self) -> u64 {
        let came = self.socket.peer(self.peer).expect("it was here lately").stats.received;
        if self.end != End::Close {
            let all = self.socket.stats();
            assert_eq!(came, all.received + all.unread + all.discarded, "{all}");
        }
        came
    }
}

fn end_at_once(seed: u64, kinds: [SocketKind; 2], ends: [End; 2]) {
    let context = Context::new();
    let open = |kind: SocketKind| {
        let mut builder = AnySocket::builder(kind).context(&context);
        if !matches!(kind, Pull | Sub) {
            builder = builder.send_mark(0u32);
        }
        match kind {
            Router => builder = builder.handover(true),
            Dealer => builder = builder.routing_id("the same"),
            _ => {}
        }
        builder.build().expect("good options")
    };
    let [binder, connector] = kinds.map(open);
    let newcomer = open(kinds[1]);
    let endpoint = binder.bind(Over::Inproc.wildcard()).expect("bound");
    connector.connect(&endpoint).expect("bound");
    if connector.kind() == Sub {
        connector.subscribe("").expect("a topic");
        binder.wait_for_subscribers(1, PATIENCE).expect("a subscriber");
    }
    let peers = [&binder, &connector].map(|socket| socket.peers()[0].id);
    let [here, there] = [(binder, peers[0], ends[0]), (connector, peers[1], ends[1])].map(|(socket, peer, end)| Side {
        socket,
        peer,
        end,
    });
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for (number, side) in [&here, &there].into_iter().enumerate() {
            let (start, endpoint, newcomer) = (&start, &endpoint, &newcomer);
            let random = move |what: u64| Random::new(4 * seed + 2 * number as u64 + what);
            scope.spawn(move || {
                start.wait();
                side.send(&mut random(0));
            });
            scope.spawn(move || {
                start.wait();
                side.end(endpoint, newcomer, &mut random(1));
            });
        }
    });
    for (from, to) in [(&here, &there), (&there, &here)] {
        let (sent, came) = (from.socket.stats(), to.came());
        assert!(sent.is_balanced(), "{sent}");
        // What a publisher has not applied is lost with it when it is closed.
        let may_lose = to.end == End::Close && matches!(to.socket.kind(), Pub | XPub);
        assert!(
            came == sent.written || (may_lose && came < sent.written),
            "seed {seed}, {ends:?}: {came} messages came to a {} from a {} that counts: {sent}",
            to.socket.kind(),
            from.socket.kind()
        );
    }
}

/// Of two such sockets, of which the first one is bound.
fn both_count_the_same(kinds: [SocketKind; 2], by: &[End]) {
    for seed in 0..times(ROUNDS) as u64 {
        for &end in by {
            for other in [End::Close, End::Disconnect] {
                end_at_once(seed, kinds, [end, other]);
            }
        }
    }
}

#[test]
fn a_push_and_a_pull_that_part_at_once_count_the_same() {
    both_count_the_same([Push, Pull], &[End::Close]);
    both_count_the_same([Pull, Push], &[End::Close]);
}

#[test]
fn a_router_and_a_dealer_that_part_at_once_count_the_same() {
    both_count_the_same([Router, Dealer], &[End::Close]);
}

#[test]
fn so_they_do_when_the_dealer_loses_its_name_as_it_leaves() {
    both_count_the_same([Router, Dealer], &[End::Replace]);
}

#[test]
fn two_pairs_that_part_at_once_count_the_same() {
    both_count_the_same([Pair, Pair], &[End::Close]);
}

#[test]
fn a_publisher_and_a_subscriber_that_part_at_once_count_the_same() {
    both_count_the_same([Pub, Sub], &[End::Close]);
    both_count_the_same([XPub, XSub], &[End::Close]);
    both_count_the_same([XSub, XPub], &[End::Close]);
}

#[test]
fn the_newest_message_is_the_one_that_a_sender_leaves_when_it_is_closed() {
    let context = Context::new();
    let pull = Puller::builder().context(&context).conflate(true).build().expect("good options");
    let push = Pusher::in_context(&context);
    push.connect(pull.bind(Over::Inproc.wildcard()).expect("bound")).expect("bound");
    push.send("old").expect("there is room");
    // Fetches it.
    pull.stats();
    push.send("new").expect("there is room");
    push.close();
    assert_eq!(pull.try_recv().expect("a message"), "new");
    assert_eq!(pull.try_recv(), Err(RecvError::WouldBlock));
}
