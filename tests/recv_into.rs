//! Receiving into a buffer of the caller's: what fits is copied, what does not is handed back, and nothing is allocated
//! for it.

#[macro_use]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::thread;
use std::time::Duration;

use common::{LONG, Net, until};
use wiremesh::{
    Dealer, Message, Pub, Pull, Push, RecvError, RecvIntoError, Rep, Req, Router, RoutingId, Sub, XPub, XSub,
};

over!([tcp ipc inproc]:
    a_message_fills_the_front_of_the_buffer
    a_message_of_just_the_length_of_the_buffer_fits
    an_empty_message_fits_an_empty_buffer
    messages_of_every_size_arrive_in_one_buffer
    a_longer_message_is_handed_back_whole
    a_message_of_several_frames_is_handed_back_whole
    the_next_call_receives_the_next_message
    what_is_handed_back_counts_as_received
    what_is_handed_back_says_who_sent_it
    a_receive_that_waits_is_served
    a_receive_that_only_tries_finds_what_has_come
    a_router_says_who_sent_what_is_in_the_buffer
    a_router_hands_the_routing_id_back_with_the_message
    a_request_is_received_into_a_buffer_without_its_envelope
    a_request_that_was_handed_back_is_answered_like_any_other
    a_sub_receives_what_it_subscribed_to_into_a_buffer
    an_xpub_receives_subscriptions_into_a_buffer
    several_threads_may_fill_buffers_of_their_own
);

/// What stands in a buffer that nothing was copied to.
const UNTOUCHED: u8 = 0xee;

fn pipe(net: &Net) -> (Push, Pull) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    (push, pull)
}

fn a_message_fills_the_front_of_the_buffer(net: &Net) {
    let (push, pull) = pipe(net);
    push.send("hello").unwrap();
    let mut buffer = [UNTOUCHED; 8];
    assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap(), 5);
    assert_eq!(&buffer, b"hello\xee\xee\xee");
}

fn a_message_of_just_the_length_of_the_buffer_fits(net: &Net) {
    let (push, pull) = pipe(net);
    for size in [1, 64, 65, 1000] {
        push.send(vec![7; size]).unwrap();
        let mut buffer = vec![UNTOUCHED; size];
        assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap(), size);
        assert!(buffer.iter().all(|octet| *octet == 7));
    }
}

fn an_empty_message_fits_an_empty_buffer(net: &Net) {
    let (push, pull) = pipe(net);
    push.send("").unwrap();
    assert_eq!(pull.recv_into_timeout(&mut [], LONG).unwrap(), 0);
}

fn messages_of_every_size_arrive_in_one_buffer(net: &Net) {
    let (push, pull) = pipe(net);
    let sizes = || (0..200).chain([8191, 8192, 8193, 65_535, 65_536, 65_537, 1 << 20, 3]);
    let sender = thread::spawn(move || {
        for size in sizes() {
            push.send(vec![size as u8; size]).unwrap();
        }
        push
    });
    let mut buffer = vec![UNTOUCHED; 1 << 20];
    for size in sizes() {
        assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap(), size);
        assert!(buffer[..size].iter().all(|octet| *octet == size as u8), "{size} octets differ");
    }
    sender.join().unwrap();
}

fn a_longer_message_is_handed_back_whole(net: &Net) {
    let (push, pull) = pipe(net);
    for size in [9, 65, 100_000] {
        push.send(vec![7; size]).unwrap();
        let mut buffer = [UNTOUCHED; 8];
        match pull.recv_into_timeout(&mut buffer, LONG) {
            Err(RecvIntoError::TooLong { message, octets, room: 8 }) => {
                assert!(octets == size && message == vec![7; size])
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(buffer, [UNTOUCHED; 8], "no part of it is copied");
    }
}

fn a_message_of_several_frames_is_handed_back_whole(net: &Net) {
    let (push, pull) = pipe(net);
    let several = Message::from_iter(["a", "", "b"]);
    push.send(&several).unwrap();
    let mut buffer = [UNTOUCHED; 8];
    match pull.recv_into_timeout(&mut buffer, LONG) {
        Err(RecvIntoError::SeveralFrames(message)) => assert_eq!(message, several),
        other => panic!("{other:?}"),
    }
    assert_eq!(buffer, [UNTOUCHED; 8], "no part of it is copied");
}

fn the_next_call_receives_the_next_message(net: &Net) {
    let (push, pull) = pipe(net);
    push.send("too long").unwrap();
    push.send(["two", "frames"]).unwrap();
    push.send("fits").unwrap();
    let mut buffer = [UNTOUCHED; 4];
    assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap_err().into_message().unwrap(), "too long");
    assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap_err().into_message().unwrap().len(), 2);
    assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap(), 4);
    assert_eq!(&buffer, b"fits");
}

