//! What subscriptions cost: memory, stack, matching and the loss of a peer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};
use wiremesh::patterns::subscriptions::{PrefixSet, Removed, Subscriptions};

const MILLION: usize = 1_000_000;

/// The system's allocator, counting the octets each thread holds.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending may free after its counter is gone; nobody reads it any more.
    let _ = LIVE.try_with(|live| live.set(live.get() + change));
}

/// Octets this thread holds.
fn live() -> isize {
    LIVE.with(Cell::get)
}

// SAFETY: every call goes to `System` with its arguments unchanged; counting touches nothing that is allocated.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are those `System` asks for, and the block came from it.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn sensor(number: usize) -> String {
    format!("sensor/{number}/temp")
}

/// What `make` leaves allocated, and the value.
fn measured<T>(make: impl FnOnce() -> T) -> (isize, T) {
    let before = live();
    let value = make();
    (live() - before, value)
}

fn expect_under_100_octets_each(what: &str, held: isize, topics: usize, text: usize) {
    let beyond = (held - text as isize) as f64 / topics as f64;
    println!("{what}: {:.1} octets a topic, {beyond:.1} beyond its text", held as f64 / topics as f64);
    assert!(held < (100 * topics + text) as isize);
}

/// What is charged for topics must be what they take, within a factor of two where each is a peer's own.
#[test]
fn topics_take_about_what_they_are_said_to_take() {
    let count = MILLION / 10;
    let mut random = 1_u64;
    let mut drawn = move || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 16).to_le_bytes()
    };
    let shapes: [(&str, Vec<Vec<u8>>); 4] = [
        ("six digits", (0..count).map(|number| format!("{number:06}").into_bytes()).collect()),
        ("readable", (0..count).map(|number| sensor(number).into_bytes()).collect()),
        ("drawn by lot", (0..count).map(|_| drawn()[..6].to_vec()).collect()),
        (
            "long",
            (0..count).map(|number| [vec![b'x'; 100], drawn().to_vec(), vec![number as u8; 92]].concat()).collect(),
        ),
    ];
    for (shape, topics) in &shapes {
        for peers in [1, 100] {
            let (held, subscriptions) = measured(|| {
                let mut subscriptions = Subscriptions::new();
                for (number, topic) in topics.iter().enumerate() {
                    subscriptions.subscribe((number % peers) as u32, topic);
                }
                subscriptions
            });
            let said: usize = (0..peers as u32).map(|peer| subscriptions.memory_of(peer)).sum();
            println!("{shape}, {peers} peers: {} octets a topic, said to be {}", held as usize / count, said / count);
            assert!((said as isize / 2..=said as isize * 2).contains(&held), "{shape}: {held}, said to be {said}");
        }
    }
}

fn sensors_text() -> usize {
    (0..MILLION).map(|number| sensor(number).len()).sum()
}

#[test]
fn a_million_topics_of_one_peer_cost_under_100_octets_each_beyond_their_text() {
    let (held, mut subscriptions) = measured(|| {
        let mut subscriptions = Subscriptions::new();
        (0..MILLION).for_each(|number| assert!(subscriptions.subscribe(0, sensor(number).as_bytes()).first));
        subscriptions
    });
    assert_eq!((subscriptions.len(), subscriptions.bytes_of(0)), (MILLION, sensors_text()));
    expect_under_100_octets_each("one peer", held, MILLION, sensors_text());

    let (freed, emptied) = measured(|| {
        let mut emptied = 0;
        subscriptions.remove_peer(0, |_| emptied += 1);
        emptied
    });
    assert_eq!(emptied, MILLION);
    assert!(held + freed <= held / 100, "{} of {held} octets are left", held + freed);
}

