//! The share of one process in a run: its contexts, sockets and threads.

use crate::bystander::Bystander;
use crate::ledger::{Counts, LAST_TOPIC, Life, Sent, subscribes_later, topic, topics_of};
use crate::memory::{Manner, Memory};
use crate::message::{self, Id, build};
use crate::plan::{Act, Over, Plan};
use crate::strangers;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use wiremesh::{AnySocket, Context, Setting, SocketKind};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all threads of a process share.
pub(crate) struct Part {
    pub(crate) plan: Plan,
    pub(crate) process: usize,
    pub(crate) contexts: Vec<Option<Context>>,
    pub(crate) memory: Memory,
    /// By socket; those of other processes are missing.
    pub(crate) slots: Vec<Option<Slot>>,
    /// By endpoint; empty until it is known.
    pub(crate) addresses: RwLock<Vec<String>>,
    folder: PathBuf,
    /// Steps end, and whoever stood still goes on.
    pub(crate) settles: AtomicBool,
    /// Receivers end.
    ends: AtomicBool,
    /// Receivers wait long, so that the process is idle.
    rests: AtomicBool,
    pub(crate) log: Arc<Log>,
    /// Steps to come, of all threads.
    pub(crate) busy: AtomicUsize,
    /// What strangers sent, as lives of their own, and how many are not done.
    pub(crate) strangers: Mutex<Vec<Life>>,
    pub(crate) strangers_left: AtomicUsize,
    /// REQs that had an answer when all had settled, with whom they may have it from.
    answered: Mutex<BTreeSet<(usize, usize)>>,
    /// What is wrong beyond any socket.
    pub(crate) wrong: Mutex<Vec<String>>,
}

/// A place for a socket, which may be closed and opened again.
pub(crate) struct Slot {
    pub(crate) number: usize,
    live: RwLock<Arc<Alive>>,
    lives: Mutex<Vec<Arc<Alive>>>,
    pub(crate) holds: AtomicBool,
}

/// One life of a socket.
pub(crate) struct Alive {
    pub(crate) socket: AnySocket,
    pub(crate) name: u32,
    pub(crate) sent: Mutex<Vec<Vec<Sent>>>,
    pub(crate) got: Mutex<Vec<Vec<Id>>>,
    pub(crate) wrong: Mutex<Vec<String>>,
    /// The sockets from which something came that was sent when all had settled.
    heard: Mutex<BTreeSet<usize>>,
}

/// Streams at and above this number carry what is sent when all has settled.
pub(crate) const LATE: u32 = 200;
/// Streams from this number on carry a ROUTER's answers, one for each receiving thread.
pub(crate) const ANSWERS: u32 = 100;

impl Alive {
    /// The id of the next message of a stream.
    pub(crate) fn next(&self, stream: u32) -> Id {
        let mut sent = lock(&self.sent);
        let stream_at = stream as usize;
        if sent.len() <= stream_at {
            sent.resize_with(stream_at + 1, Vec::new);
        }
        Id { sender: self.name, stream, seq: sent[stream_at].len() as u64 }
    }

    /// The message with that id is accepted; it is noted before `send` is called, and struck out if that fails.
    pub(crate) fn note(&self, id: Id, sent: Sent) {
        lock(&self.sent)[id.stream as usize].push(sent);
    }

    pub(crate) fn strike(&self, id: Id) {
        lock(&self.sent)[id.stream as usize].pop();
    }
}

impl Slot {
    pub(crate) fn live(&self) -> Arc<Alive> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a process says of its state while all settle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) busy: u64,
    pub(crate) queued: u64,
    pub(crate) unread: u64,
    /// All that ever moved: it stands still when nothing moves.
    pub(crate) moved: u64,
    pub(crate) strangers: u64,
    /// Whom each socket has heard of when all had settled.
    pub(crate) heard: BTreeSet<(usize, usize)>,
    /// Who still has something queued, in words.
    pub(crate) stuck: String,
}

