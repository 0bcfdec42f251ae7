//! The octets all sockets of a context may hold together, in queues and of messages that are not whole yet: the last
//! bound on memory, behind the marks of each peer.
//!
//! One half is for what waits to be sent, the other for what has been received, so that neither kind of queue can stop
//! the one that would empty it. What is held is a [`Charge`], which gives it back when it goes, whatever the way. No
//! lock is taken here, so a charge may change or go under any lock; what follows for others is left for
//! [`Budget::take_ended`] and [`Budget::take_begun`].

use super::sync::{Arc, AtomicBool, AtomicI64, Ordering};
use std::fmt;

/// See the module.
pub(crate) struct Budget {
    sending: Half,
    receiving: Half,
    /// A shortage has begun, or has ended for some sockets, and this has not been passed on yet.
    begun: AtomicBool,
    ended: AtomicBool,
}

/// A half of a context's [`byte_budget`](crate::ContextBuilder::byte_budget).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetHalf {
    /// What waits to be sent or is being written, and what an inproc receiver has fetched and its application has not
    /// read.
    Sending,
    /// What has been received and not read, and of messages that are not whole yet; topics and metadata of peers;
    /// memory that received messages share.
    Receiving,
}

impl fmt::Display for BudgetHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BudgetHalf::Sending => "sending",
            BudgetHalf::Receiving => "receiving",
        })
    }
}

/// One half, and what is held of it.
struct Half {
    /// 0 is no limit.
    limit: i64,
    used: AtomicI64,
    /// More is in use than there is room for; until a quarter of the room is free again.
    over: AtomicBool,
    begun: AtomicBool,
    /// How many sockets hold more than their allowance.
    holders: AtomicI64,
    /// What belongs to unfinished messages, and how many connections have such.
    unfinished: AtomicI64,
    unfinished_holders: AtomicI64,
    /// What is held for as long as peers are there, allowances included.
    standing: AtomicI64,
    /// The memory that received messages share. What is in use has so much less room.
    pinned: AtomicI64,
}

