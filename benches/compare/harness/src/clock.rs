//! Wall time, processor time and resident memory of this process, and the few settings that make them comparable.

use std::time::Instant;

/// One reading of wall and processor time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    wall: Instant,
    cpu: f64,
}

impl Mark {
    /// Reads both clocks.
    pub fn now() -> Mark {
        Mark { wall: Instant::now(), cpu: cpu_seconds() }
    }

    /// The earlier of two readings.
    pub fn earlier(self, other: Mark) -> Mark {
        if other.wall < self.wall { other } else { self }
    }

    /// The later of two readings.
    pub fn later(self, other: Mark) -> Mark {
        if other.wall > self.wall { other } else { self }
    }

    /// Wall seconds from this reading to `later`.
    pub fn seconds_to(&self, later: &Mark) -> f64 {
        later.wall.duration_since(self.wall).as_secs_f64()
    }

    /// User and system seconds this process used from this reading to `later`.
    pub fn cpu_to(&self, later: &Mark) -> f64 {
        later.cpu - self.cpu
    }
}

/// User and system time used by this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a writable rusage, and all zeroes is a valid value of it even if the call should fail.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Resident memory of this process in bytes; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    // SAFETY: sysconf reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(4096)
}

/// Raises the limit of open descriptors to the highest this process may have.
pub fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid rlimit; a failure leaves the limit as it was, and opening will say so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Lets short sleeps of this thread end on time; the kernel's default slack is 50 microseconds.
pub fn sharpen_sleep() {
    // SAFETY: sets one number of the calling thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong);
    }
}

/// Keeps the calling thread on one core. Left alone, the scheduler sometimes puts both ends of a ping-pong on one core,
/// where a round trip costs a twentieth of one between cores: no two figures could be compared.
pub fn stay_on(core: usize) {
    // SAFETY: the set is a plain bit field, all zeroes is the empty one; `CPU_SET` ignores cores it has no bit for.
    // Where there is no such core the call fails and the thread stays free.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if core < libc::CPU_SETSIZE as usize {
            libc::CPU_SET(core, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
        }
    }
}
