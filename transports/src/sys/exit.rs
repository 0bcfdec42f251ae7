//! The end of the process: being told of it, knowing which thread it happens on, and a last line on standard error.

use std::io;

/// Has `handler` called when the process ends by a return from `main` or by `exit`, after those that were registered
/// later.
///
/// It runs on the thread that ends the process, when the thread-locals of that thread are gone, while other threads run
/// on and may hold any lock. In a forked child it is called as well.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) where this code belongs to a library that a program loads: the host
/// decides how its process ends, and may have unloaded us by then. Otherwise what the C library said.
#[cfg(unix)]
pub fn at_exit(handler: extern "C" fn()) -> io::Result<()> {
    if !is_in_main_program(handler as *const libc::c_void) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: the handler is a plain function of the program itself, which is never unloaded.
    match unsafe { libc::atexit(handler) } {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// Has `handler` called when the process ends: not on this system.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn at_exit(handler: extern "C" fn()) -> io::Result<()> {
    let _ = handler;
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether an address lies in the program that was started, and not in a library it has loaded.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_in_main_program(address: *const libc::c_void) -> bool {
    // SAFETY: asks for a word of the process's auxiliary vector: the address of the main program's headers.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::c_void;
    match (base_of(address), base_of(program)) {
        (Some(here), Some(program)) => here == program,
        // A statically linked program has nothing else in it.
        (None, _) | (_, None) => true,
    }
}

/// Whether an address lies in the program that was started; this system is not asked.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn is_in_main_program(_address: *const libc::c_void) -> bool {
    true
}

/// Where the object that holds an address was loaded.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn base_of(address: *const libc::c_void) -> Option<usize> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: `info` is a live value that the call fills; the address is looked up and not followed.
    let found = unsafe { libc::dladdr(address, &raw mut info) };
    (found != 0).then_some(info.dli_fbase as usize)
}

/// A number that tells the threads of this process apart while they live. It uses no thread-local.
#[cfg(unix)]
pub fn thread_number() -> u64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::pthread_self() as u64 }
}

/// A number for each thread; here they all have the same.
#[cfg(not(unix))]
pub fn thread_number() -> u64 {
    0
}

/// Writes a line to standard error without a lock or a thread-local. What cannot be written is nobody's to know.
#[cfg(unix)]
pub fn write_to_stderr(line: &str) {
    let mut left = line.as_bytes();
    while !left.is_empty() {
        // SAFETY: the pointer and the length describe memory that lives as long as the call.
        let written = unsafe { libc::write(libc::STDERR_FILENO, left.as_ptr().cast(), left.len()) };
        match usize::try_from(written) {
            Ok(count) if count > 0 => left = left.get(count..).unwrap_or_default(),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Writes a line to standard error.
#[cfg(not(unix))]
pub fn write_to_stderr(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_has_loaded_is_not_the_program() {
        assert!(is_in_main_program(base_of as *const libc::c_void));
        assert!(!is_in_main_program(libc::getpid as *const libc::c_void));
    }

    #[test]
    fn threads_that_live_at_once_have_different_numbers() {
        let other = std::thread::spawn(thread_number).join().unwrap();
        assert_eq!(thread_number(), thread_number());
        assert_ne!(thread_number(), other);
    }
}