/// Each socket holds so much of each half without being counted.
pub(crate) const ALLOWANCE: i64 = 64 * 1024;
/// The octets of an unfinished message are counted in such steps; fewer are free.
pub(crate) const STEP: usize = 8 * 1024;

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Budget> {
        let limit =
            limit.filter(|limit| *limit > 0).map_or(0, |limit| i64::try_from((limit / 2).max(1)).unwrap_or(i64::MAX));
        let (sending, receiving) = (Half::new(limit), Half::new(limit));
        Arc::new(Budget { sending, receiving, begun: AtomicBool::new(false), ended: AtomicBool::new(false) })
    }

    /// How many octets of a half are taken: by all sockets together, beyond their allowances, and by what received
    /// messages share.
    pub(crate) fn used(&self, side: BudgetHalf) -> u64 {
        let half = self.half(side);
        u64::try_from(half.used.load(Ordering::Relaxed) + half.pinned.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Returns true while a half is used up.
    pub(crate) fn is_short(&self, side: BudgetHalf) -> bool {
        self.half(side).over.load(Ordering::Relaxed)
    }

    /// A shortage that has begun is to be told later.
    pub(crate) fn put_off(&self, side: BudgetHalf) {
        self.half(side).begun.store(true, Ordering::Release);
        self.begun.store(true, Ordering::Release);
    }

    /// How many octets a half has; 0 is no limit.
    pub(crate) fn limit(&self, side: BudgetHalf) -> u64 {
        u64::try_from(self.half(side).limit).unwrap_or(0)
    }

    /// Returns true once after a shortage has ended for all or for some: those that were stopped try again. The caller
    /// sees to that.
    #[inline(always)]
    pub(crate) fn take_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) && self.ended.swap(false, Ordering::AcqRel)
    }

    /// The halves in which a shortage has begun, each once. The caller tells the sockets.
    #[inline(always)]
    pub(crate) fn take_begun(&self) -> [Option<BudgetHalf>; 2] {
        if !(self.begun.load(Ordering::Relaxed) && self.begun.swap(false, Ordering::AcqRel)) {
            return [None, None];
        }
        [BudgetHalf::Sending, BudgetHalf::Receiving]
            .map(|side| Some(side).filter(|side| self.half(*side).begun.swap(false, Ordering::AcqRel)))
    }

    fn half(&self, side: BudgetHalf) -> &Half {
        match side {
            BudgetHalf::Sending => &self.sending,
            BudgetHalf::Receiving => &self.receiving,
        }
    }

    /// A socket's account changes from `before` octets to `now`.
    fn count(&self, side: BudgetHalf, before: i64, now: i64) {
        let half = self.half(side);
        let holders = i64::from(now > ALLOWANCE) - i64::from(before > ALLOWANCE);
        if holders != 0 {
            half.holders.fetch_add(holders, Ordering::Relaxed);
        }
        let change = (now - ALLOWANCE).max(0) - (before - ALLOWANCE).max(0);
        if change == 0 {
            return;
        }
        let used = half.used.fetch_add(change, Ordering::AcqRel) + change;
        if half.limit == 0 {
            return;
        }
        let over = half.over.load(Ordering::Relaxed);
        if change > 0 && !over && used > half.room(half.pinned.load(Ordering::Relaxed)) {
            if !half.over.swap(true, Ordering::AcqRel) {
                half.begun.store(true, Ordering::Release);
                self.begun.store(true, Ordering::Release);
            }
            // A thread that gave back meanwhile may have found no shortage to end. This is a change like its own,
            // although of nothing: either that thread comes after it and sees the shortage, or it comes after that
            // thread and sees what it gave back.
            self.end_shortage(half, half.used.fetch_add(0, Ordering::AcqRel));
        } else if change < 0 && over {
            self.end_shortage(half, used);
            // Those that hold little may go on although the shortage lasts: there is room beyond the limit again, or a
            // larger part for each.
            let reserve = half.reserve(half.pinned.load(Ordering::Relaxed));
            if holders < 0 || (used - change > reserve && used <= reserve) {
                self.ended.store(true, Ordering::Release);
            }
        }
    }

    fn end_shortage(&self, half: &Half, used: i64) {
        // A change as well, for the thread that gives such memory back meanwhile.
        let room = half.room(half.pinned.fetch_add(0, Ordering::AcqRel));
        if used <= room / 4 * 3 && half.over.swap(false, Ordering::AcqRel) {
            self.ended.store(true, Ordering::Release);
        }
    }

    /// Received messages share so many octets less.
    fn unpin(&self, half: &Half, octets: i64) {
        let before = half.pinned.fetch_sub(octets, Ordering::AcqRel);
        if half.over.load(Ordering::Relaxed) {
            let used = half.used.fetch_add(0, Ordering::AcqRel);
            self.end_shortage(half, used);
            if used > half.reserve(before) && used <= half.reserve(before - octets) {
                self.ended.store(true, Ordering::Release);
            }
        }
    }
}

/// When the last socket is gone, and the context with it, nothing may be held: what is left would be missing for good.
impl Drop for Budget {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would end the process, and with it what the first one says.
            return;
        }
        for half in [&self.sending, &self.receiving] {
            debug_assert_eq!(half.used.load(Ordering::Relaxed), 0, "octets that nobody holds are counted");
            debug_assert_eq!(half.holders.load(Ordering::Relaxed), 0, "sockets that are gone are counted");
            debug_assert_eq!(half.unfinished.load(Ordering::Relaxed), 0, "messages that are gone are counted");
            debug_assert_eq!(half.standing.load(Ordering::Relaxed), 0, "peers that are gone are counted");
            debug_assert_eq!(half.pinned.load(Ordering::Relaxed), 0, "memory that is free is counted");
        }
    }
}

impl Half {
    fn new(limit: i64) -> Half {
        Half {
            limit,
            used: AtomicI64::new(0),
            over: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            holders: AtomicI64::new(0),
            unfinished: AtomicI64::new(0),
            unfinished_holders: AtomicI64::new(0),
            standing: AtomicI64::new(0),
            pinned: AtomicI64::new(0),
        }
    }