impl Part {
    /// Makes the contexts and the sockets of a process; nothing is bound yet.
    pub(crate) fn new(plan: Plan, process: usize, folder: &Path) -> Arc<Part> {
        let frame = &plan.frame;
        let manner = Manner { capacity: frame.capacity, chop: frame.chop, delay: Duration::from_micros(frame.delay) };
        let memory = Memory::new(manner, frame.seed);
        let log = Arc::new(Log::new(&folder.join(format!("log-{process}"))));
        let contexts: Vec<Option<Context>> = plan
            .contexts
            .iter()
            .map(|context| {
                (context.process == process).then(|| {
                    let made = context_of(context.threads, context.engine_only, context.budget);
                    made.register_transport(Arc::new(memory.clone())).expect("a free scheme");
                    made
                })
            })
            .collect();
        let slots = (0..plan.sockets.len())
            .map(|number| {
                let context = contexts[plan.sockets[number].context].as_ref()?;
                let live = Arc::new(open(&plan, number, 0, context, &log));
                Some(Slot {
                    number,
                    live: RwLock::new(Arc::clone(&live)),
                    lives: Mutex::new(vec![live]),
                    holds: AtomicBool::new(false),
                })
            })
            .collect();
        let addresses = RwLock::new(vec![String::new(); plan.endpoints.len()]);
        Arc::new(Part {
            log,
            plan,
            process,
            contexts,
            memory,
            slots,
            addresses,
            folder: folder.to_owned(),
            settles: AtomicBool::new(false),
            ends: AtomicBool::new(false),
            rests: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            strangers: Mutex::default(),
            strangers_left: AtomicUsize::new(0),
            answered: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    /// Binds the endpoints of this process; what they became.
    pub(crate) fn bind(&self) -> Vec<(usize, String)> {
        let mut bound = Vec::new();
        for (number, endpoint) in self.plan.endpoints.iter().enumerate() {
            let Some(slot) = &self.slots[endpoint.socket] else { continue };
            let wanted = match endpoint.over {
                Over::Tcp => "tcp://127.0.0.1:*".to_owned(),
                Over::Ipc => format!("ipc://{}", self.folder.join(format!("e{number}")).display()),
                Over::Inproc => format!("inproc://e{number}"),
                Over::Memory => format!("mem://e{number}"),
            };
            let life = slot.live();
            let address = life.socket.bind(&wanted).expect("bound").to_string();
            if endpoint.late {
                // Its address is known all the same.
                life.socket.unbind(&address).expect("it was bound");
            }
            bound.push((number, address));
        }
        bound
    }

    pub(crate) fn know(&self, endpoint: usize, address: &str) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner)[endpoint] = address.to_owned();
    }

    pub(crate) fn address(&self, endpoint: usize) -> String {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner)[endpoint].clone()
    }

    /// Connects every link of this process.
    pub(crate) fn connect(&self) {
        for link in &self.plan.links {
            if let Some(slot) = &self.slots[link.socket] {
                self.connect_one(&slot.live(), link.endpoint);
            }
        }
    }

    pub(crate) fn connect_one(&self, life: &Alive, endpoint: usize) {
        let address = self.address(endpoint);
        if let Err(error) = life.socket.connect(&address) {
            // An inproc binder may be closed at this moment: whoever opens it again connects us.
            self.log.line(format!("{}: connecting {address}: {error}", life.name));
        }
    }

    /// Waits until publishers have their subscribers.
    pub(crate) fn await_subscribers(&self) {
        for slot in self.slots.iter().flatten() {
            if self.kind(slot.number).publishes() {
                let count = self.plan.peers(slot.number).len();
                if let Err(error) = slot.live().socket.wait_for_subscribers(count, Duration::from_secs(20)) {
                    lock(&self.wrong).push(format!("at the start, socket {}: {error}", slot.number));
                }
            }
        }
    }

    pub(crate) fn kind(&self, socket: usize) -> SocketKind {
        self.plan.sockets[socket].kind
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.settles.load(Ordering::SeqCst)
    }