fn what_is_handed_back_counts_as_received(net: &Net) {
    let (push, pull) = pipe(net);
    push.send_many(["too long", "fits"]).unwrap();
    let mut buffer = [UNTOUCHED; 4];
    pull.recv_into_timeout(&mut buffer, LONG).unwrap_err();
    pull.recv_into_timeout(&mut buffer, LONG).unwrap();
    let stats = pull.stats();
    assert_eq!((stats.received, stats.discarded, stats.unread), (2, 0, 0));
}

fn what_is_handed_back_says_who_sent_it(net: &Net) {
    let (push, pull) = pipe(net);
    push.send_many(["first", "second"]).unwrap();
    let sender = pull.recv_timeout(LONG).unwrap().peer();
    let message = pull.recv_into_timeout(&mut [], LONG).unwrap_err().into_message().unwrap();
    assert!(sender.is_some());
    assert_eq!(message.peer(), sender);
}

fn a_receive_that_waits_is_served(net: &Net) {
    let (push, pull) = pipe(net);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut buffer = [UNTOUCHED; 16];
            let length = pull.recv_into(&mut buffer).unwrap();
            buffer[..length].to_vec()
        });
        push.send("here it is").unwrap();
        assert_eq!(receiver.join().unwrap(), b"here it is");
    });
}

fn a_receive_that_only_tries_finds_what_has_come(net: &Net) {
    let (push, pull) = pipe(net);
    push.send("hello").unwrap();
    let mut buffer = [UNTOUCHED; 5];
    until("it has come", || match pull.try_recv_into(&mut buffer) {
        Ok(length) => length == 5,
        Err(error) => {
            assert_eq!(error, RecvIntoError::Receive(RecvError::WouldBlock));
            false
        }
    });
    assert_eq!(&buffer, b"hello");
}

fn a_router_says_who_sent_what_is_in_the_buffer(net: &Net) {
    let router = Router::in_context(&net.context);
    let dealers = ["left", "right"].map(|id| Dealer::builder().context(&net.context).routing_id(id).build().unwrap());
    net.join(&router, &[&dealers[0], &dealers[1]]);
    let mut buffer = [UNTOUCHED; 16];
    for (dealer, name) in dealers.iter().zip(["left", "right"]) {
        dealer.send(format!("from {name}")).unwrap();
        let (id, length) = router.recv_into_timeout(&mut buffer, LONG).unwrap();
        assert_eq!(id, name);
        assert_eq!(buffer[..length], *format!("from {name}").as_bytes());
        router.send_to(&id, &buffer[..length]).unwrap();
        assert_eq!(dealer.recv_timeout(LONG).unwrap(), format!("from {name}"));
    }
}

fn a_router_hands_the_routing_id_back_with_the_message(net: &Net) {
    let router = Router::in_context(&net.context);
    let dealer = Dealer::builder().context(&net.context).routing_id("dealer").build().unwrap();
    net.join(&router, &[&dealer]);
    let mut buffer = [UNTOUCHED; 4];
    for message in [Message::from("too long"), Message::from_iter(["two", "frames"])] {
        dealer.send(&message).unwrap();
        let error = router.recv_into_timeout(&mut buffer, LONG).unwrap_err();
        let (id, back): (RoutingId, Message) = error.into_message().unwrap();
        assert_eq!((id.as_bytes(), back), (&b"dealer"[..], message));
        assert_eq!(buffer, [UNTOUCHED; 4]);
    }
    let nothing = router.try_recv_into(&mut buffer);
    assert_eq!(nothing, Err(RecvIntoError::Receive(RecvError::WouldBlock)));
}

fn a_request_is_received_into_a_buffer_without_its_envelope(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("question").unwrap();
    let mut buffer = [UNTOUCHED; 16];
    let length = rep.recv_into_timeout(&mut buffer, LONG).unwrap();
    assert_eq!(&buffer[..length], b"question");
    rep.send("answer").unwrap();
    let length = req.recv_into_timeout(&mut buffer, LONG).unwrap();
    assert_eq!(&buffer[..length], b"answer");
    let outcome = req.recv_into(&mut buffer);
    assert!(matches!(outcome, Err(RecvIntoError::Receive(RecvError::WrongState(_)))), "{outcome:?}");
}

fn a_request_that_was_handed_back_is_answered_like_any_other(net: &Net) {
    let (req, rep) = (Req::in_context(&net.context), Rep::in_context(&net.context));
    net.join(&rep, &[&req]);
    req.send("a long question").unwrap();
    let mut buffer = [UNTOUCHED; 4];
    let question = rep.recv_into_timeout(&mut buffer, LONG).unwrap_err().into_message().unwrap();
    rep.send(question).unwrap();
    assert_eq!(req.recv_timeout(LONG).unwrap(), "a long question");
}