    /// How much may be in use where received messages share so many octets. Three quarters of the limit are left in any
    /// case, so that a program that keeps messages, which nobody can read away, stops no socket for good.
    fn room(&self, pinned: i64) -> i64 {
        self.limit - pinned.min(self.limit / 4)
    }

    /// How much may be in use before sockets that hold little are stopped as well: another quarter is there for them.
    fn reserve(&self, pinned: i64) -> i64 {
        self.room(pinned).saturating_add(self.limit / 4)
    }
}

/// What one socket holds of one half.
pub(crate) struct Account {
    budget: Arc<Budget>,
    side: BudgetHalf,
    held: AtomicI64,
    /// How much of that is held for as long as peers are there.
    standing: AtomicI64,
    /// A sender or a link was stopped, and has not been told to go on since.
    stopped: AtomicBool,
    /// The application has been seen to keep messages while it goes on receiving.
    keeps: AtomicBool,
}

impl Account {
    pub(crate) fn new(budget: &Arc<Budget>, side: BudgetHalf) -> Arc<Account> {
        let (budget, [stopped, keeps]) = (Arc::clone(budget), [(); 2].map(|()| AtomicBool::new(false)));
        Arc::new(Account { budget, side, held: AtomicI64::new(0), standing: AtomicI64::new(0), stopped, keeps })
    }

    /// How many octets the socket holds.
    pub(crate) fn held(&self) -> u64 {
        u64::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Returns true if the half is used up and this socket holds much of it: it may then hold one message for each
    /// peer.
    #[inline(always)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.half().over.load(Ordering::Relaxed) && self.is_large()
    }

    /// Returns true if a connection that is counted for `own` octets of an unfinished message is to wait: there is too
    /// much, and not by its message alone, since one message is let through whatever its size.
    pub(crate) fn is_crowded_beside(&self, own: usize) -> bool {
        self.is_stopped() && self.half().used.load(Ordering::Relaxed) > octets(own)
    }

    /// Returns true if it waits because of unfinished messages: they have more than half of what is received.
    pub(crate) fn is_hogged_beside(&self, own: usize) -> bool {
        let half = self.half();
        self.is_crowded_beside(own) && half.unfinished.load(Ordering::Relaxed) > half.limit / 2
    }

    /// Returns true if that connection has no less than the average of those that have unfinished messages, as the
    /// largest has.
    pub(crate) fn is_most(&self, own: usize) -> bool {
        let half = self.half();
        let all = half.unfinished.load(Ordering::Relaxed);
        octets(own).saturating_mul(half.unfinished_holders.load(Ordering::Relaxed)) >= all
    }

    /// Whether the socket may hold so much more for as long as peers are there: within its allowance always, else as
    /// long as all sockets together have no more than half of the half. So what is to be received has the other, and no
    /// shortage lasts because of peers.
    pub(crate) fn has_room_to_stand(&self, more: usize) -> bool {
        let (half, more) = (self.half(), octets(more));
        half.limit == 0
            || self.standing.load(Ordering::Relaxed) + more <= ALLOWANCE
            || half.standing.load(Ordering::Relaxed) + more <= half.limit / 2
    }

    /// Returns true if there is a limit.
    pub(crate) fn has_limit(&self) -> bool {
        self.half().limit != 0
    }

    /// Returns true while either half is used up.
    pub(crate) fn is_strained(&self) -> bool {
        self.budget.is_short(BudgetHalf::Sending) || self.budget.is_short(BudgetHalf::Receiving)
    }

    /// Returns true if the socket is one of those that made the shortage, after it has noted that a caller waits: the
    /// thread that ends the shortage afterwards finds the note, and what was changed before is seen here.
    #[cold]
    fn is_large(&self) -> bool {
        self.has_large_part() && {
            self.stopped.swap(true, Ordering::AcqRel);
            self.half().over.load(Ordering::Relaxed) && self.has_large_part()
        }
    }