    /// Starts the threads that receive, the strangers, and the threads of the steps.
    pub(crate) fn go(self: &Arc<Part>) -> Threads {
        let mut receivers = Vec::new();
        for slot in self.slots.iter().flatten() {
            let kind = self.kind(slot.number);
            for thread in 0..self.plan.sockets[slot.number].receivers * usize::from(receives(kind)) {
                let (part, number) = (Arc::clone(self), slot.number);
                receivers
                    .push(start(format!("receive-{number}"), move || crate::receiving::receive(&part, number, thread)));
            }
        }
        let mut others = Vec::new();
        for actor in 0..self.plan.actors() {
            let first = self.plan.steps.iter().find(|step| step.actor == actor);
            if first.is_some_and(|step| self.plan.process_of(step.socket) == self.process) {
                self.busy.fetch_add(1, Ordering::SeqCst);
                let part = Arc::clone(self);
                others.push(start(format!("actor-{actor}"), move || {
                    crate::acting::act(&part, actor);
                    part.busy.fetch_sub(1, Ordering::SeqCst);
                }));
            }
        }
        for (number, stranger) in self.plan.strangers.iter().enumerate() {
            if self.plan.process_of(self.plan.endpoints[stranger.endpoint].socket) == self.process {
                self.strangers_left.fetch_add(1, Ordering::SeqCst);
                let (part, stranger) = (Arc::clone(self), stranger.clone());
                others.push(start(format!("stranger-{number}"), move || {
                    strangers::visit(&part, number, &stranger);
                    part.strangers_left.fetch_sub(1, Ordering::SeqCst);
                }));
            }
        }
        Threads { receivers, others }
    }