fn a_sub_receives_what_it_subscribed_to_into_a_buffer(net: &Net) {
    let (publisher, subscriber) = (Pub::in_context(&net.context), Sub::in_context(&net.context));
    subscriber.subscribe("yes").unwrap();
    net.join(&publisher, &[&subscriber]);
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.send_many(["no", "yes 1", "no", "yes 2"]).unwrap();
    let mut buffer = [UNTOUCHED; 16];
    for wanted in [b"yes 1", b"yes 2"] {
        let length = subscriber.recv_into_timeout(&mut buffer, LONG).unwrap();
        assert_eq!(&buffer[..length], wanted);
    }
}

fn an_xpub_receives_subscriptions_into_a_buffer(net: &Net) {
    let (publisher, subscriber) = (XPub::in_context(&net.context), XSub::in_context(&net.context));
    net.join(&publisher, &[&subscriber]);
    subscriber.subscribe("topic").unwrap();
    let mut buffer = [UNTOUCHED; 16];
    let length = publisher.recv_into_timeout(&mut buffer, LONG).unwrap();
    assert_eq!(&buffer[..length], b"\x01topic");
    publisher.send("topic 1").unwrap();
    let length = subscriber.recv_into_timeout(&mut buffer, LONG).unwrap();
    assert_eq!(&buffer[..length], b"topic 1");
}

fn several_threads_may_fill_buffers_of_their_own(net: &Net) {
    const EACH: u32 = 2000;
    let (push, pull) = pipe(net);
    thread::scope(|scope| {
        let receivers = [(); 3].map(|()| {
            scope.spawn(|| {
                let mut buffer = [0; 4];
                let mut sum = 0;
                for _ in 0..EACH {
                    assert_eq!(pull.recv_into_timeout(&mut buffer, LONG).unwrap(), 4);
                    sum += u64::from(u32::from_le_bytes(buffer));
                }
                sum
            })
        });
        push.send_many((0..3 * EACH).map(u32::to_le_bytes)).unwrap();
        let sum: u64 = receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum();
        assert_eq!(sum, (0..3 * u64::from(EACH)).sum());
    });
}

#[test]
fn without_a_message_the_buffer_stays_as_it_is() {
    let net = Net::new("inproc");
    let (_push, pull) = pipe(&net);
    let mut buffer = [UNTOUCHED; 4];
    let expect = |outcome: Result<usize, RecvIntoError>, reason| assert_eq!(outcome, Err(reason));
    expect(pull.try_recv_into(&mut buffer), RecvError::WouldBlock.into());
    expect(pull.recv_into_timeout(&mut buffer, Duration::from_millis(1)), RecvError::TimedOut.into());
    pull.close();
    expect(pull.recv_into(&mut buffer), RecvError::Closed.into());
    assert_eq!(buffer, [UNTOUCHED; 4]);
}

#[test]
fn a_receive_into_a_buffer_obeys_the_time_limit_of_the_socket() {
    let net = Net::new("inproc");
    let pull = Pull::builder().context(&net.context).receive_timeout(Duration::from_millis(1)).build().unwrap();
    assert_eq!(pull.recv_into(&mut [0]), Err(RecvIntoError::Receive(RecvError::TimedOut)));
}

#[test]
fn an_error_says_what_does_not_fit_and_becomes_one_of_io() {
    let net = Net::new("inproc");
    let (push, pull) = pipe(&net);
    push.send("hello").unwrap();
    let error = pull.recv_into(&mut [0; 4]).unwrap_err();
    assert!(error.to_string().contains("5 octets, and the buffer 4"), "{error}");
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
    push.send(["a", "b"]).unwrap();
    let error = pull.recv_into(&mut [0; 4]).unwrap_err();
    assert!(error.to_string().contains("several frames"), "{error}");
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let back = error.into_inner().unwrap().downcast::<RecvIntoError>().unwrap().into_message().unwrap();
    assert_eq!(back, Message::from_iter(["a", "b"]), "the message is still in it");
    let nothing = pull.try_recv_into(&mut [0; 4]).unwrap_err();
    assert_eq!(io::Error::from(nothing).kind(), io::ErrorKind::WouldBlock);
}

/// The system's allocator, counting what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` with its arguments unchanged; counting touches nothing that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending may allocate after its counter is gone; nobody reads it any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those `System` asks for, and the block came from it.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_receive_into_a_buffer_allocates_nothing_of_its_own() {
    let net = Net::new("inproc");
    for size in [0, 8, 64, 65, 1000] {
        let (push, pull) = pipe(&net);
        push.send_many((0..1000).map(|_| vec![7; size])).unwrap();
        let mut buffer = [0; 1000];
        // The first one fetches them all from the sender.
        pull.recv_into_timeout(&mut buffer, LONG).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 1..1000 {
            pull.recv_into_timeout(&mut buffer, LONG).unwrap();
        }
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        // Where one piece of memory ends and the next begins, a few may be.
        assert!(allocations < 50, "{allocations} allocations for 999 messages of {size} octets");
    }
}