    /// Returns true if a sender or a link was stopped since this was asked last.
    pub(crate) fn take_stopped(&self) -> bool {
        self.stopped.swap(false, Ordering::AcqRel)
    }

    /// Sockets that hold little go on in a shortage: within their allowance always, and up to an equal part of a
    /// quarter, which is there for them, beyond the room for all.
    fn has_large_part(&self) -> bool {
        let (half, held) = (self.half(), self.held.load(Ordering::Relaxed));
        let quarter = half.limit / 4;
        let share = quarter / half.holders.load(Ordering::Relaxed).max(1);
        let is_reserve_used = || half.used.load(Ordering::Relaxed) > half.reserve(half.pinned.load(Ordering::Relaxed));
        held > ALLOWANCE && (held > share || is_reserve_used())
    }

    fn half(&self) -> &Half {
        self.budget.half(self.side)
    }

    fn change(&self, before: usize, now: usize) {
        let change = octets(now) - octets(before);
        let held = self.held.fetch_add(change, Ordering::Relaxed);
        self.budget.count(self.side, held, held + change);
    }
}

/// Octets that are counted for a socket as long as this is there.
pub(crate) struct Charge {
    account: Arc<Account>,
    octets: usize,
}

impl Charge {
    /// Nothing yet.
    pub(crate) fn new(account: &Arc<Account>) -> Charge {
        Charge { account: Arc::clone(account), octets: 0 }
    }

    #[inline(always)]
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// It stands for so many now.
    pub(crate) fn set(&mut self, octets: usize) {
        self.account.change(self.octets, octets);
        self.octets = octets;
    }

    /// It stands for so many more.
    pub(crate) fn add(&mut self, octets: usize) {
        self.set(self.octets.saturating_add(octets));
    }

    /// It stands for so many at most.
    pub(crate) fn limit_to(&mut self, octets: usize) {
        if self.octets > octets {
            self.set(octets);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.limit_to(0);
    }
}

/// What is held of a message that is not whole yet. Nobody can take it out by reading, so such may not fill the budget
/// for good.
#[derive(Default)]
pub(crate) struct Unfinished(Option<Charge>);

impl Unfinished {
    /// For how many octets it is counted.
    #[inline(always)]
    pub(crate) fn octets(&self) -> usize {
        self.0.as_ref().map_or(0, Charge::octets)
    }

    /// What would be counted if `held` octets are there.
    pub(crate) fn steps(&self, held: usize) -> usize {
        let counted = self.octets();
        if held <= STEP {
            0
        } else if held.abs_diff(counted) < STEP {
            counted
        } else {
            held
        }
    }

    /// It is counted for so many octets now.
    pub(crate) fn set(&mut self, account: &Arc<Account>, octets: usize) {
        let charge = self.0.get_or_insert_with(|| Charge::new(account));
        charge.account.note_unfinished(charge.octets, octets);
        charge.set(octets);
    }
}

impl Account {
    fn note_unfinished(&self, before: usize, now: usize) {
        let half = self.half();
        half.unfinished.fetch_add(octets(now) - octets(before), Ordering::Relaxed);
        half.unfinished_holders.fetch_add(i64::from(now > 0) - i64::from(before > 0), Ordering::Relaxed);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(charge) = &self.0 {
            charge.account.note_unfinished(charge.octets, 0);
        }
    }
}

/// What is held of a peer for as long as it is there: its subscriptions and its metadata. Nobody can take that out by
/// reading.
pub(crate) struct Standing(Charge);

impl Standing {
    /// Nothing yet.
    pub(crate) fn new(account: &Arc<Account>) -> Standing {
        Standing(Charge::new(account))
    }

