//! The conversation with the driver: JSON lines out, the words `go` and end-of-input in.

use std::io::{BufRead, Write};
use std::pin::pin;
use std::sync::{Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::job::About;

/// How long a process may take to end once the driver has closed its input.
const GRACE: Duration = Duration::from_secs(5);

/// The figures of one role. Fields that do not apply stay 0 and are not interpreted by the driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Messages counted.
    pub messages: u64,
    /// Wall seconds they took.
    pub seconds: f64,
    /// Processor seconds of this process in that time.
    pub cpu: f64,
    /// Median round trip in microseconds.
    pub p50: f64,
    /// 99th percentile of the round trip in microseconds.
    pub p99: f64,
    /// Resident bytes gained per connection.
    pub resident: f64,
}

/// Starts listening to the driver.
pub fn listen() {
    inbox();
}

/// Tells the driver that the binding side may be connected to.
pub fn bound() {
    print("{\"bound\":true}");
}

/// Tells the driver that every socket of this process has heard from its peer.
pub fn ready() {
    print("{\"ready\":true}");
}

/// Prints the result line.
pub fn result(figures: &Figures) {
    let Figures { messages, seconds, cpu, p50, p99, resident } = figures;
    print(&format!(
        "{{\"messages\":{messages},\"seconds\":{seconds:.9},\"cpu\":{cpu:.6},\"p50\":{p50:.3},\"p99\":{p99:.3},\
         \"resident\":{resident:.1}}}"
    ));
}

/// Prints why the measurement failed.
pub fn failed(why: &str) {
    print(&format!("{{\"failed\":{}}}", quoted(why)));
}

/// Prints version and settings.
pub fn about(about: &About) {
    print(&format!("{{\"version\":{},\"settings\":{}}}", quoted(&about.version), quoted(&about.settings)));
}

/// Prints how far apart the cores are.
pub fn distance(nanos: f64) {
    print(&format!("{{\"nanos\":{nanos:.1}}}"));
}

/// Waits until the driver says `go`.
pub async fn go() {
    heard(|inbox| inbox.go || inbox.stop).await;
}

/// Waits until the driver closes our standard input: everybody has their figures, this process may end.
pub async fn stop() {
    heard(|inbox| inbox.stop).await;
}

/// Whether the driver said `go` already.
pub fn may_go() -> bool {
    let inbox = lock(inbox());
    inbox.go || inbox.stop
}

/// Sleeps without blocking whoever else runs on this thread's executor.
pub async fn pause(time: Duration) {
    struct Alarm {
        rung: bool,
        waker: Option<Waker>,
    }
    let alarm = std::sync::Arc::new(Mutex::new(Alarm { rung: false, waker: None }));
    let theirs = alarm.clone();
    std::thread::spawn(move || {
        std::thread::sleep(time);
        let mut alarm = lock(&theirs);
        alarm.rung = true;
        if let Some(waker) = alarm.waker.take() {
            waker.wake();
        }
    });
    let mut rung = pin!(std::future::poll_fn(move |cx| {
        let mut alarm = lock(&alarm);
        if alarm.rung {
            return Poll::Ready(());
        }
        alarm.waker = Some(cx.waker().clone());
        Poll::Pending
    }));
    rung.as_mut().await;
}

#[derive(Default)]
struct Inbox {
    go: bool,
    stop: bool,
    wakers: Vec<Waker>,
}

/// The driver's words so far. The first use, `listen`, starts the thread that reads them.
fn inbox() -> &'static Mutex<Inbox> {
    static INBOX: OnceLock<Mutex<Inbox>> = OnceLock::new();
    static READER: std::sync::Once = std::sync::Once::new();
    let inbox = INBOX.get_or_init(Mutex::default);
    READER.call_once(|| {
        std::thread::spawn(|| {
            for line in std::io::stdin().lock().lines() {
                match line.as_deref() {
                    Ok("go") => tell(|inbox| inbox.go = true),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            tell(|inbox| inbox.stop = true);
            // Whoever is still blocked in its library now waits for a driver or a peer that has gone.
            std::thread::sleep(GRACE);
            failed("stopped before it was through");
            std::process::exit(2);
        });
    });
    inbox
}

fn tell(change: impl FnOnce(&mut Inbox)) {
    let mut inbox = lock(inbox());
    change(&mut inbox);
    for waker in inbox.wakers.drain(..) {
        waker.wake();
    }
}

async fn heard(what: impl Fn(&Inbox) -> bool) {
    std::future::poll_fn(|cx| {
        let mut inbox = lock(inbox());
        if what(&inbox) {
            return Poll::Ready(());
        }
        inbox.wakers.push(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // A driver that has gone away will not read the figures; there is nobody left to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
