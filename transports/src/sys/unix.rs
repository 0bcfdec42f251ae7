//! The Unix calls that neither `std` nor `socket2` offers.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ReadBuf;
use crate::contract::Credentials;

/// Receives what a socket has, at most what fits, straight into `buf`, and returns how many bytes were added. Retries
/// when a signal interrupts.
///
/// # Errors
///
/// What `recv` said.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    loop {
        let room = buf.unfilled();
        // SAFETY: the pointer and the length describe memory that we hold alone; the kernel writes at most that many
        // bytes to it.
        let result = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
        if let Ok(count) = usize::try_from(result) {
            // SAFETY: the kernel has just written `count` bytes to the start of the unfilled part.
            unsafe { buf.assume_filled(count) };
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Asks how many written bytes the peer's system has not acknowledged.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one integer, and the pointer is to a live one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Asks how many written bytes the peer's system has not acknowledged; this system is not asked.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn unacknowledged(_socket: BorrowedFd<'_>) -> usize {
    0
}

/// Asks whether a tcp peer's system has not answered what was sent again, or a probe of its closed window. Systems
/// answer at most one probe in half a second, and the first ones come faster: one of these alone says nothing.
#[cfg(target_os = "linux")]
pub(crate) fn is_unanswered(socket: BorrowedFd<'_>) -> bool {
    // SAFETY: `tcp_info` is plain numbers, for which all zeroes are a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `info`, of which any bytes are a valid value.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    let probed = info.tcpi_probes > 1 || (info.tcpi_probes == 1 && info.tcpi_backoff > 2);
    result == 0 && (info.tcpi_retransmits > 0 || probed)
}

/// Asks whether a tcp peer's system has not answered; this system is not asked.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_unanswered(_socket: BorrowedFd<'_>) -> bool {
    false
}

/// The user whose rights this process has.
pub(crate) fn user() -> u32 {
    // SAFETY: the call takes nothing, touches no memory and always succeeds.
    unsafe { libc::geteuid() }
}

/// Asks who is at the other end of a Unix stream.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Option<Credentials> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `peer`, of which any bytes are a valid value.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    // Without a peer the kernel answers with process 0 and the overflow user.
    let known = result == 0 && length as usize == size_of::<libc::ucred>() && peer.uid != u32::MAX;
    // Process 0 is one that our process-id namespace cannot see.
    let pid = u32::try_from(peer.pid).ok().filter(|&pid| pid != 0);
    known.then_some(Credentials { uid: peer.uid, gid: peer.gid, pid })
}

/// Asks who is at the other end of a Unix stream.
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Option<Credentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both pointers are to live integers of the right type.
    let result = unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) };
    (result == 0).then_some(Credentials { uid, gid, pid: None })
}

/// Asks who is at the other end of a Unix stream; this system does not tell.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
)))]
pub(crate) fn peer_credentials(_socket: BorrowedFd<'_>) -> Option<Credentials> {
    None
}

/// Returns the number of a network interface, for the zone of a link-local address.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a live string with a terminator.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Lists the IP addresses of a network interface, with port 0, IPv4 first; empty if there is no such interface.
pub(crate) fn interface_addresses(name: &str) -> io::Result<Vec<SocketAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` is a live pointer that the call sets.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or an entry of the list, which lives until `freeifaddrs` below.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: `ifa_name` of an entry is a string with a terminator and lives as long as the list.
        let entry_name = unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) };
        if entry_name.to_bytes() == name.as_bytes() {
            // SAFETY: `ifa_addr` of an entry is null or an address of the size that its family has.
            addresses.extend(unsafe { socket_address(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: `first` is the list that `getifaddrs` made, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

/// Copies an IP address out of the system's form.
///
/// # Safety
///
/// `address` must be null or point to an address as large as its family says.
unsafe fn socket_address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: promised by the caller.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the caller promises that an address of this family has this size; it need not be aligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, 0).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(SocketAddrV6::new(Ipv6Addr::from(v6.sin6_addr.s6_addr), 0, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Gives a file another name, if nothing has that.
///
/// # Errors
///
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something has it, otherwise what the system said.
pub(crate) fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let (old, new) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
        let (folder, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
        // SAFETY: both names are live strings with terminators.
        let result = unsafe { libc::syscall(libc::SYS_renameat2, folder, old.as_ptr(), folder, new.as_ptr(), flags) };
        let error = io::Error::last_os_error();
        // Not every file system can.
        if !(result != 0 && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))) {
            return if result == 0 { Ok(()) } else { Err(error) };
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// An exclusive lock on a folder, shared by all who ask through this type. It leaves no file behind.
#[derive(Debug)]
pub(crate) struct FolderLock {
    folder: File,
}

/// How an attempt to lock a folder ended.
#[derive(Debug)]
pub(crate) enum FolderLocking {
    Locked(#[expect(dead_code, reason = "held for its drop")] FolderLock),
    /// Somebody else held it all the time.
    Busy,
    /// This folder cannot be locked: it may not be opened for reading, or its file system has no locks.
    Impossible,
}

impl FolderLock {
    /// Tries to lock a folder, for as long as `patience`.
    ///
    /// # Errors
    ///
    /// If there is no descriptor for it now.
    pub(crate) fn acquire(folder: &Path, patience: Duration) -> io::Result<FolderLocking> {
        // A pipe, which is no folder, would be waited for.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK).open(folder);
        let folder = match opened {
            Ok(folder) => folder,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => return Err(error),
            Err(_) => return Ok(FolderLocking::Impossible),
        };
        let deadline = Instant::now() + patience;
        loop {
            // SAFETY: the call concerns a descriptor that we hold open.
            if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Ok(FolderLocking::Locked(FolderLock { folder }));
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock if Instant::now() >= deadline => return Ok(FolderLocking::Busy),
                io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(1)),
                io::ErrorKind::Interrupted => {}
                _ => return Ok(FolderLocking::Impossible),
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing alone would not do: a child forked meanwhile holds the same open file and with it the lock.
        //
        // SAFETY: the call concerns a descriptor that we hold open.
        unsafe { libc::flock(self.folder.as_raw_fd(), libc::LOCK_UN) };
    }
}