    /// It is counted for so many octets now.
    pub(crate) fn set(&mut self, octets: usize) {
        self.0.account.note_standing(self.0.octets, octets);
        self.0.set(octets);
    }
}

impl Account {
    fn note_standing(&self, before: usize, now: usize) {
        let change = octets(now) - octets(before);
        self.standing.fetch_add(change, Ordering::Relaxed);
        self.half().standing.fetch_add(change, Ordering::Relaxed);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.account.note_standing(self.0.octets, 0);
    }
}

/// Memory from which received messages are sliced, and which is free only when the last of them is gone. No socket
/// holds it, because only the application can give it back, but what sockets may hold together is so much less. Beyond
/// its share of the half, a quarter, nothing is shared, and messages are copied instead.
pub(crate) struct Pinned {
    account: Arc<Account>,
    octets: i64,
}

impl Pinned {
    /// `None` if that would be more than there may be.
    pub(crate) fn new(account: &Arc<Account>, octets: usize) -> Option<Pinned> {
        let pinned = Pinned { account: Arc::clone(account), octets: self::octets(octets) };
        let half = account.half();
        // What is counted in vain goes with its owner.
        let now = half.pinned.fetch_add(pinned.octets, Ordering::Relaxed) + pinned.octets;
        (half.limit == 0 || now <= half.limit / 4).then_some(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.account.budget.unpin(self.account.half(), self.octets);
    }
}

impl Account {
    /// The application keeps messages while it goes on receiving.
    pub(crate) fn note_keeping(&self) {
        self.keeps.store(true, Ordering::Relaxed);
    }

    /// Returns true once that was noted.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }
}

/// Sums of these stay far from the largest, as no machine has so much memory.
fn octets(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX).min(i64::MAX >> 8)
}

#[cfg(all(test, not(modelled)))]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;
    const FREE: usize = ALLOWANCE as usize;

    /// A budget with halves of [`LIMIT`], and so many accounts of receivers.
    fn accounts(number: usize) -> (Arc<Budget>, Vec<Arc<Account>>) {
        let budget = Budget::new(Some(2 * LIMIT as u64));
        let accounts = (0..number).map(|_| Account::new(&budget, BudgetHalf::Receiving)).collect();
        (budget, accounts)
    }

    fn charged(account: &Arc<Account>, octets: usize) -> Charge {
        let mut charge = Charge::new(account);
        charge.set(octets);
        charge
    }

    fn unfinished(account: &Arc<Account>, octets: usize) -> Unfinished {
        let mut unfinished = Unfinished::default();
        unfinished.set(account, octets);
        unfinished
    }

    #[test]
    fn a_shortage_is_told_when_it_begins_and_ends_with_a_quarter_free() {
        let (budget, accounts) = accounts(1);
        let mut charge = charged(&accounts[0], FREE + LIMIT);
        assert!(!accounts[0].is_stopped() && budget.take_begun() == [None, None]);
        charge.add(1);
        assert!(accounts[0].is_stopped());
        assert_eq!(budget.take_begun(), [None, Some(BudgetHalf::Receiving)]);
        charge.set(FREE + LIMIT / 4 * 3 + 1);
        assert!(accounts[0].is_stopped() && !budget.take_ended());
        charge.limit_to(FREE + LIMIT / 4 * 3);
        assert!(!accounts[0].is_stopped());
        assert!(budget.take_ended() && !budget.take_ended());
        assert_eq!(budget.take_begun(), [None, None], "it was told");
    }

    #[test]
    fn what_waits_to_be_sent_takes_nothing_from_what_is_received() {
        let budget = Budget::new(Some(2 * LIMIT as u64));
        let (sending, receiving) =
            (Account::new(&budget, BudgetHalf::Sending), Account::new(&budget, BudgetHalf::Receiving));
        let _queued = charged(&sending, 9 * LIMIT);
        let _received = charged(&receiving, LIMIT);
        assert!(sending.is_stopped() && !receiving.is_stopped());
        assert_eq!(
            (budget.used(BudgetHalf::Sending), budget.used(BudgetHalf::Receiving)),
            ((9 * LIMIT - FREE) as u64, (LIMIT - FREE) as u64)
        );
    }

