//! Names whose server does not answer keep no other name waiting.

use crate::support::{PATIENCE, alone, eventually, measure};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use wiremesh::transports::{AddressError, LinkOptions, Listener, Purpose, Stream, Transport};
use wiremesh::{Context, Push};

/// Names that begin with `dead` are looked up until it is told to stop; others are there at once.
struct Names {
    stopped: Arc<(Mutex<bool>, Condvar)>,
    asked: Sender<String>,
    tried: Sender<String>,
}

impl Transport for Names {
    fn scheme(&self) -> &str {
        "names"
    }

    fn check(&self, _: &str, _: Purpose) -> Result<(), AddressError> {
        Ok(())
    }

    fn resolve(&self, address: &str, _: &LinkOptions) -> io::Result<Vec<String>> {
        let _ = self.asked.send(address.to_owned());
        if address.starts_with("dead") {
            let (stopped, change) = &*self.stopped;
            let mut stopped = stopped.lock().unwrap();
            while !*stopped {
                stopped = change.wait(stopped).unwrap();
            }
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer"));
        }
        Ok(vec![address.to_owned()])
    }

    fn bind(&self, _: &str, _: &LinkOptions) -> io::Result<Box<dyn Listener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&self, resolved: &str, _: &LinkOptions) -> io::Result<Box<dyn Stream>> {
        let _ = self.tried.send(resolved.to_owned());
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

struct Scene {
    context: Context,
    stopped: Arc<(Mutex<bool>, Condvar)>,
    asked: Receiver<String>,
    tried: Receiver<String>,
}

impl Scene {
    fn new() -> Scene {
        let stopped = Arc::new((Mutex::new(false), Condvar::new()));
        let ((ask, asked), (try_, tried)) = (channel(), channel());
        let context = Context::builder().drop_wait(Some(Duration::ZERO)).build();
        let names = Names { stopped: Arc::clone(&stopped), asked: ask, tried: try_ };
        context.register_transport(Arc::new(names)).unwrap();
        Scene { context, stopped, asked, tried }
    }

    /// How long a name takes until its address is tried.
    fn quick(&self, name: &str) -> Duration {
        let push = Push::in_context(&self.context);
        let begin = Instant::now();
        push.connect(format!("names://{name}")).unwrap();
        loop {
            if self.tried.recv_timeout(PATIENCE).expect("it is looked up") == name {
                return begin.elapsed();
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        *self.stopped.0.lock().unwrap() = true;
        self.stopped.1.notify_all();
    }
}

#[test]
fn a_hundred_names_whose_server_does_not_answer_delay_no_other() {
    let _turn = alone();
    let scene = Scene::new();
    let push = Push::in_context(&scene.context);
    (0..100).for_each(|number| drop(push.connect(format!("names://dead-{number}")).unwrap()));
    let took = scene.quick("good");
    assert!(took < Duration::from_secs(2), "{took:?}");
    eventually(PATIENCE, "each has a thread", || measure::resolvers() >= 100);
}

#[test]
fn dead_names_of_many_sockets_delay_no_other_and_share_a_thread() {
    let _turn = alone();
    let scene = Scene::new();
    let sockets: Vec<Push> = (0..300).map(|_| Push::in_context(&scene.context)).collect();
    for (number, push) in sockets.iter().enumerate() {
        push.connect(format!("names://dead-{}", number % 3)).unwrap();
    }
    let took = scene.quick("good");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let dead = scene.asked.try_iter().filter(|name| name.starts_with("dead")).count();
    assert_eq!(dead, 3, "each is looked up once");
}

/// Threads are bounded, whatever is asked for.
#[test]
fn a_thousand_dead_names_do_not_make_a_thousand_threads() {
    let _turn = alone();
    // Those of other tests linger.
    let others = measure::resolvers();
    let scene = Scene::new();
    let push = Push::in_context(&scene.context);
    (0..1000).for_each(|number| drop(push.connect(format!("names://dead-{number}")).unwrap()));
    eventually(PATIENCE, "there are threads", || measure::resolvers() >= 100);
    let mut most = 0;
    let _ = crate::support::holds_within(Duration::from_millis(300), || {
        most = most.max(measure::resolvers());
        false
    });
    assert!(most <= 256 + others, "{most} threads");
}

/// A look-up is not what keeps the memory of a socket that is gone.
#[test]
fn a_socket_ends_while_its_name_is_looked_up() {
    let _turn = alone();
    let scene = Scene::new();
    let push = Push::builder().context(&scene.context).linger(Duration::ZERO).build().unwrap();
    let monitor = push.monitor();
    push.connect("names://dead").unwrap();
    assert_eq!(scene.asked.recv_timeout(PATIENCE).unwrap(), "dead");
    drop(push);
    eventually(PATIENCE, "it ends", || {
        while monitor.try_recv().is_some() {}
        monitor.is_stopped()
    });
    assert_eq!(scene.context.close(PATIENCE).messages, 0);
}

#[test]
fn localhost_does_not_wait_for_twelve_names_whose_server_does_not_answer() {
    let _turn = alone();
    let scene = Scene::new();
    let push = Push::in_context(&scene.context);
    (0..12).for_each(|number| drop(push.connect(format!("names://dead-{number}")).unwrap()));
    let pull = wiremesh::Pull::in_context(&scene.context);
    let port = pull.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let port = port.rsplit(':').next().unwrap().to_owned();
    let begin = Instant::now();
    let other = Push::in_context(&scene.context);
    other.connect(format!("tcp://localhost:{port}")).unwrap();
    other.wait_for_peers(1, PATIENCE).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}
