//! Plans from seeds. A plan is one to four groups of sockets that share contexts, and each group has a theme: a corner
//! in which random choices meet often, such as marks of 1, tiny budgets, pauses, cuts with unread messages.

use crate::maker::{Maker, OCTETS, SOCKETS, mean};
use crate::plan::{Act, Manner, Over, Plan, Size, Stranger};
use crate::support::random::Random;
use crate::text::words;
use wiremesh::SocketKind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub};

words! {
    /// What groups are about.
    Theme {
        /// Any pattern with any options, and nobody disturbs it.
        Calm,
        /// Any pattern, and things are taken away and come back.
        Restless,
        /// A PULL whose peer sends a PING after each message, read by several threads.
        PingingPeers,
        /// An XPUB at its mark while its peers subscribe to thousands of topics.
        ManyTopics,
        /// A publisher and many subscribers of large messages that stand still at first, in one context.
        LateSubscribers,
        /// Messages that some peers do not take.
        OverLimit,
        /// Both ends of links are closed at once, with messages unread.
        BothClose,
        /// Links in memory that are cut while messages are unread.
        Cuts,
        /// Two threads connect one SUB to one endpoint.
        ConnectTwice,
        /// Clients with queued messages come back to a binder with few places.
        ComeBack,
        /// One side beats, the other stands at its mark.
        BeatsAtMark,
        /// A process of several is stopped for a while.
        Stopped,
        /// REQ and REP, of which some are slow.
        Questions,
        /// Strangers beside peers.
        Strangers,
        /// Both ends keep the newest message only.
        Conflate,
        /// ROUTERs whose peers come back under the same name.
        Handover,
    }
}

/// How often each comes up.
const THEMES: &[(Theme, usize)] = &[
    (Theme::Calm, 4),
    (Theme::Restless, 4),
    (Theme::PingingPeers, 2),
    (Theme::ManyTopics, 2),
    (Theme::LateSubscribers, 2),
    (Theme::OverLimit, 2),
    (Theme::BothClose, 3),
    (Theme::Cuts, 3),
    (Theme::ConnectTwice, 2),
    (Theme::ComeBack, 2),
    (Theme::BeatsAtMark, 1),
    (Theme::Stopped, 2),
    (Theme::Questions, 2),
    (Theme::Strangers, 2),
    (Theme::Conflate, 1),
    (Theme::Handover, 1),
];

/// The plan of a seed, and its themes; of one theme only, if that is given.
pub(crate) fn plan(seed: u64, only: Option<Theme>) -> (Plan, Vec<Theme>) {
    let mut chance = Random::new(seed);
    for _ in 0..8 {
        chance.next();
    }
    let mut maker = Maker { plan: Plan::empty(seed), chance, octets: OCTETS };
    maker.frame();
    let groups = 1 + maker.chance.below(4);
    let mut themes = Vec::new();
    for _ in 0..groups {
        let total = THEMES.iter().map(|(_, weight)| weight).sum();
        let mut drawn = maker.chance.below(total);
        let theme = THEMES.iter().find(|(_, weight)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        });
        maker.octets = OCTETS / groups as u64;
        let theme = only.unwrap_or(theme.map_or(Theme::Calm, |(theme, _)| *theme));
        themes.push(theme);
        maker.add(theme);
    }
    (maker.plan, themes)
}

impl Maker {
    fn add(&mut self, theme: Theme) {
        match theme {
            Theme::Calm => self.calm(),
            Theme::Restless => self.restless(),
            Theme::PingingPeers => self.pinging_peers(),
            Theme::ManyTopics => self.many_topics(),
            Theme::LateSubscribers => self.late_subscribers(),
            Theme::OverLimit => self.over_limit(),
            Theme::BothClose => self.both_close(),
            Theme::Cuts => self.cuts(),
            Theme::ConnectTwice => self.connect_twice(),
            Theme::ComeBack => self.come_back(),
            Theme::BeatsAtMark => self.beats_at_mark(),
            Theme::Stopped => self.stopped(),
            Theme::Questions => self.questions(),
            Theme::Strangers => self.strangers(),
            Theme::Conflate => self.conflate(),
            Theme::Handover => self.handover(),
        }
    }

    fn calm(&mut self) {
        let over = self.any_over();
        let links = self.any_mesh(over);
        self.all_send(
            &links,
            &[Size::Empty, Size::Tiny, Size::Small, Size::Middle, Size::Large, Size::Huge, Size::Any, Size::Frames],
        );
    }