    #[test]
    fn sockets_that_hold_little_are_not_stopped_by_one_that_holds_much() {
        let (_budget, accounts) = accounts(4);
        let _much = charged(&accounts[0], 3 * LIMIT / 2);
        let within = charged(&accounts[1], FREE);
        assert!(accounts[0].is_stopped() && !accounts[1].is_stopped(), "the allowance is always there");
        drop(within);
        let _most = charged(&accounts[0], LIMIT);
        let _more = charged(&accounts[2], FREE + 1);
        assert!(accounts[2].is_stopped(), "beyond the quarter that is kept for them nobody goes on");
    }

    #[test]
    fn a_quarter_is_kept_for_sockets_that_hold_little() {
        let (_budget, accounts) = accounts(2);
        let _much = charged(&accounts[0], FREE + LIMIT + 1);
        let mut little = charged(&accounts[1], LIMIT / 8);
        assert!(accounts[0].is_stopped() && !accounts[1].is_stopped());
        little.add(1);
        assert!(accounts[1].is_stopped(), "it has its part of the quarter");
    }

    #[test]
    fn a_charge_that_goes_gives_back_what_it_stands_for() {
        let (budget, accounts) = accounts(2);
        let charges: Vec<Charge> = (0..20).map(|_| charged(&accounts[0], LIMIT / 8)).collect();
        let unfinished = unfinished(&accounts[1], LIMIT);
        assert!(accounts[0].is_stopped() && accounts[0].is_most(LIMIT));
        drop((charges, unfinished));
        assert_eq!((budget.used(BudgetHalf::Receiving), accounts[0].held(), accounts[1].held()), (0, 0, 0));
        assert!(!accounts[0].is_stopped());
    }

    #[test]
    fn unfinished_messages_are_counted_in_steps() {
        let (_budget, accounts) = accounts(1);
        let at = |counted, held| unfinished(&accounts[0], counted).steps(held);
        assert_eq!(at(0, STEP), 0);
        assert_eq!(at(0, STEP + 1), STEP + 1);
        assert_eq!(at(STEP + 1, 2 * STEP), STEP + 1);
        assert_eq!(at(STEP + 1, 2 * STEP + 1), 2 * STEP + 1);
        assert_eq!(at(9 * STEP, STEP + 1), STEP + 1);
        assert_eq!(at(9 * STEP, 7), 0);
    }

    #[test]
    fn one_message_alone_may_be_larger_than_the_budget() {
        let (_budget, accounts) = accounts(2);
        let alone = unfinished(&accounts[0], 5 * LIMIT);
        assert!(accounts[0].is_stopped());
        assert!(!accounts[0].is_crowded_beside(5 * LIMIT) && !accounts[0].is_hogged_beside(5 * LIMIT));
        let _beside = charged(&accounts[1], 2 * FREE + 1);
        assert!(accounts[0].is_crowded_beside(5 * LIMIT) && accounts[0].is_hogged_beside(5 * LIMIT));
        drop(alone);
        assert!(!accounts[0].is_stopped());
    }

    #[test]
    fn who_holds_less_than_the_average_is_not_the_largest() {
        let (_budget, accounts) = accounts(1);
        let mut messages: Vec<Unfinished> =
            [1, 4, 6].into_iter().map(|tenths| unfinished(&accounts[0], tenths * (LIMIT + FREE) / 10)).collect();
        assert!(!accounts[0].is_most(LIMIT / 10));
        assert!(accounts[0].is_most(4 * (LIMIT + FREE) / 10) && accounts[0].is_most(6 * LIMIT / 10));
        assert!(accounts[0].is_hogged_beside(4 * LIMIT / 10));
        messages.pop();
        assert!(!accounts[0].is_hogged_beside(4 * LIMIT / 10), "the shortage is over");
    }

    #[test]
    fn what_fills_queues_is_no_fault_of_unfinished_messages() {
        let (_budget, accounts) = accounts(1);
        let _queued = charged(&accounts[0], FREE + 8 * LIMIT / 10);
        let _message = unfinished(&accounts[0], 3 * LIMIT / 10);
        assert!(accounts[0].is_crowded_beside(3 * LIMIT / 10));
        assert!(!accounts[0].is_hogged_beside(3 * LIMIT / 10));
    }

