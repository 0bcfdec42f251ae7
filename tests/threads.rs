//! Sockets shared by threads, and contexts with other numbers of engine threads: nothing is lost, doubled or torn.

#[macro_use]
mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, Net, until};
use wiremesh::{Context, Dealer, Error, Message, Pub, Pull, Push, RecvError, Rep, Req, Router, Sub};

over!([tcp ipc inproc]:
    four_senders_and_four_receivers_on_shared_sockets_lose_nothing
    senders_at_the_mark_take_their_turns
    each_waiting_receiver_is_served
    whoever_leaves_with_a_message_leaves_the_next_one_to_those_who_wait
    frames_of_messages_of_several_threads_do_not_mix
    publishing_from_several_threads_keeps_the_order_of_each
    one_thread_sends_while_another_receives
    sockets_may_come_and_go_while_others_work
    several_engine_threads_serve_many_sockets
    engine_threads_alone_can_drive
);

fn is_shared<T: Send + Sync>(_: &T) {}

#[test]
fn everything_public_may_be_shared_by_threads() {
    let context = Context::new();
    is_shared(&context);
    is_shared(&Push::in_context(&context));
    is_shared(&Push::in_context(&context).monitor());
    is_shared(&Push::in_context(&context).try_reserve());
    is_shared(&Message::new());
    is_shared(&Req::in_context(&context).request("x", Duration::ZERO).unwrap_err());
}

fn four_senders_and_four_receivers_on_shared_sockets_lose_nothing(net: &Net) {
    const EACH: u32 = 20_000;
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    let left = AtomicUsize::new(4 * EACH as usize);
    let got: Vec<Vec<(u8, u32)>> = thread::scope(|scope| {
        let receivers = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut got = Vec::new();
                while left.load(Ordering::SeqCst) > 0 {
                    match pull.recv_timeout(Duration::from_millis(20)) {
                        Ok(message) => {
                            left.fetch_sub(1, Ordering::SeqCst);
                            let body = message.first();
                            got.push((body[0], u32::from_le_bytes(body[1..5].try_into().unwrap())));
                        }
                        Err(error) => assert_eq!(error, RecvError::TimedOut),
                    }
                }
                got
            })
        });
        for sender in 0..4u8 {
            let push = &push;
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut body = [sender; 5];
                    body[1..].copy_from_slice(&number.to_le_bytes());
                    push.send(body).unwrap();
                }
            });
        }
        receivers.map(|receiver| receiver.join().unwrap()).into_iter().collect()
    });
    for got in &got {
        // What one receiver gets of one sender is in order.
        for sender in 0..4 {
            let numbers: Vec<u32> = got.iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number).collect();
            assert!(numbers.is_sorted());
        }
    }
    let all: HashSet<(u8, u32)> = got.iter().flatten().copied().collect();
    assert_eq!(all.len(), 4 * EACH as usize);
    assert_eq!(got.iter().map(Vec::len).sum::<usize>(), all.len(), "none came twice");
    assert!(push.stats().is_balanced());
}

fn senders_at_the_mark_take_their_turns(net: &Net) {
    const EACH: u64 = 2000;
    let push = Push::builder().context(&net.context).send_mark(2u32).build().unwrap();
    let pull = Pull::builder().context(&net.context).receive_mark(2u32).build().unwrap();
    net.join(&pull, &[&push]);
    thread::scope(|scope| {
        for sender in 0..4u64 {
            let push = &push;
            scope.spawn(move || {
                for number in 0..EACH {
                    push.send_timeout((sender * EACH + number).to_le_bytes(), LONG).unwrap();
                }
            });
        }
        let mut seen = HashSet::new();
        for _ in 0..4 * EACH {
            let number = u64::from_le_bytes(pull.recv_timeout(LONG).unwrap().first().try_into().unwrap());
            assert!(seen.insert(number), "{number} came twice");
        }
    });
    assert_eq!(push.stats().accepted, 4 * EACH);
    assert_eq!(pull.try_recv().unwrap_err(), RecvError::WouldBlock);
}