#[test]
fn a_million_topics_of_a_hundred_peers_cost_under_100_octets_each_and_go_with_their_peers() {
    let (held, mut subscriptions) = measured(|| {
        let mut subscriptions = Subscriptions::new();
        for number in 0..MILLION {
            subscriptions.subscribe(number as u32 % 100, sensor(number).as_bytes());
        }
        subscriptions
    });
    expect_under_100_octets_each("a hundred peers", held, MILLION, sensors_text());

    // Interleaved topics leave the arena full of holes when most peers go; their memory goes all the same.
    let (freed, ()) = measured(|| (1..100).for_each(|peer| subscriptions.remove_peer(peer, |_| ())));
    assert!(held + freed <= held / 20, "{} of {held} octets are left for one peer", held + freed);
    let mut out = Vec::new();
    subscriptions.matches(b"sensor/500000/temp/x", &mut out);
    assert_eq!(out, [0]);

    let (freed_last, ()) = measured(|| subscriptions.remove_peer(0, |_| ()));
    let left = held + freed + freed_last;
    assert!(left <= held / 100, "{left} of {held} octets are left");
}

#[test]
fn a_million_prefixes_of_a_subscriber_cost_under_100_octets_each_and_go_when_removed() {
    let (held, mut set) = measured(|| {
        let mut set = PrefixSet::new();
        (0..MILLION).for_each(|number| assert!(set.insert(sensor(number).as_bytes())));
        set
    });
    expect_under_100_octets_each("prefix set", held, MILLION, sensors_text());
    let (freed, ()) = measured(|| {
        (0..MILLION).for_each(|number| assert_eq!(set.remove(sensor(number).as_bytes()), Removed::Last));
    });
    assert!(held + freed <= held / 100, "{} of {held} octets are left", held + freed);
}

#[test]
fn a_topic_of_16_mib_costs_its_text_and_little_more() {
    const LENGTH: isize = 16 << 20;
    let topic = vec![b'a'; LENGTH as usize];
    let (held, mut subscriptions) = measured(|| {
        let mut subscriptions = Subscriptions::new();
        subscriptions.subscribe(0, &topic);
        (1..1000).for_each(|peer| assert!(subscriptions.subscribe(peer, &topic).new));
        subscriptions
    });
    assert!(held < LENGTH + LENGTH / 16, "{held}");
    let (freed, ()) = measured(|| (0..1000).for_each(|peer| subscriptions.remove_peer(peer, |_| ())));
    assert!(held + freed <= LENGTH / 100, "{}", held + freed);
}

#[test]
fn long_topics_come_and_go_on_a_stack_of_64_kib() {
    let long_topics = || {
        for length in [1 << 20, 16 << 20] {
            let topic = vec![b'a'; length];
            let mut subscriptions = Subscriptions::new();
            assert!(subscriptions.subscribe(1, &topic).first);
            assert!(subscriptions.subscribe(2, &topic[..length / 2]).first);
            assert!(subscriptions.has_match(&topic));
            assert!(subscriptions.cancel(1, &topic).last);
            assert!(subscriptions.subscribe(1, &topic).first);
            let mut lost = 0;
            subscriptions.remove_peer(1, |topic| lost += topic.len());
            assert_eq!(lost, length);
            subscriptions.subscribe(1, &topic);
            drop(black_box(subscriptions));

            let mut set = PrefixSet::new();
            set.insert(&topic);
            set.for_each_from(0, |_, prefix| {
                assert!(prefix.is_none_or(|prefix| prefix.len() == length));
                ControlFlow::Continue(())
            });
            assert_eq!(set.remove(&topic), Removed::Last);
            set.insert(&topic);
            drop(black_box(set));
        }
    };
    let thread = thread::Builder::new().stack_size(64 << 10).spawn(long_topics);
    thread.expect("a thread").join().expect("no overflow");
}