    #[test]
    fn what_stays_as_long_as_peers_do_has_half_of_a_half() {
        let (budget, accounts) = accounts(2);
        let mut peer = Standing::new(&accounts[0]);
        peer.set(LIMIT / 2);
        assert!(!accounts[0].has_room_to_stand(1), "it has its share");
        assert!(
            accounts[1].has_room_to_stand(FREE) && !accounts[1].has_room_to_stand(FREE + 1),
            "an allowance is free"
        );
        assert_eq!(budget.used(BudgetHalf::Receiving), (LIMIT / 2 - FREE) as u64);
        peer.set(LIMIT / 4);
        assert!(accounts[1].has_room_to_stand(LIMIT / 4));
        drop(peer);
        assert!(accounts[1].has_room_to_stand(LIMIT / 2));
        assert_eq!((budget.used(BudgetHalf::Receiving), accounts[0].held()), (0, 0));
    }

    #[test]
    fn pinned_memory_has_a_quarter_of_a_half_and_leaves_three_to_what_is_in_use() {
        let (budget, accounts) = accounts(2);
        let first = Pinned::new(&accounts[0], LIMIT / 8);
        let second = Pinned::new(&accounts[1], LIMIT / 8).expect("there is room");
        assert!(first.is_some() && Pinned::new(&accounts[1], 1).is_none(), "it has its share");
        assert_eq!(budget.used(BudgetHalf::Receiving), LIMIT as u64 / 4, "what was refused counts for nothing");
        let mut queued = charged(&accounts[0], FREE + LIMIT / 4 * 3);
        assert!(!accounts[0].is_stopped() && budget.take_begun() == [None, None]);
        assert_eq!(budget.used(BudgetHalf::Receiving), LIMIT as u64, "it is part of the half");
        queued.add(1);
        assert!(accounts[0].is_stopped() && !accounts[1].is_stopped());
        assert_eq!(budget.take_begun(), [None, Some(BudgetHalf::Receiving)]);
        queued.limit_to(FREE + LIMIT / 16 * 9);
        assert!(!accounts[0].is_stopped() && budget.take_ended(), "a quarter of the three is free");
        drop((first, queued));
        assert!(Pinned::new(&accounts[1], LIMIT / 8).is_some());
        drop(second);
        assert_eq!(budget.used(BudgetHalf::Receiving), 0);
        let limitless = Account::new(&Budget::new(None), BudgetHalf::Receiving);
        assert!(Pinned::new(&limitless, usize::MAX / 2).is_some());
    }

    #[test]
    fn a_shortage_ends_when_enough_of_the_memory_that_messages_share_is_free() {
        let (budget, accounts) = accounts(2);
        let pinned = Pinned::new(&accounts[0], LIMIT / 4).expect("there is room");
        let mut queued = charged(&accounts[0], FREE + LIMIT / 4 * 3 + 1);
        queued.limit_to(FREE + LIMIT / 4 * 3);
        assert!(accounts[0].is_stopped() && !budget.take_ended());
        drop(pinned);
        assert!(!accounts[0].is_stopped() && budget.take_ended());
    }

    #[test]
    fn sockets_that_hold_little_go_on_when_enough_of_the_memory_that_messages_share_is_free() {
        let (budget, accounts) = accounts(2);
        let _queued = charged(&accounts[0], FREE + LIMIT + 1);
        let pinned = Pinned::new(&accounts[0], LIMIT / 4).expect("there is room");
        let _little = charged(&accounts[1], FREE + 1);
        assert!(accounts[1].is_stopped(), "nothing of the other quarter is left");
        drop(pinned);
        assert!(accounts[0].is_stopped() && !accounts[1].is_stopped() && budget.take_ended());
    }

    #[test]
    fn without_a_limit_nothing_is_ever_over() {
        let budget = Budget::new(None);
        let account = Account::new(&budget, BudgetHalf::Sending);
        let _much = charged(&account, usize::MAX / 2);
        assert!(!account.is_stopped() && budget.take_begun() == [None, None]);
    }
}