    fn restless(&mut self) {
        let over = self.any_over();
        let links = self.any_mesh(over);
        self.all_send(&links, &[Size::Tiny, Size::Small, Size::Middle, Size::Any, Size::Frames]);
        let actor = self.actor();
        let time = self.plan.frame.time;
        for _ in 0..1 + self.chance.below(4) {
            let link = self.pick(&links);
            let (binder, connector) = self.ends(link);
            let endpoint = self.plan.links[link].endpoint;
            let pause = self.moment(60);
            let before = self.moment(time / 4);
            self.step(actor, Act::Rest, binder, 0, before);
            match self.chance.below(7) {
                0 => self.step(actor, Act::Disconnect, connector, link, pause),
                1 if over != Over::Inproc => self.step(actor, Act::Rebind, binder, endpoint, pause),
                2 => self.step(actor, Act::Restart, connector, 0, pause),
                3 if over != Over::Inproc => self.step(actor, Act::Restart, binder, 0, pause),
                4 => self.step(actor, Act::RestartBoth, binder, connector, pause),
                5 if over == Over::Memory => self.step(actor, Act::Stall, binder, endpoint, pause),
                6 if over == Over::Memory => self.counted(actor, Act::Cut, binder, endpoint, 0),
                _ => self.step(actor, Act::Hold, connector, 0, pause * 3),
            }
        }
    }

    fn pinging_peers(&mut self) {
        let context = self.some_context();
        let pull = self.socket(Pull, context);
        let over = self.pick(&[Over::Tcp, Over::Ipc]);
        let endpoint = self.endpoint(pull, over);
        let mark = self.pick(&[1, 10, 100, 1000]);
        let receivers = self.pick(&[1, 2, 3]);
        self.change(&[pull], |pull| {
            (pull.receive_mark, pull.receivers, pull.idle, pull.pace) = (mark, receivers, false, 0)
        });
        for _ in 0..1 + self.chance.below(3) {
            let count = 3000 + self.chance.below(9000) as u64;
            self.plan.strangers.push(Stranger { endpoint, manner: Manner::PingingPush, count, size: Size::Empty });
        }
    }

    fn many_topics(&mut self) {
        let (over, connectors) = (self.pick(&[Over::Tcp, Over::Ipc, Over::Memory]), 1 + self.chance.below(2));
        let links = self.mesh(XPub, Sub, 1, connectors, over);
        let binder = self.ends(links[0]).0;
        let mark = self.pick(&[1, 20, 1000, 16_384]);
        // None: an application that only publishes.
        let receivers = self.pick(&[0, 1, 1, 2]);
        let pace = self.pick(&[0, 0, 20]);
        self.change(&[binder], |socket| {
            (socket.receive_mark, socket.receivers, socket.pace, socket.idle) = (mark, receivers, pace, false);
        });
        for link in &links {
            let connector = self.ends(*link).1;
            let actor = self.actor();
            let count = 2000 + self.chance.below(if pace == 0 { 60_000 } else { 4000 }) as u64;
            self.counted(actor, Act::Subscribe, connector, 1000, count);
            if self.one_in(2) {
                self.counted(actor, Act::Toggle, connector, 9, 2000);
            }
        }
        self.sends(binder, Size::Tiny);
    }