    /// Steps end, cuts and pauses end, everybody reads.
    pub(crate) fn settle(&self) {
        self.settles.store(true, Ordering::SeqCst);
        self.memory.stall(None, false);
        for (number, endpoint) in self.plan.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.late) {
            if let Some(slot) = &self.slots[endpoint.socket] {
                self.bind_again(&slot.live(), number);
            }
        }
        self.log.line("settle");
    }

    /// Every socket sends to all its peers something that is to arrive.
    pub(crate) fn farewell(&self, unheard: &BTreeSet<(usize, usize)>) {
        for slot in self.slots.iter().flatten() {
            let (life, kind) = (slot.live(), self.kind(slot.number));
            let peers: Vec<usize> = self
                .plan
                .peers(slot.number)
                .into_iter()
                .map(|(peer, _)| peer)
                .filter(|peer| unheard.contains(&(slot.number, *peer)))
                .collect();
            if peers.is_empty() {
                continue;
            }
            match kind {
                SocketKind::Push | SocketKind::Dealer | SocketKind::Pair => {
                    for _ in 0..self.plan.peers(slot.number).len() {
                        self.say(&life, None, 0, b"");
                    }
                }
                SocketKind::Router => peers.iter().for_each(|peer| self.say(&life, Some(*peer), 0, b"")),
                SocketKind::Pub | SocketKind::XPub => {
                    // No other topics, as at a mark of 1 the second message may be one too many.
                    let topics: BTreeSet<u32> = peers.iter().map(|peer| self.farewell_topic(*peer)).collect();
                    for number in topics {
                        self.say(&life, None, number, topic(number).as_bytes());
                    }
                }
                SocketKind::Req => crate::acting::ask_late(self, slot, &life),
                SocketKind::Sub | SocketKind::Rep | SocketKind::Pull | SocketKind::XSub => {}
            }
        }
    }

    /// The topic on which a subscriber hears a farewell.
    fn farewell_topic(&self, subscriber: usize) -> u32 {
        if subscribes_later(&self.plan, subscriber) { LAST_TOPIC } else { 0 }
    }

    fn say(&self, life: &Alive, to: Option<usize>, number: u32, topic: &[u8]) {
        let id = life.next(LATE);
        let message = build(id, topic, 0, &[]);
        life.note(
            id,
            Sent { octets: message.byte_len() as u32, topic: number, to: to.map(|to| to as u32), late: true },
        );
        let limit = Duration::from_millis(200);
        let sent = match to {
            Some(to) => life.socket.send_to_timeout(routing_id(to), message, limit),
            None => life.socket.send_timeout(message, limit),
        };
        if sent.is_err() {
            life.strike(id);
        }
    }

    /// Notes that something came that was sent when all had settled.
    pub(crate) fn hear(&self, life: &Alive, id: Id, topic: &[u8]) {
        let (me, from) = (message::socket_of(life.name), message::socket_of(id.sender));
        let late_topic = topic == crate::ledger::topic(LAST_TOPIC).as_bytes();
        if id.stream >= LATE && (late_topic || !subscribes_later(&self.plan, me)) {
            lock(&life.heard).insert(from);
        }
    }

    /// A REQ had its answer when all had settled.
    pub(crate) fn hear_answer(&self, slot: &Slot, peer: usize) {
        lock(&self.answered).insert((slot.number, peer));
    }

    /// Who must hear of whom when all has settled: sender and receiver.
    pub(crate) fn pairs(plan: &Plan) -> BTreeSet<(usize, usize)> {
        let mut pairs = BTreeSet::new();
        for socket in 0..plan.sockets.len() {
            let kind = plan.sockets[socket].kind;
            for (peer, _) in plan.peers(socket) {
                let speaks = match kind {
                    SocketKind::Router => plan.sockets[peer].named,
                    SocketKind::Push
                    | SocketKind::Dealer
                    | SocketKind::Pair
                    | SocketKind::Pub
                    | SocketKind::XPub
                    | SocketKind::Req => true,
                    SocketKind::Sub | SocketKind::Rep | SocketKind::Pull | SocketKind::XSub => false,
                };
                if speaks && !plan.sockets[socket].conflate {
                    pairs.insert((socket, peer));
                }
            }
        }
        pairs
    }

    pub(crate) fn look(&self) -> Look {
        let mut look = Look {
            busy: self.busy.load(Ordering::SeqCst) as u64,
            strangers: self.strangers_left.load(Ordering::SeqCst) as u64,
            unread: u64::from(!self.memory.is_empty()),
            heard: lock(&self.answered).clone(),
            ..Look::default()
        };
        for slot in self.slots.iter().flatten() {
            let live = slot.live();
            for life in lock(&slot.lives).iter() {
                let stats = life.socket.stats();
                let queued = if self.lingers_in_vain(slot, life, &live) { 0 } else { stats.queued };
                look.queued += queued;
                look.moved += stats.accepted + stats.written + stats.received + stats.received_bytes + stats.discarded;
                look.moved += stats.dropped.total();
                let reads = receives(self.kind(slot.number)) && self.plan.sockets[slot.number].receivers > 0;
                let unread = if Arc::ptr_eq(life, &live) && reads { stats.unread } else { 0 };
                look.unread += unread;
                if queued + unread > 0 {
                    look.stuck += &format!(" {}:{queued}/{unread}", life.name);
                }
                if stats.refused_subscriptions > 0 {
                    // The budget has no room for all topics, and the last one may be among those that are refused.
                    let peers = self.plan.peers(slot.number).into_iter().map(|(peer, _)| peer);
                    look.heard.extend(
                        peers.filter(|peer| subscribes_later(&self.plan, *peer)).map(|peer| (slot.number, peer)),
                    );
                }
                look.heard.extend(lock(&life.heard).iter().map(|from| (*from, slot.number)));
            }
        }
        look
    }

    /// What is closed may linger for the place that its next life has at the other end: a PAIR has one place, and a
    /// ROUTER one for each name. So may an endpoint that is connected again under that name.
    fn lingers_in_vain(&self, slot: &Slot, life: &Arc<Alive>, live: &Arc<Alive>) -> bool {
        let row = &self.plan.sockets[slot.number];
        let mut peers =
            self.plan.peers(slot.number).into_iter().filter(|(peer, _)| self.kind(*peer) == SocketKind::Router);
        let is_connected_again =
            |link: usize| self.plan.is_done_to(&[Act::Disconnect, Act::ConnectTwice], |step| step.target == link);
        let is_closed = !Arc::ptr_eq(life, live);
        (is_closed && row.kind == SocketKind::Pair)
            || (row.named && peers.any(|(_, link)| is_closed || is_connected_again(link)))
    }

    /// What every life of a socket here, and every stranger, did.
    pub(crate) fn ledger(&self) -> Vec<Life> {
        let mut lives = lock(&self.strangers).clone();
        for slot in self.slots.iter().flatten() {
            lives.extend(lock(&slot.lives).iter().map(|life| Life {
                name: life.name,
                counts: Counts::of(&life.socket.stats()),
                sent: lock(&life.sent).clone(),
                got: lock(&life.got).clone(),
                wrong: lock(&life.wrong).clone(),
            }));
        }
        lives
    }

    /// Closes a life of the socket, without opening another.
    pub(crate) fn end_life(&self, slot: &Slot) {
        slot.live().socket.close();
    }

    /// Opens the socket of a slot again, bound and connected as before.
    pub(crate) fn begin_life(&self, slot: &Slot) {
        let Some(context) = &self.contexts[self.plan.sockets[slot.number].context] else { return };
        let number = lock(&slot.lives).len();
        let life = Arc::new(open(&self.plan, slot.number, number, context, &self.log));
        lock(&slot.lives).push(Arc::clone(&life));
        *slot.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&life);
        for (endpoint, row) in self.plan.endpoints.iter().enumerate().filter(|(_, row)| row.socket == slot.number) {
            self.bind_again(&life, endpoint);
            if row.over == Over::Inproc {
                self.connect_inproc_again(endpoint);
            }
        }
        for link in self.plan.links.iter().filter(|link| link.socket == slot.number) {
            self.connect_one(&life, link.endpoint);
        }
    }

    /// An address may be in use for a moment after its socket was closed.
    pub(crate) fn bind_again(&self, life: &Alive, endpoint: usize) {
        static TURN: Mutex<()> = Mutex::new(());
        let address = self.address(endpoint);
        let _turn = lock(&TURN);
        if life.socket.bound().contains(&address) {
            return;
        }
        let begin = Instant::now();
        while let Err(error) = life.socket.bind(&address) {
            if begin.elapsed() > Duration::from_secs(10) || life.socket.is_closed() {
                lock(&self.wrong).push(format!("binding {address} again: {error}"));
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A binder over inproc that has closed is gone, and who was connected to it connects to the next one by hand.
    fn connect_inproc_again(&self, endpoint: usize) {
        let address = self.address(endpoint);
        for link in self.plan.links.iter().filter(|link| link.endpoint == endpoint) {
            if let Some(slot) = &self.slots[link.socket] {
                let life = slot.live();
                // It may have been told already that its peer is gone.
                let _ = life.socket.disconnect(&address);
                self.connect_one(&life, endpoint);
            }
        }
    }

    /// How long a receive may wait.
    pub(crate) fn receive_limit(&self) -> Duration {
        Duration::from_millis(if self.rests.load(Ordering::SeqCst) { 2000 } else { 50 })
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    pub(crate) fn rest(&self, yes: bool) {
        self.rests.store(yes, Ordering::SeqCst);
    }

    /// Closes all sockets, and then the contexts, and looks at what they leave behind.
    pub(crate) fn end(&self, threads: Threads, bystanders: Vec<Bystander>) {
        self.ends.store(true, Ordering::SeqCst);
        bystanders.into_iter().for_each(drop);
        for slot in self.slots.iter().flatten() {
            lock(&slot.lives).iter().for_each(|life| life.socket.close());
        }
        threads.join();
        let closes = Instant::now();
        let told: Vec<(usize, u64)> = self
            .slots
            .iter()
            .flatten()
            .flat_map(|slot| {
                let (context, live) = (self.plan.sockets[slot.number].context, slot.live());
                let told = |life: &Arc<Alive>| {
                    let stats = life.socket.stats();
                    stats.dropped.linger + if self.lingers_in_vain(slot, life, &live) { stats.queued } else { 0 }
                };
                lock(&slot.lives).iter().map(|life| (context, told(life))).collect::<Vec<_>>()
            })
            .collect();
        for (number, context) in self.contexts.iter().enumerate() {
            let Some(context) = context else { continue };
            let unsent = context.close(Duration::from_secs(10));
            let told: u64 = told.iter().filter(|(at, _)| *at == number).map(|(_, linger)| linger).sum();
            if unsent.messages > told {
                lock(&self.wrong).push(format!("unsent: context {number} could not deliver {unsent}"));
            }
            if let Some(leak) = crate::budget::leak(context) {
                lock(&self.wrong).push(format!("budget: context {number}: {leak}"));
            }
        }
        self.log.line(format!("closed in {:?}", closes.elapsed()));
    }
}

pub(crate) fn context_of(threads: usize, engine_only: bool, budget: u64) -> Context {
    let builder = Context::builder().engine_threads(threads).engine_only(engine_only);
    if budget == 0 { builder.build() } else { builder.byte_budget(Some(budget)).build() }
}

/// Whether a thread receives from sockets of that kind; a REQ's answers come with its questions.
fn receives(kind: SocketKind) -> bool {
    !matches!(kind, SocketKind::Push | SocketKind::Pub | SocketKind::Req)
}

/// The name a DEALER or REQ announces.
pub(crate) fn routing_id(socket: usize) -> String {
    format!("s{socket:03}")
}

fn open(plan: &Plan, number: usize, life: usize, context: &Context, log: &Arc<Log>) -> Alive {
    let row = &plan.sockets[number];
    let mut settings = vec![
        Setting::SendMark(row.send_mark),
        Setting::ReceiveMark(row.receive_mark),
        Setting::Immediate(row.immediate),
        Setting::Conflate(row.conflate),
        Setting::Handover(row.handover),
        Setting::Mandatory(row.mandatory),
        Setting::Nodrop(row.nodrop),
        Setting::ReconnectInterval(Some(Duration::from_millis(5))),
        Setting::ReconnectMax(Duration::from_millis(100)),
        Setting::HeartbeatInterval(Duration::from_millis(row.heartbeat)),
        Setting::MaxSubscriptions(0),
    ];
    if row.buffers > 0 {
        settings.extend([Setting::SendBuffer(Some(row.buffers)), Setting::ReceiveBuffer(Some(row.buffers))]);
    }
    if row.max_message > 0 {
        settings.push(Setting::MaxMessageSize(row.max_message));
    }
    if row.max_frames > 0 {
        settings.push(Setting::MaxMessageFrames(row.max_frames));
    }
    if row.half_open > 0 {
        settings.push(Setting::HalfOpenLimit(row.half_open));
    }
    if row.linger > 0 {
        settings.push(Setting::Linger(Some(Duration::from_millis(row.linger - 1))));
    }
    if row.named {
        settings.push(Setting::RoutingId(routing_id(number).into()));
    }
    let builder = AnySocket::builder(row.kind).context(context);
    let fitting = settings.into_iter().filter(|setting| setting.row().kinds.contains(&row.kind));
    let socket = fitting.fold(builder, |builder, setting| builder.set(setting)).build().expect("good options");
    let name = message::sender(number, life);
    log.watch(name, &socket);
    if row.kind.subscribes() {
        topics_of(number).iter().for_each(|topic| socket.subscribe(topic).expect("subscribed"));
    }
    Alive {
        socket,
        name,
        sent: Mutex::default(),
        got: Mutex::new(vec![Vec::new(); row.receivers]),
        wrong: Mutex::default(),
        heard: Mutex::default(),
    }
}

pub(crate) struct Threads {
    receivers: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Threads {
    fn join(self) {
        for thread in self.others.into_iter().chain(self.receivers) {
            thread.join().expect("no thread panics");
        }
    }
}

fn start(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name).spawn(work).expect("a thread")
}

/// What was done, line by line, in a file: it is there whatever becomes of the process.
pub(crate) struct Log {
    file: Mutex<Option<File>>,
    begin: Instant,
}

impl Log {
    fn new(path: &Path) -> Log {
        Log { file: Mutex::new(File::create(path).ok()), begin: Instant::now() }
    }

    /// Writes down what a socket's monitor tells, too, where that is asked for: it costs a thread for each life of a
    /// socket.
    fn watch(self: &Arc<Log>, name: u32, socket: &AnySocket) {
        if std::env::var_os("WIREMESH_TORTURE_EVENTS").is_some() {
            let (log, monitor) = (Arc::clone(self), socket.monitor());
            start(format!("events-{name}"), move || {
                monitor.iter().for_each(|event| log.line(format!("  {name} {:?}: {event}", event.peer)));
            });
        }
    }

    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        let at = self.begin.elapsed();
        if let Some(file) = lock(&self.file).as_mut() {
            // A log that cannot be written is no reason to fail.
            let _ = writeln!(file, "{:9.3} {text}", at.as_secs_f64() * 1000.0);
        }
    }
}
