//! Which processors a thread may run on.

use std::io;

/// Lets the calling thread run on the given processors only, counted from 0.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the list is empty, names a processor beyond what the system's set
/// can hold, or none that exists; [`Unsupported`](io::ErrorKind::Unsupported) outside Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn set_thread_affinity(processors: &[usize]) -> io::Result<()> {
    let limit = 8 * size_of::<libc::cpu_set_t>();
    if processors.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the list of processors is empty; name at least one"));
    }
    if let Some(processor) = processors.iter().find(|&&processor| processor >= limit) {
        let message = format!("processor {processor} cannot be asked for; 0 to {} can", limit - 1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: `cpu_set_t` is an array of integers, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &processor in processors {
        // SAFETY: `CPU_SET` writes bit `processor` of `set`, and the check above keeps it below the set's size.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: the pointer and the size describe `set`, which is only read; 0 means the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the calling thread run on the given processors only, counted from 0.
///
/// # Errors
///
/// [`Unsupported`](io::ErrorKind::Unsupported): this system has no such call.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn set_thread_affinity(_processors: &[usize]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot bind a thread to processors"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn allowed() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    }

    #[test]
    fn a_thread_can_be_bound_to_one_processor() {
        let first = allowed().split(['-', ',']).next().unwrap().to_owned();
        std::thread::spawn(move || {
            set_thread_affinity(&[first.parse().unwrap()]).unwrap();
            assert_eq!(allowed(), first);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn impossible_sets_are_refused() {
        for bad in [&[][..], &[usize::MAX], &[0, 1 << 20], &[1023]] {
            assert_eq!(set_thread_affinity(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
