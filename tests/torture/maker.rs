//! What themes make plans of: sockets with random options, meshes of them, and threads that send.

use crate::plan::{Act, Context, Endpoint, Frame, Link, Over, Plan, Size, Socket, Step};
use crate::support::random::Random;
use wiremesh::SocketKind::{self, Dealer, Pair, Pub, Pull, Push, Req, Router, Sub, XPub, XSub};

/// No more sockets are made than this.
pub(crate) const SOCKETS: usize = 40;
const MARKS: &[u32] = &[1, 1, 2, 7, 50, 1000, 16_384];
/// What the groups of one plan may send together, so that a run takes about a second.
pub(crate) const OCTETS: u64 = 48 << 20;

/// A plan in the making.
pub(crate) struct Maker {
    pub(crate) plan: Plan,
    pub(crate) chance: Random,
    /// What the group may still send.
    pub(crate) octets: u64,
}

impl Maker {
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.chance.below(from.len())]
    }

    /// One time in `many`.
    pub(crate) fn one_in(&mut self, many: usize) -> bool {
        self.chance.below(many) == 0
    }

    pub(crate) fn frame(&mut self) {
        let capacity = self.pick(&[1 << 10, 16 << 10, 64 << 10, 1 << 20]);
        let chop = self.pick(&[0, 0, 1000, 65_536]);
        // At least 5 MB a second, so that what a world sends passes a link within the time it has to settle.
        let delay = self.pick(&[0, 0, 0, 200, 3000]).min(capacity as u64 / 5);
        let time = 300 + self.chance.below(900) as u64;
        self.plan.frame = Frame { processes: 1, time, capacity, chop, delay, ..self.plan.frame };
        for _ in 0..1 + self.chance.below(3) {
            self.context(0);
        }
    }

    pub(crate) fn context(&mut self, process: usize) -> usize {
        let budget = self.pick(&[0, 0, 1 << 20, 1 << 20, 4 << 20, 16 << 20]);
        let threads = self.pick(&[1, 1, 1, 2]);
        let engine_only = self.one_in(8);
        self.plan.contexts.push(Context { process, threads, engine_only, budget });
        self.plan.contexts.len() - 1
    }

    /// One of the contexts of the first process.
    pub(crate) fn some_context(&mut self) -> usize {
        let near: Vec<usize> =
            (0..self.plan.contexts.len()).filter(|at| self.plan.contexts[*at].process == 0).collect();
        self.pick(&near)
    }

    pub(crate) fn socket(&mut self, kind: SocketKind, context: usize) -> usize {
        let socket = Socket {
            kind,
            context,
            receivers: self.pick(&[1, 1, 1, 2]),
            pace: self.pick(&[0, 0, 0, 50, 2000]),
            idle: self.one_in(8),
            send_mark: self.pick(MARKS),
            receive_mark: self.pick(MARKS),
            max_message: 0,
            max_frames: 0,
            buffers: self.pick(&[0, 0, 4096, 65_536]),
            heartbeat: 0,
            half_open: 0,
            linger: 0,
            immediate: false,
            conflate: false,
            handover: false,
            mandatory: false,
            nodrop: false,
            named: matches!(kind, Dealer | Req),
            answers: self.pick(&[0, 30, 100]),
        };
        self.plan.sockets.push(socket);
        self.plan.sockets.len() - 1
    }

    pub(crate) fn endpoint(&mut self, socket: usize, over: Over) -> usize {
        self.plan.endpoints.push(Endpoint { socket, over, late: false });
        self.plan.endpoints.len() - 1
    }

    pub(crate) fn link(&mut self, socket: usize, endpoint: usize) -> usize {
        self.plan.links.push(Link { socket, endpoint });
        self.plan.links.len() - 1
    }

    pub(crate) fn actor(&self) -> usize {
        self.plan.actors()
    }

    pub(crate) fn step(&mut self, actor: usize, act: Act, socket: usize, target: usize, pause: u64) {
        self.plan.steps.push(Step { actor, act, socket, target, count: 0, size: Size::Empty, pause });
    }

    /// A step that does something `count` times.
    pub(crate) fn counted(&mut self, actor: usize, act: Act, socket: usize, target: usize, count: u64) {
        self.plan.steps.push(Step { actor, act, socket, target, count, size: Size::Empty, pause: 0 });
    }

    /// A step of messages.
    pub(crate) fn sending(&mut self, actor: usize, act: Act, socket: usize, count: u64, size: Size, pause: u64) {
        self.plan.steps.push(Step { actor, act, socket, target: 0, count, size, pause });
    }

    /// Milliseconds below the whole time, as microseconds.
    pub(crate) fn moment(&mut self, most: u64) -> u64 {
        self.chance.below(most as usize * 1000) as u64
    }

    /// A socket sends something from a thread of its own; so much that it fits into what the group may send.
    pub(crate) fn sends(&mut self, socket: usize, size: Size) {
        if !matches!(self.plan.sockets[socket].kind, Push | Dealer | Router | Pub | XPub | Pair) {
            return;
        }
        let actor = self.actor();
        if self.one_in(3) {
            let pause = self.moment(100);
            self.step(actor, Act::Rest, socket, 0, pause);
        }
        for _ in 0..1 + self.chance.below(2) {
            let mean = mean(size);
            let most = (self.octets / 4 / mean).clamp(1, 4000);
            let count = 1 + self.chance.below(most as usize) as u64;
            self.octets = self.octets.saturating_sub(count * mean);
            let pause = if count < 300 { self.pick(&[0, 0, 100, 1000]) } else { 0 };
            self.sending(actor, Act::Send, socket, count, size, pause);
        }
    }

    /// Binders and connectors with links between them; the numbers of the links.
    pub(crate) fn mesh(
        &mut self,
        binder: SocketKind,
        connector: SocketKind,
        binders: usize,
        connectors: usize,
        over: Over,
    ) -> Vec<usize> {
        let room = SOCKETS.saturating_sub(self.plan.sockets.len());
        let (binders, connectors) = (binders.clamp(1, room.max(2) / 2), connectors.clamp(1, room.max(2) / 2));
        let context = self.some_context();
        let mut endpoints = Vec::new();
        for _ in 0..binders {
            let socket = self.socket(binder, context);
            endpoints.push(self.endpoint(socket, over));
        }
        let mut links = Vec::new();
        for _ in 0..connectors {
            let context = if over == Over::Inproc { context } else { self.some_context() };
            let socket = self.socket(connector, context);
            let sure = self.chance.below(binders);
            for (number, endpoint) in endpoints.iter().enumerate() {
                if number == sure || self.one_in(3) {
                    links.push(self.link(socket, *endpoint));
                }
            }
        }
        links
    }

    /// The binder and the connector of a link.
    pub(crate) fn ends(&self, link: usize) -> (usize, usize) {
        let link = &self.plan.links[link];
        (self.plan.endpoints[link.endpoint].socket, link.socket)
    }

    /// The sockets of some links, each once.
    pub(crate) fn sockets(&self, links: &[usize]) -> Vec<usize> {
        let mut sockets: Vec<usize> = links.iter().flat_map(|link| [self.ends(*link).0, self.ends(*link).1]).collect();
        sockets.sort_unstable();
        sockets.dedup();
        sockets
    }

    pub(crate) fn change(&mut self, sockets: &[usize], change: impl Fn(&mut Socket)) {
        sockets.iter().for_each(|socket| change(&mut self.plan.sockets[*socket]));
    }

    pub(crate) fn all_send(&mut self, links: &[usize], sizes: &[Size]) {
        for socket in self.sockets(links) {
            for _ in 0..1 + self.chance.below(2) {
                let size = self.pick(sizes);
                self.sends(socket, size);
            }
        }
    }

    pub(crate) fn any_over(&mut self) -> Over {
        self.pick(&[Over::Tcp, Over::Ipc, Over::Inproc, Over::Memory])
    }

    pub(crate) fn any_mesh(&mut self, over: Over) -> Vec<usize> {
        let (one, other) = self.pick(&[
            (Push, Pull),
            (Push, Pull),
            (Dealer, Router),
            (Dealer, Router),
            (Dealer, Dealer),
            (Pub, Sub),
            (XPub, Sub),
            (Pub, XSub),
            (Pair, Pair),
        ]);
        let (one, other) = if self.one_in(2) { (one, other) } else { (other, one) };
        if one == Pair {
            return self.mesh(Pair, Pair, 1, 1, over);
        }
        // Two ROUTERs know a DEALER by one name, but one ROUTER must not know two by one.
        let (binders, connectors) = (1 + self.chance.below(3), 1 + self.chance.below(5));
        let links = self.mesh(one, other, binders, connectors, over);
        let sockets = self.sockets(&links);
        let (nodrop, mandatory, immediate) = (self.one_in(4), self.one_in(2), self.one_in(5));
        self.change(&sockets, |socket| {
            socket.nodrop = nodrop && matches!(socket.kind, Pub | XPub);
            socket.mandatory = mandatory && socket.kind == Router;
            socket.immediate = immediate;
        });
        links
    }
}

/// How long such messages are about.
pub(crate) fn mean(size: Size) -> u64 {
    match size {
        Size::Empty => 60,
        Size::Tiny => 100,
        Size::Small => 1200,
        Size::Frames => 20_000,
        Size::Any => 60_000,
        Size::Middle => 40_000,
        Size::OverLimit => 150_000,
        Size::Large => 500_000,
        Size::Huge => 2_500_000,
    }
}