fn each_waiting_receiver_is_served(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    for _ in 0..50 {
        thread::scope(|scope| {
            let waiting = [(); 6].map(|()| {
                scope.spawn(|| {
                    let start = Instant::now();
                    let message = pull.recv_timeout(LONG).unwrap();
                    assert!(start.elapsed() < LONG, "it found the message only when its time was up");
                    message
                })
            });
            push.send_many((0..6u8).map(|number| [number])).unwrap();
            let mut got: Vec<u8> = waiting.map(|waiting| waiting.join().unwrap().first()[0]).into();
            got.sort_unstable();
            assert_eq!(got, [0, 1, 2, 3, 4, 5]);
        });
    }
}

fn whoever_leaves_with_a_message_leaves_the_next_one_to_those_who_wait(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    for _ in 0..50 {
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    pull.recv_timeout(LONG).unwrap();
                    served.fetch_add(1, Ordering::SeqCst);
                });
            }
            for number in 1..=3 {
                push.send("next").unwrap();
                until("somebody has it", || served.load(Ordering::SeqCst) == number);
            }
        });
    }
}

fn frames_of_messages_of_several_threads_do_not_mix(net: &Net) {
    let (push, pull) = (Push::in_context(&net.context), Pull::in_context(&net.context));
    net.join(&pull, &[&push]);
    thread::scope(|scope| {
        for sender in 0..4u8 {
            let push = &push;
            scope.spawn(move || {
                for round in 0..500usize {
                    let frames = (0..=round % 5).map(|_| vec![sender; [3, 100, 9000, 70_000][round % 4]]);
                    push.send(frames.collect::<Message>()).unwrap();
                }
            });
        }
        for _ in 0..2000 {
            let message = pull.recv_timeout(LONG).unwrap();
            let sender = message.first()[0];
            let length = message.first().len();
            assert!(message.iter().all(|frame| frame.len() == length && frame.iter().all(|octet| *octet == sender)));
        }
    });
}

fn publishing_from_several_threads_keeps_the_order_of_each(net: &Net) {
    let publisher = Pub::builder().context(&net.context).nodrop(true).build().unwrap();
    let subscribers = [(); 3].map(|()| Sub::in_context(&net.context));
    for subscriber in &subscribers {
        subscriber.subscribe("").unwrap();
    }
    net.join(&publisher, &[&subscribers[0], &subscribers[1], &subscribers[2]]);
    publisher.wait_for_subscribers(3, LONG).unwrap();
    thread::scope(|scope| {
        for sender in 0..3u8 {
            let publisher = &publisher;
            scope.spawn(move || {
                for number in 0..3000u32 {
                    publisher.send(Message::from_iter([&[sender][..], &number.to_le_bytes()])).unwrap();
                }
            });
        }
        for subscriber in &subscribers {
            scope.spawn(move || {
                let mut next = [0u32; 3];
                for _ in 0..9000 {
                    let message = subscriber.recv_timeout(LONG).unwrap();
                    let sender = usize::from(message.first()[0]);
                    assert_eq!(message.frame(1).unwrap(), next[sender].to_le_bytes());
                    next[sender] += 1;
                }
            });
        }
    });
}

fn one_thread_sends_while_another_receives(net: &Net) {
    let [left, right] = [(); 2].map(|()| Dealer::in_context(&net.context));
    net.join(&left, &[&right]);
    thread::scope(|scope| {
        for (socket, other) in [(&left, &right), (&right, &left)] {
            scope.spawn(move || {
                for number in 0..20_000u32 {
                    socket.send(number.to_le_bytes()).unwrap();
                }
            });
            scope.spawn(move || {
                for number in 0..20_000u32 {
                    assert_eq!(other.recv_timeout(LONG).unwrap().first(), number.to_le_bytes());
                }
            });
        }
    });
}

