//! A frame appended to a buffer with as few instructions as that takes, if it is short: it happens once per message
//! sent.
#![expect(unsafe_code, reason = "the octets go where the buffer has room and no octets yet")]

use crate::message::wire;

/// Appends a frame; `false`, and nothing is appended, where the buffer has no room left for it.
#[inline(always)]
pub(super) fn append(buffer: &mut Vec<u8>, flags: u8, body: &[u8]) -> bool {
    let Ok(short) = u8::try_from(body.len()) else { return append_long(buffer, flags, body) };
    let (at, size) = (buffer.len(), wire::SHORT_HEADER + body.len());
    if buffer.capacity() - at < size {
        return false;
    }
    // SAFETY: `at` is within the allocation, and behind it is room for two octets and the body, as was just checked.
    // The body is another allocation, because the buffer is borrowed for writing. Both octets and the whole body are
    // written before the length says so.
    unsafe {
        let place = buffer.as_mut_ptr().add(at);
        place.cast::<[u8; wire::SHORT_HEADER]>().write([flags, short]);
        copy_short(body, place.add(wire::SHORT_HEADER));
        buffer.set_len(at + size);
    }
    true
}

#[inline(always)]
fn append_long(buffer: &mut Vec<u8>, flags: u8, body: &[u8]) -> bool {
    let (header, size) = wire::header(flags, body.len());
    let room = (buffer.capacity() - buffer.len()).checked_sub(size).is_some_and(|room| room >= body.len());
    if room {
        buffer.extend_from_slice(&header[..size]);
        buffer.extend_from_slice(body);
    }
    room
}

/// Copies a body of at most 255 octets to `place`: two copies of a fixed size which overlap as far as they must,
/// instead of a call that finds out the size again.
///
/// # Safety
/// `place` is valid for writes of as many octets as `body` has, and does not overlap it.
#[inline(always)]
unsafe fn copy_short(body: &[u8], place: *mut u8) {
    macro_rules! twice {
        ($size:literal) => {
            if let (Some(head), Some(tail)) = (body.first_chunk::<$size>(), body.last_chunk::<$size>()) {
                // SAFETY: the body has at least `$size` octets, so both lie within what `place` is valid for.
                unsafe {
                    place.cast::<[u8; $size]>().write(*head);
                    place.add(body.len() - $size).cast::<[u8; $size]>().write(*tail);
                }
                return;
            }
        };
    }
    match body.len() {
        0..=3 => {}
        4..=7 => twice!(4),
        8..=16 => twice!(8),
        17..=32 => twice!(16),
        33..=64 => twice!(32),
        65..=128 => twice!(64),
        _ => twice!(128),
    }
    for (index, octet) in body.iter().take(3).enumerate() {
        // SAFETY: `index` is less than the length of the body.
        unsafe { place.add(index).write(*octet) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whole_and_nothing_behind_it_is_touched() {
        for length in 0..=600 {
            let body: Vec<u8> = (0..length).map(|octet| octet as u8 ^ 0x5A).collect();
            let (header, size) = wire::header(wire::MORE, length);
            let mut buffer = Vec::with_capacity(2 * (length + wire::MAX_HEADER));
            buffer.push(9);
            assert!(append(&mut buffer, wire::MORE, &body));
            assert_eq!(buffer, [&[9], &header[..size], &body].concat());
        }
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer_alone() {
        let mut buffer = Vec::with_capacity(16);
        let body = vec![1; buffer.capacity() - 1];
        assert!(!append(&mut buffer, 0, &body));
        assert!(append(&mut buffer, 0, &body[1..]));
        assert!(!append(&mut buffer, 0, &[]));
        assert_eq!(buffer.len(), buffer.capacity());
        assert!(!append(&mut Vec::with_capacity(300), 0, &[0; 300]));
    }
}
