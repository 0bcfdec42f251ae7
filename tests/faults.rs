//! Faults that a review from outside found. Each was seen with a program against the public API before it was mended,
//! and stands here beside two relatives of its kind.
//!
//! | file | kind of fault |
//! |---|---|
//! | `announced.rs` | no fault: what the cures tell each other on the wire |
//! | `at_its_mark.rs` | a publisher whose application does not receive, and what it is sent |
//! | `budget.rs` | sockets that stop each other by the octets they hold |
//! | `causes.rs` | attempts that fail, and nobody says why |
//! | `crowds.rs` | connections without bound |
//! | `dropped.rs` | sockets that are closed while their peer is down |
//! | `inside.rs` | contexts and sockets that end within what an engine calls |
//! | `ending.rs` | messages that the end of a process loses |
//! | `ends.rs` | both ends of an inproc link end at once |
//! | `forks.rs` | processes that are forked before the first socket |
//! | `frames.rs` | as `untaken.rs`, by the number of frames |
//! | `identity.rs` | who holds a routing id, and how often a peer is there |
//! | `texts.rs` | texts that said nothing, said it twice, or said what is not so |
//! | `gates.rs` | code of a transport that uses the sockets it works for |
//! | `handling.rs` | messages, ids and peers that could not be handled, or were somebody else's |
//! | `first_steps.rs` | loops that end in silence, endpoints that stay in use |
//! | `waits.rs` | waits that are too long, and wakes that nobody needs |
//! | `stopped.rs` | a process that did not run for a while judges its peers by time |
//! | `settings.rs` | options that threads change at once |
//! | `turns.rs` | sockets that share an engine thread, and one is busy |
//! | `upstream.rs` | what threads send upstream within a process, and its end |
//! | `requests.rs` | an answer that came late was taken for another's |
//! | `hooks.rs` | bodies whose drop uses the socket, where it lets them go unsent or unreceived |
//! | `names.rs` | names whose server does not answer |
//! | `nobody_receives.rs` | what is sent to sockets on which nobody receives |
//! | `order.rs` | order across reconnects, and the right moment to say READY |
//! | `late.rs` | calls within the end of a thread |
//! | `left.rs` | what peers that are gone have left unread, without bound |
//! | `line.rs` | uses of one endpoint in a row that wait for one another |
//! | `uses.rs` | one endpoint connected very many times |
//! | `walks.rs` | very many endpoints and peers, and one of them comes or goes |
//! | `untaken.rs` | a message that its peer will not take |
//! | `untold.rs` | a subscription that its publisher will not take |
//! | `outage.rs` | when the clients of a server that was gone for a second are back |
//! | `old_peers.rs` | peers that close without a word |
//! | `foreign.rs` | peers that are not ours, and a little odd |
//! | `toggled.rs` | subscriptions that change all the time |
//! | `pauses.rs` | a link that is not read any more, though its receiver has caught up |
//! | `silence.rs` | who does not read is taken for dead |
//! | `standing.rs` | what is held for as long as peers are there, without bound |
//! | `pinned.rs` | memory that is kept for something else than what is in it |

mod support;

#[path = "faults/announced.rs"]
mod announced;
#[path = "faults/at_its_mark.rs"]
mod at_its_mark;
#[path = "faults/budget.rs"]
mod budget;
#[path = "faults/causes.rs"]
mod causes;
#[path = "faults/crowds.rs"]
mod crowds;
#[path = "faults/dropped.rs"]
mod dropped;
#[path = "faults/ending.rs"]
mod ending;
#[path = "faults/ends.rs"]
mod ends;
#[path = "faults/first_steps.rs"]
mod first_steps;
#[path = "faults/forks.rs"]
mod forks;
#[path = "faults/frames.rs"]
mod frames;
#[path = "faults/gates.rs"]
mod gates;
#[path = "faults/handling.rs"]
mod handling;
#[path = "faults/hooks.rs"]
mod hooks;
#[path = "faults/identity.rs"]
mod identity;
#[path = "faults/inside.rs"]
mod inside;
#[path = "faults/late.rs"]
mod late;
#[path = "faults/left.rs"]
mod left;
#[path = "faults/line.rs"]
mod line;
#[path = "faults/order.rs"]
mod order;
#[path = "faults/outage.rs"]
mod outage;
#[path = "faults/untaken.rs"]
mod untaken;
#[path = "faults/untold.rs"]
mod untold;

#[path = "faults/old_peers.rs"]
mod old_peers;
#[path = "faults/requests.rs"]
mod requests;
#[path = "faults/uses.rs"]
mod uses;
#[path = "faults/waits.rs"]
mod waits;
#[path = "faults/walks.rs"]
mod walks;

#[path = "faults/stopped.rs"]
mod stopped;
#[path = "faults/toggled.rs"]
mod toggled;
#[path = "faults/told.rs"]
mod told;

#[path = "faults/settings.rs"]
mod settings;

#[path = "faults/turns.rs"]
mod turns;
#[path = "faults/upstream.rs"]
mod upstream;

#[path = "faults/foreign.rs"]
mod foreign;
#[path = "faults/listeners.rs"]
mod listeners;
#[path = "faults/names.rs"]
mod names;
#[path = "faults/nobody_receives.rs"]
mod nobody_receives;
#[path = "faults/pauses.rs"]
mod pauses;
#[path = "faults/pinned.rs"]
mod pinned;
#[path = "faults/silence.rs"]
mod silence;
#[path = "faults/standing.rs"]
mod standing;
#[path = "faults/texts.rs"]
mod texts;

use support::child;

/// Not a test: what the child processes of the others do.
#[test]
fn role() {
    child::act(|name, arguments| match name {
        "dropped" => dropped::role(arguments),
        "short" => dropped::short(arguments),
        "ending" => ending::role(arguments),
        "late" => late::role(),
        "last-words" => texts::role(arguments),
        "rebinder" => first_steps::rebinder(arguments),
        "stopped-receiver" => stopped::receiver(arguments),
        "stopped-askers" => stopped::askers(arguments),
        "stopped-crowded" => stopped::crowded(arguments),
        "stopped-patient" => stopped::patient(arguments),
        "stopped-caller" => stopped::caller(arguments),
        "keeper" => pinned::keeper(arguments),
        "sparse-keeper" => pinned::sparse_keeper(arguments),
        "large-keeper" => pinned::large_keeper(arguments),
        "newest-keeper" => pinned::newest_keeper(arguments),
        "fork-binders" => forks::binders(arguments),
        "once-large" => pinned::once_large(arguments),
        "upstream" => at_its_mark::upstream(arguments),
        "reader" => silence::reader(arguments),
        "flooder" => turns::flooder(arguments),
        "toggler" => toggled::toggler(arguments),
        "burner" => turns::burner(arguments),
        "idler" => turns::idler(arguments),
        "way-maker" => turns::way_maker(arguments),
        _ => panic!("there is no role `{name}`"),
    });
}