fn sockets_may_come_and_go_while_others_work(net: &Net) {
    let router = Router::in_context(&net.context);
    let endpoint = net.fresh();
    router.bind(&endpoint).unwrap();
    let answered = AtomicU64::new(0);
    thread::scope(|scope| {
        let clients = [(); 4].map(|()| {
            scope.spawn(|| {
                for round in 0..25u32 {
                    let req = Req::in_context(&net.context);
                    req.connect(&endpoint).unwrap();
                    assert_eq!(req.request(round.to_le_bytes(), LONG).unwrap().first(), round.to_le_bytes());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        while !clients.iter().all(|client| client.is_finished()) {
            if let Ok((id, request)) = router.recv_timeout(Duration::from_millis(10)) {
                router.send_to(id, request).unwrap();
            }
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed), 100);
    until("they are all gone", || router.stats().connections == 0);
}

/// Many pairs of sockets in one context, each with a conversation of its own.
fn converse(net: &Net, context: &Context, pairs: usize) {
    let servers: Vec<(Rep, String)> = (0..pairs)
        .map(|_| {
            let (rep, endpoint) = (Rep::in_context(context), net.fresh());
            rep.bind(&endpoint).unwrap();
            (rep, endpoint)
        })
        .collect();
    thread::scope(|scope| {
        for (number, (rep, endpoint)) in servers.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..50 {
                    let request = rep.recv_timeout(LONG).unwrap();
                    rep.send(request).unwrap();
                }
            });
            scope.spawn(move || {
                let req = Req::in_context(context);
                req.connect(endpoint).unwrap();
                for round in 0..50usize {
                    let body = [number.to_le_bytes(), round.to_le_bytes()].concat();
                    assert_eq!(req.request(body.as_slice(), LONG).unwrap(), body);
                }
            });
        }
    });
}

fn several_engine_threads_serve_many_sockets(net: &Net) {
    let context = Context::builder().engine_threads(4).thread_name("crew").build();
    converse(net, &context, 12);
}

fn engine_threads_alone_can_drive(net: &Net) {
    let context = Context::builder().engine_threads(2).engine_only(true).build();
    converse(net, &context, 6);
    let (push, pull) = (Push::in_context(&context), Pull::in_context(&context));
    net.join(&pull, &[&push]);
    thread::scope(|scope| {
        scope.spawn(|| push.send_many((0..50_000u32).map(u32::to_le_bytes)).unwrap());
        for number in 0..50_000u32 {
            assert_eq!(pull.recv_timeout(LONG).unwrap().first(), number.to_le_bytes());
        }
    });
}

#[test]
fn a_context_whose_threads_have_no_processor_is_refused_with_their_numbers() {
    let context = Context::builder().thread_affinity([100_000]).build();
    for _ in 0..2 {
        let error = Pull::in_context(&context).bind("tcp://127.0.0.1:*").unwrap_err();
        assert!(matches!(error, Error::System { .. }), "{error:?}");
        assert!(error.to_string().contains("thread_affinity [100000]"), "{error}");
    }
    // What needs no engine works.
    Pull::in_context(&context).bind("inproc://here").unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn engine_threads_stay_on_the_processors_they_are_given() {
    // One of those this process may run on.
    let allowed = |task: &std::path::Path| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    let last = allowed("/proc/self".as_ref()).rsplit([',', '-']).next().unwrap().to_owned();
    let name = format!("on{}", std::process::id() % 10_000);
    let context = Context::builder().engine_threads(2).thread_name(&name).thread_affinity([last.parse().unwrap()]);
    let context = context.build();
    Pull::in_context(&context).bind("tcp://127.0.0.1:*").unwrap();
    for number in 0..2 {
        let of_name = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == format!("{name}-{number}"))
        };
        until("the thread has its name", || {
            let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
            tasks.find(of_name).is_some_and(|task| allowed(&task) == last)
        });
    }
}