    fn late_subscribers(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Tcp, Over::Ipc, Over::Memory]);
        let context = self.context(0);
        let budget = self.pick(&[1 << 20, 2 << 20, 4 << 20, 8 << 20]);
        self.plan.contexts[context].budget = budget;
        let kind = self.pick(&[Pub, Pub, XPub, Push]);
        let publisher = self.socket(kind, context);
        let endpoint = self.endpoint(publisher, over);
        let count = (4 + self.chance.below(20)).min(SOCKETS.saturating_sub(self.plan.sockets.len()).max(1));
        let mut all = vec![publisher];
        for _ in 0..count {
            let socket = self.socket(if kind == Push { Pull } else { Sub }, context);
            self.link(socket, endpoint);
            all.push(socket);
        }
        self.change(&all, |socket| (socket.send_mark, socket.receive_mark, socket.pace) = (16_384, 16_384, 0));
        self.change(&all[1..], |socket| socket.idle = true);
        if self.one_in(3) {
            // Longer than any bystander may wait.
            self.plan.frame.time = 3500;
            let actor = self.actor();
            self.step(actor, Act::Rest, publisher, 0, 3_400_000);
        }
        let size = self.pick(&[Size::Middle, Size::Large, Size::Large, Size::Huge]);
        let actor = self.actor();
        let most = 2 * budget / mean(size) + 3;
        self.sending(actor, Act::Send, publisher, most.min(60), size, 200);
    }

    fn over_limit(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc, Over::Memory]);
        let (one, other) =
            self.pick(&[(Push, Pull), (Pull, Push), (Dealer, Router), (Router, Dealer), (Sub, Pub), (Pub, Sub)]);
        let (binders, connectors) = (1, 1 + self.chance.below(3));
        let links = self.mesh(one, other, binders, connectors, over);
        let octets = self.pick(&[64 << 10, 200 << 10, 1 << 20]);
        let frames = self.pick(&[2, 10, 100]);
        let (octets, frames) = self.pick(&[(octets, 0), (0, frames), (octets, frames)]);
        let takers: Vec<usize> = self
            .sockets(&links)
            .into_iter()
            .filter(|at| !matches!(self.plan.sockets[*at].kind, Push | Pub | XPub))
            .collect();
        let some = self.one_in(3);
        let takers = if some { &takers[..1] } else { &takers[..] };
        self.change(takers, |socket| (socket.max_message, socket.max_frames) = (octets, frames));
        for socket in self.sockets(&links) {
            self.change(&[socket], |socket| socket.answers = 0);
            if self.plan.sockets[socket].kind != Router {
                self.sends(socket, Size::OverLimit);
            }
        }
    }

    fn both_close(&mut self) {
        let over = self.pick(&[Over::Inproc, Over::Inproc, Over::Tcp, Over::Memory]);
        let context = self.context(0);
        let budget = self.pick(&[1 << 20, 2 << 20]);
        self.plan.contexts[context].budget = budget;
        let (one, other) = self.pick(&[(Push, Pull), (Dealer, Dealer), (Pair, Pair)]);
        for _ in 0..1 + self.chance.below(2) {
            let (binder, connector) = (self.socket(one, context), self.socket(other, context));
            let endpoint = self.endpoint(binder, over);
            self.link(connector, endpoint);
            self.change(&[binder, connector], |socket| {
                (socket.idle, socket.send_mark, socket.receive_mark) = (true, 1000, 1000)
            });
            for socket in [binder, connector] {
                if matches!(self.plan.sockets[socket].kind, Push | Dealer | Pair) {
                    let actor = self.actor();
                    self.sending(actor, Act::Send, socket, 400, Size::Middle, 0);
                }
            }
            let actor = self.actor();
            for _ in 0..4 + self.chance.below(12) {
                let pause = self.moment(20);
                self.step(actor, Act::Rest, binder, 0, pause);
                self.step(actor, Act::RestartBoth, binder, connector, 0);
            }
        }
    }

    fn cuts(&mut self) {
        let (one, other) = self.pick(&[
            (Push, Pull),
            (Pull, Push),
            (Dealer, Dealer),
            (Dealer, Router),
            (Router, Dealer),
            (Sub, Pub),
            (Pub, Sub),
        ]);
        let (binders, connectors) = (1 + self.chance.below(2), 1 + self.chance.below(3));
        let links = self.mesh(one, other, binders, connectors, Over::Memory);
        let sockets = self.sockets(&links);
        let pace = self.pick(&[100, 500, 2000]);
        let mark = self.pick(&[1, 20, 16_384]);
        self.change(&sockets, |socket| {
            (socket.pace, socket.idle, socket.receive_mark, socket.receivers) = (pace, false, mark, 1);
        });
        self.all_send(&links, &[Size::Empty, Size::Small, Size::Middle]);
        let actor = self.actor();
        let time = self.plan.frame.time;
        for _ in 0..2 + self.chance.below(6) {
            let link = self.pick(&links);
            let (binder, endpoint) = (self.ends(link).0, self.plan.links[link].endpoint);
            let before = self.moment(time / 6);
            self.step(actor, Act::Rest, binder, 0, before);
            let drains = self.chance.below(2) as u64;
            self.counted(actor, Act::Cut, binder, endpoint, drains);
        }
    }

    fn connect_twice(&mut self) {
        let over = self.pick(&[Over::Inproc, Over::Inproc, Over::Tcp]);
        let (binder, connector) = self.pick(&[(Pub, Sub), (XPub, Sub), (Router, Dealer)]);
        let connectors = 1 + self.chance.below(3);
        let links = self.mesh(binder, connector, 1, connectors, over);
        for link in &links {
            let connector = self.ends(*link).1;
            self.change(&[connector], |socket| socket.named = false);
            let actor = self.actor();
            for _ in 0..3 + self.chance.below(12) {
                self.step(actor, Act::ConnectTwice, connector, *link, 0);
            }
        }
        let binder = self.ends(links[0]).0;
        self.sends(binder, Size::Tiny);
    }

    fn come_back(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc, Over::Memory]);
        let (binder, connector) = self.pick(&[(Pull, Push), (Dealer, Dealer), (Router, Dealer)]);
        let connectors = 10 + self.chance.below(25);
        let links = self.mesh(binder, connector, 1, connectors, over);
        let binder = self.ends(links[0]).0;
        let few = self.pick(if over == Over::Memory { &[3, 4, 6] } else { &[1, 2, 4] });
        self.change(&[binder], |socket| (socket.half_open, socket.idle) = (few, false));
        if over == Over::Memory {
            // Handshakes take long enough that newcomers meet them half done.
            (self.plan.frame.delay, self.plan.frame.capacity) = (3000, 64 << 10);
        }
        let endpoint = self.plan.links[links[0]].endpoint;
        self.plan.endpoints[endpoint].late = true;
        let actor = self.actor();
        self.step(actor, Act::Rebind, binder, endpoint, 100_000);
        for link in &links {
            let connector = self.ends(*link).1;
            let (actor, count) = (self.actor(), 1 + self.chance.below(20) as u64);
            self.sending(actor, Act::Send, connector, count, Size::Tiny, 0);
        }
    }

    fn beats_at_mark(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc]);
        let links = self.mesh(Push, Pull, 1, 1, over);
        let (push, pull) = self.ends(links[0]);
        self.change(&[push], |socket| (socket.heartbeat, socket.send_mark) = (100, 1000));
        self.change(&[pull], |socket| (socket.idle, socket.receive_mark, socket.buffers) = (true, 1, 4096));
        let actor = self.actor();
        self.sending(actor, Act::Send, push, 200, Size::Middle, 0);
        let actor = self.actor();
        self.step(actor, Act::Rest, push, 0, 1_200_000);
        self.plan.frame.time = self.plan.frame.time.max(1300);
    }

    fn stopped(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc]);
        let process = self.plan.frame.processes;
        self.plan.frame.processes += 1;
        let (near, far) = (self.some_context(), self.context(process));
        let (one, other) = self.pick(&[(Push, Pull), (Pull, Push), (Dealer, Dealer), (Router, Dealer), (Pub, Sub)]);
        let binder_is_far = self.one_in(2);
        let binder = self.socket(one, if binder_is_far { far } else { near });
        let endpoint = self.endpoint(binder, over);
        let mut distant = vec![binder];
        for _ in 0..1 + self.chance.below(3) {
            let socket = self.socket(other, if binder_is_far { near } else { far });
            self.link(socket, endpoint);
            distant.push(socket);
        }
        let beat = self.pick(&[0, 100, 200]);
        let far_ones: Vec<usize> = distant.iter().copied().filter(|at| self.plan.process_of(*at) == process).collect();
        self.change(&far_ones, |socket| socket.heartbeat = beat);
        for socket in distant {
            let size = self.pick(&[Size::Tiny, Size::Small, Size::Middle]);
            self.sends(socket, size);
        }
        let actor = self.actor();
        for _ in 0..1 + self.chance.below(2) {
            let before = self.moment(200);
            let pause = self.pick(&[50_000, 300_000, 700_000]);
            let near_one = (0..self.plan.sockets.len()).find(|at| self.plan.process_of(*at) == 0).unwrap_or(0);
            // The first process stops the others, so this is a thread of it whatever socket it names.
            if self.plan.process_of(near_one) == 0 {
                self.step(actor, Act::Rest, near_one, 0, before);
                self.step(actor, Act::Stop, near_one, process, pause);
            }
        }
    }

    fn questions(&mut self) {
        let over = self.any_over();
        let (one, other) = self.pick(&[(Rep, Req), (Rep, Req), (Req, Rep)]);
        let connectors = if one == Req { 1 } else { 1 + self.chance.below(4) };
        let links = self.mesh(one, other, 1, connectors, over);
        let sockets = self.sockets(&links);
        let slow = self.pick(&[0, 0, 30]);
        self.change(&sockets, |socket| {
            (socket.named, socket.answers, socket.idle, socket.pace, socket.receivers) = (false, slow, false, 0, 1);
        });
        for socket in sockets {
            if self.plan.sockets[socket].kind == Req {
                let (actor, count) = (self.actor(), 5 + self.chance.below(200) as u64);
                let limit = if slow > 0 { 20_000 } else { 300_000 };
                let size = self.pick(&[Size::Empty, Size::Small, Size::Middle]);
                self.sending(actor, Act::Request, socket, count, size, limit);
            }
        }
    }

    fn strangers(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc]);
        let links = self.any_mesh(over);
        self.all_send(&links, &[Size::Tiny, Size::Small, Size::Middle]);
        for _ in 0..1 + self.chance.below(3) {
            let link = self.pick(&links);
            let endpoint = self.plan.links[link].endpoint;
            let manner = self.pick(&[
                Manner::PingFlood,
                Manner::Garbage,
                Manner::Silent,
                Manner::HugeFrame,
                Manner::HalfMessage,
                Manner::Libzmq,
            ]);
            let count = match manner {
                Manner::PingFlood => 20_000,
                Manner::Libzmq => 500,
                _ => 1 + self.chance.below(40) as u64,
            };
            self.plan.strangers.push(Stranger { endpoint, manner, count, size: Size::Small });
        }
    }

    fn conflate(&mut self) {
        let over = self.any_over();
        let (one, other) = self.pick(&[(Push, Pull), (Pull, Push), (Pub, Sub)]);
        let links = self.mesh(one, other, 1, 1, over);
        let sockets = self.sockets(&links);
        self.change(&sockets, |socket| socket.conflate = true);
        self.all_send(&links, &[Size::Empty]);
    }

    fn handover(&mut self) {
        let over = self.pick(&[Over::Tcp, Over::Ipc, Over::Memory, Over::Inproc]);
        let connectors = 1 + self.chance.below(3);
        let links = self.mesh(Router, Dealer, 1, connectors, over);
        let binder = self.ends(links[0]).0;
        self.change(&[binder], |socket| socket.handover = true);
        self.all_send(&links, &[Size::Tiny, Size::Small]);
        let actor = self.actor();
        for _ in 0..2 + self.chance.below(4) {
            let link = self.pick(&links);
            let connector = self.ends(link).1;
            let before = self.moment(60);
            self.step(actor, Act::Rest, binder, 0, before);
            self.step(actor, Act::Restart, connector, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_plan_and_its_text_is_read_back() {
        for seed in 0..2000 {
            let (made, _) = plan(seed, None);
            assert_eq!(made, plan(seed, None).0);
            assert_eq!(Plan::parse(&made.text()), Ok(made), "seed {seed}");
        }
    }

    #[test]
    fn every_plan_is_within_bounds_and_every_corner_comes_up() {
        let plans: Vec<Plan> = (0..500).map(|seed| plan(seed, None).0).collect();
        for made in &plans {
            assert!((1..=SOCKETS + 4).contains(&made.sockets.len()), "{} sockets", made.sockets.len());
            made.check().expect("good");
        }
        let some = |what: &str, is_it: &dyn Fn(&Plan) -> bool| {
            let count = plans.iter().filter(|made| is_it(made)).count();
            assert!(count >= 10, "{what}: {count} of 500");
        };
        some("several processes", &|made| made.frame.processes > 1);
        some("budgets of 1 MiB", &|made| made.contexts.iter().any(|context| context.budget == 1 << 20));
        some("marks of 1", &|made| made.sockets.iter().any(|socket| socket.send_mark == 1 && socket.receive_mark == 1));
        some("limits of frames", &|made| made.sockets.iter().any(|socket| socket.max_frames > 0));
        some("30 sockets", &|made| made.sockets.len() >= 30);
        for act in
            [Act::Cut, Act::Stall, Act::Rebind, Act::Restart, Act::RestartBoth, Act::Disconnect, Act::Stop, Act::Hold]
        {
            some(&format!("{act:?}"), &|made| made.steps.iter().any(|step| step.act == act));
        }
        for size in [Size::Empty, Size::Huge, Size::Frames, Size::OverLimit] {
            some(&format!("{size:?}"), &|made| {
                made.steps.iter().any(|step| step.act == Act::Send && step.size == size)
            });
        }
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let text = plan(3, None).0.text();
        assert!(Plan::parse(&text.replace("plan seed", "plan sed")).is_err());
        assert!(Plan::parse(&(text.clone() + "link socket=999 endpoint=0\n")).is_err());
        assert!(Plan::parse(&(text + "nonsense\n")).is_err());
    }
}
