//! Models of what must never lose a wake, explored by loom: every interleaving of a few threads up to a number of
//! preemptions, and every value the memory model lets a load return.
//!
//! The files under test are the shipped ones, included here over loom's primitives in place of the system's. What they
//! are embedded in (a poll, a seat, a queue under its lock) is small here and says what it stands for. Beside each
//! model stand weakened mutants that must fail: they show that the model would notice.

#[path = "loom/parker.rs"]
mod parker;
#[path = "loom/sync.rs"]
mod sync;

#[path = "../../src/budget.rs"]
#[allow(dead_code, unreachable_pub, reason = "the model uses what it needs of it, and nothing is exported")]
mod budget;
#[path = "../../src/queue/credit.rs"]
mod credit;
#[path = "../../src/queue/intake.rs"]
mod intake;
#[path = "../../src/engine/lease.rs"]
#[allow(dead_code, reason = "the models use what they need of it")]
mod lease;
#[path = "../../src/engine/signal.rs"]
mod signal;
#[path = "../../src/engine/waiters.rs"]
#[expect(dead_code, reason = "the models are interested in messages and room only")]
mod waiters;

#[path = "loom/explore.rs"]
mod explore;
#[path = "loom/hand_over.rs"]
mod hand_over;
#[path = "loom/mutants.rs"]
mod mutants;
#[path = "loom/queue_credit.rs"]
mod queue_credit;
#[path = "loom/read_gate.rs"]
mod read_gate;
#[path = "loom/seat.rs"]
mod seat;
#[path = "loom/shortage.rs"]
mod shortage;
#[path = "loom/unordered.rs"]
mod unordered;
#[path = "loom/waiter_list.rs"]
mod waiter_list;
