//! Requests with time limits against servers on libzmq: the answer to what was given up is not taken for the next
//! one's.

use super::body::given;
use super::ends::{End, LONG, Ours, Theirs};
use super::peer::Peer;
use std::time::Duration;
use wiremesh::SocketKind::*;

#[test]
fn a_late_answer_of_a_libzmq_rep_is_not_taken_for_the_next() {
    let Some(peer) = Peer::start() else { return };
    for (number, endpoint) in ["tcp://127.0.0.1:*", "ipc://*"].into_iter().cycle().take(4).enumerate() {
        let us = Ours::new(Req);
        let name = format!("rep{number}");
        let them = Theirs::new(&peer, &name, Rep);
        if number < 2 {
            them.connect(&us.bind(endpoint));
        } else {
            us.connect(&them.bind(endpoint));
        }
        us.socket().wait_for_peers(1, LONG).expect("it comes");
        let error = us.request("first", Duration::from_millis(200)).expect_err("not answered");
        assert!(error.is_timed_out(), "{error}");
        std::thread::scope(|scope| {
            let socket = us.socket();
            let asking = scope.spawn(|| socket.request("second", LONG));
            them.expect(&given(["first"]));
            them.send(&given(["late"]));
            them.expect(&given(["second"]));
            them.send(&given(["in time"]));
            assert_eq!(asking.join().expect("no panic").expect("an answer"), "in time");
        });
    }
}
