//! What holds for any messages, however they are written and cut. `tests/model` runs it.

use super::*;
use crate::queue::chunk::Appender;
use proptest::prelude::*;

fn frames(sizes: &[usize], seed: u8) -> Message {
    sizes.iter().enumerate().map(|(i, size)| vec![seed.wrapping_add(i as u8); *size]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_pushed_is_written_in_order_and_counted(
        messages in prop::collection::vec(prop::collection::vec(prop_oneof![0usize..300, 8000usize..9000, 60_000usize..70_000], 1..4), 1..20),
        call in 1usize..200_000,
    ) {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        let sent: Vec<Message> = messages.iter().enumerate().map(|(i, sizes)| frames(sizes, i as u8)).collect();
        for message in &sent {
            outbox.push(&[], message, &mut pool);
        }
        prop_assert_eq!(outbox.queued(), sent.len());
        let mut wire = Vec::new();
        let written = write(&mut outbox, &mut pool, &mut wire, usize::MAX, call);
        prop_assert_eq!(written, sent.len());
        prop_assert!(outbox.is_idle());
        prop_assert_eq!(outbox.waiting_bytes(), 0);
        prop_assert_eq!(drain(vec![Bytes::from(wire)]), sent);
    }

    #[test]
    fn after_a_lost_connection_the_cut_message_goes_out_whole_and_once(
        messages in prop::collection::vec(prop::collection::vec(prop_oneof![0usize..300, 8000usize..9000, 60_000usize..70_000], 1..4), 1..20),
        cut in 0usize..400_000,
        call in 1usize..100_000,
    ) {
        let (mut outbox, mut pool) = (Outbox::default(), Pool::new());
        let sent: Vec<Message> = messages.iter().enumerate().map(|(i, sizes)| frames(sizes, i as u8)).collect();
        for message in &sent {
            outbox.push(&[], message, &mut pool);
        }
        outbox.push_command(b"\x04\x02\x01X");
        let mut first = Vec::new();
        let mut counted = write(&mut outbox, &mut pool, &mut first, cut, call);
        counted += outbox.rewind();
        // The first peer read whole messages only.
        let mut whole = 0;
        let mut walk = Walk::new();
        while walk.advance(|i| (i == 0).then_some(&first[..]), (0, first.len())) == Some(true) { whole += 1; }
        prop_assert_eq!(counted, whole);
        prop_assert_eq!(outbox.queued(), sent.len() - whole);
        let mut second = Vec::new();
        let rest = write(&mut outbox, &mut pool, &mut second, usize::MAX, call);
        prop_assert_eq!(rest, sent.len() - whole);
        prop_assert_eq!(drain(vec![Bytes::from(second)]), &sent[whole..]);
        prop_assert_eq!(outbox.waiting_bytes(), 0);
    }

    #[test]
    fn a_reader_in_the_same_process_gets_what_was_pushed(
        messages in prop::collection::vec(prop::collection::vec(prop_oneof![0usize..300, 8000usize..9000], 1..4), 1..40),
    ) {
        let (mut outbox, mut pool, mut chunk) = (Outbox::default(), Pool::new(), Appender::new());
        let mut sent = Vec::new();
        for (i, sizes) in messages.iter().enumerate() {
            let message = frames(sizes, i as u8);
            if sizes.len() == 1 && sizes[0] < 256 && i % 3 > 0 {
                let (header, size) = wire::header(0, sizes[0]);
                let extent = chunk.append(&[&header[..size], message.first()]).expect("fits");
                outbox.push_extent(&extent, &mut pool);
            } else {
                outbox.push(&[], &message, &mut pool);
            }
            sent.push(message);
        }
        let taken = outbox.take_all();
        prop_assert_eq!(taken.messages, sent.len());
        prop_assert_eq!(drain(taken.pieces.into_iter().map(Piece::into_bytes).collect()), sent);
    }
}
