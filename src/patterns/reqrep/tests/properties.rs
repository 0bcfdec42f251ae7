//! What holds for any request. `tests/model` runs it.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_request_is_either_taken_with_its_envelope_or_left(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 1..8)) {
        let mut replies = Replies::default();
        let request: Message = parts.iter().cloned().collect();
        let delimiter = parts.iter().position(Vec::is_empty);
        match replies.accept(3, request) {
            Ok(body) => {
                let at = delimiter.expect("has a delimiter");
                let Pending { peer, envelope, .. } = replies.take().expect("pending");
                prop_assert_eq!(peer, 3);
                prop_assert_eq!(envelope.len(), at + 1);
                let wanted: Message = parts[at + 1..].iter().cloned().collect();
                prop_assert_eq!(body, wanted);
            }
            Err(refused) => {
                prop_assert!(delimiter.is_none_or(|at| at + 1 == parts.len()));
                prop_assert_eq!(refused, parts.into_iter().collect::<Message>());
            }
        }
    }
}
