//! An allocator without system calls and without locks: it gives from one piece and takes nothing back.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Room {
    octets: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

/// More than a test needs. What is not used takes no memory.
const SIZE: usize = 1 << 30;

// SAFETY: each octet is given away once, as `used` only grows, so no two threads get the same.
unsafe impl Sync for Room {}

impl Room {
    pub(crate) const fn new() -> Room {
        Room { octets: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    /// Has the system give the memory for what is asked for next: later it would do so in the midst of what is to be
    /// quick, two mebibytes at a time where it has huge pages.
    pub(crate) fn furnish(&self, octets: usize) {
        let used = self.used.load(Ordering::Relaxed);
        for offset in (used..used.saturating_add(octets).min(SIZE)).step_by(4096) {
            // SAFETY: within the array, and given to nobody yet: only the caller's thread runs, as it must.
            unsafe { self.octets.get().cast::<u8>().add(offset).write_volatile(0) };
        }
    }
}

// SAFETY: what is given away lies within `octets`, is aligned, as the address is rounded up, and is nobody else's for
// ever.
unsafe impl GlobalAlloc for Room {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = layout.size() + layout.align();
        let start = self.used.fetch_add(taken, Ordering::Relaxed);
        if start + taken > SIZE {
            return std::ptr::null_mut();
        }
        // SAFETY: `start` is within the array, and so is the end of what is taken.
        let place = unsafe { self.octets.get().cast::<u8>().add(start) };
        let skip = place.align_offset(layout.align());
        // SAFETY: less than the alignment is skipped, which was taken beside the size.
        unsafe { place.add(skip) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
