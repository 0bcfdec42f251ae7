//! Bad days: what happens when peers die, stall, lie or flood, when descriptors run out, when sockets are closed under
//! blocked calls, and when the process forks. With real processes where the story has them.
//!
//! `WIREMESH_FULL=1` runs the large counts; the default is about a tenth.
//!
//! | file | story |
//! |---|---|
//! | `slow_reader.rs` | a sender closes while its receiver stands still |
//! | `killed.rs` | peers die in the middle of a message |
//! | `restarted.rs` | the binding side comes back, again and again |
//! | `paused.rs` | peers stand still and do not die |
//! | `hostile.rs` | strangers send anything |
//! | `starved.rs` | no descriptors |
//! | `unfinished.rs` | messages that never end, and a budget for them |
//! | `signals.rs` | signals and descriptors of the program around |
//! | `churn.rs` | ten thousand times everything, and nothing is left behind |
//! | `closing.rs`, `linger.rs` | closing under blocked calls; what closing delivers |
//! | `held.rs` | streams that hold messages up |
//! | `refusals.rs` | errors that say what is allowed |
//! | `forked.rs`, `ending.rs` | fork, and the end of a process |
//! | `law.rs` | the accounting law against the receivers' own counts |
//! | `stuck.rs` | nothing spins, and nothing sleeps with work left |
//! | `crowded.rs` | other threads compute on all processors |
//! | `engine_only.rs` | the way of working without nested polls |

mod support;

#[path = "bad_days/churn.rs"]
mod churn;
#[path = "bad_days/closing.rs"]
mod closing;
#[path = "bad_days/crowded.rs"]
mod crowded;
#[path = "bad_days/ending.rs"]
mod ending;
#[path = "bad_days/engine_only.rs"]
mod engine_only;
#[path = "bad_days/forked.rs"]
mod forked;
#[path = "bad_days/held.rs"]
mod held;
#[path = "bad_days/hostile.rs"]
mod hostile;
#[path = "bad_days/killed.rs"]
mod killed;
#[path = "bad_days/law.rs"]
mod law;
#[path = "bad_days/linger.rs"]
mod linger;
#[path = "bad_days/paused.rs"]
mod paused;
#[path = "bad_days/refusals.rs"]
mod refusals;
#[path = "bad_days/restarted.rs"]
mod restarted;
#[path = "bad_days/signals.rs"]
mod signals;
#[path = "bad_days/slow_reader.rs"]
mod slow_reader;
#[path = "bad_days/starved.rs"]
mod starved;
#[path = "bad_days/unfinished.rs"]
mod unfinished;

#[path = "bad_days/stuck.rs"]
mod stuck;

use support::child;

/// Not a test: what the child processes of the others do.
#[test]
fn role() {
    child::act(|name, arguments| match name {
        "pusher" => slow_reader::pusher(arguments),
        "dealer" => slow_reader::dealer(arguments),
        "steady" => killed::steady(arguments),
        "huge" => killed::send_huge(arguments),
        "half" => killed::send_half(arguments),
        "huge-reader" => killed::huge_reader(arguments),
        "binder" => restarted::binder(arguments),
        "server" => hostile::server(arguments),
        "attacker" => hostile::attacker(arguments),
        "churn" => churn::role(arguments),
        "starved" => starved::starved(arguments),
        "crowded" => starved::crowded(arguments),
        "caller" => starved::caller(arguments),
        "forker" => forked::forker(arguments),
        "shared-forker" => forked::shared_forker(arguments),
        "ending" => ending::role(arguments),
        "publisher" => restarted::publisher(arguments),
        "sigpipe" => signals::sigpipe(arguments),
        "alarms" => signals::alarms(arguments),
        "worker" => paused::worker(arguments),
        "publisher-of-a-stopped-sub" => paused::publisher_of_a_stopped_sub(arguments),
        "stopped-sub" => paused::stopped_sub(arguments),
        _ => panic!("there is no role `{name}`"),
    });
}