#[test]
fn topics_nested_ten_thousand_deep_come_and_go_on_a_stack_of_64_kib() {
    let nested_topics = || {
        let topic = vec![b'a'; 10_000];
        let mut subscriptions = Subscriptions::new();
        (0..=topic.len()).for_each(|length| assert!(subscriptions.subscribe(0, &topic[..length]).first));
        let mut out = Vec::new();
        subscriptions.matches(&topic, &mut out);
        assert_eq!(out, [0]);
        let mut lost = 0;
        subscriptions.remove_peer_while(0, |_, last| {
            lost += usize::from(last);
            ControlFlow::Continue(())
        });
        assert_eq!(lost, topic.len() + 1);
        subscriptions.subscribe(0, &topic);
        drop(black_box(subscriptions));
    };
    let thread = thread::Builder::new().stack_size(64 << 10).spawn(nested_topics);
    thread.expect("a thread").join().expect("no overflow");
}

/// The processor time that the calling thread has used.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which fills it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A publisher's subscriptions, and ten thousand topics that match one of them each.
struct Matching {
    subscriptions: Subscriptions,
    published: Vec<String>,
}

impl Matching {
    fn among(topics: usize) -> Matching {
        let mut subscriptions = Subscriptions::new();
        for number in 0..topics {
            subscriptions.subscribe(number as u32 % 64, sensor(number).as_bytes());
        }
        Matching { subscriptions, published: (0..10_000).map(|number| sensor(number * 7919 % topics)).collect() }
    }

    /// The processor time that it takes to match all of them.
    fn time(&mut self) -> Duration {
        let mut out = Vec::new();
        let begin = thread_time();
        for topic in &self.published {
            self.subscriptions.matches(topic.as_bytes(), &mut out);
            assert_eq!(out.len(), 1);
        }
        thread_time() - begin
    }
}

/// Matching by a walk over all topics would take a thousand times as long. What the caches hold makes some difference,
/// and other programs take that away for a while: both are measured in turns, and one try in which both are left alone
/// says it.
#[test]
fn matching_costs_hardly_more_where_a_thousand_times_as_many_topics_are_subscribed_to() {
    let (mut among_few, mut among_many) = (Matching::among(MILLION / 1000), Matching::among(MILLION));
    let mut is_cheap = |_| {
        let (few, many) = (among_few.time(), among_many.time());
        println!("ten thousand topics matched: {few:?} among a thousand, {many:?} among a million");
        many < few * 200
    };
    assert!((0..20).any(&mut is_cheap));
}

/// A walk over all topics at each disconnect would take ten thousand times as long as one walk; building the million
/// takes longer than one walk. Measured, the loop takes a few hundredths of the building.
#[test]
fn ten_thousand_peers_come_and_go_beside_a_million_topics_in_less_time_than_those_took() {
    let start = Instant::now();
    let mut subscriptions = Subscriptions::new();
    (0..MILLION).for_each(|number| assert!(subscriptions.subscribe(0, sensor(number).as_bytes()).new));
    let building = start.elapsed();

    let start = Instant::now();
    for _ in 0..10_000 {
        subscriptions.subscribe(1, b"sensor/77");
        subscriptions.subscribe(1, b"sensor/500000/temp");
        subscriptions.remove_peer(1, |emptied| assert_eq!(emptied, b"sensor/77"));
    }
    let cycles = start.elapsed();
    println!("a million topics: {building:?}; ten thousand peers coming and going: {cycles:?}");
    assert!(cycles < building);
}

/// The same for a peer that keeps splitting and joining the edge of somebody else's long topic: copying that topic
/// each time would be 20,000 times its length.
#[test]
fn a_short_prefix_of_a_long_topic_comes_and_goes_at_the_cost_of_the_prefix() {
    let topic = vec![b'a'; 16 << 20];
    let start = Instant::now();
    let mut subscriptions = Subscriptions::new();
    subscriptions.subscribe(0, &topic);
    let building = start.elapsed();

    let start = Instant::now();
    for _ in 0..10_000 {
        assert!(subscriptions.subscribe(1, b"a").first);
        assert!(subscriptions.cancel(1, b"a").last);
    }
    let cycles = start.elapsed();
    println!("a topic of 16 MiB: {building:?}; ten thousand prefixes coming and going: {cycles:?}");
    assert!(cycles < building * 200);
}
